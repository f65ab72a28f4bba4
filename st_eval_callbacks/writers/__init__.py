"""What is written beside the checkpoints: the results of a run, one table an evaluator, predictions, the model card."""

from __future__ import annotations
