"""What is written beside the checkpoints: a run's results, a table an evaluator, predictions, the model card."""

from __future__ import annotations
