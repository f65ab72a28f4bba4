"""Evaluation callbacks for sentence-transformers training."""

from __future__ import annotations

__version__ = "0.1.0"

from .callback import EvaluatorCallback
from .checkpoints import last_checkpoint
from .history import EvalRecord, History
from .measures import Measure
from .schedule import Interval
from .tasks import EvaluationError, Scheduled

__all__ = [
    "EvalRecord",
    "EvaluationError",
    "EvaluatorCallback",
    "History",
    "Interval",
    "Measure",
    "Scheduled",
    "__version__",
    "last_checkpoint",
]
