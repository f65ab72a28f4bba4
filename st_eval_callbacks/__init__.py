"""Evaluation callbacks for sentence-transformers training."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .callback import EvaluatorCallback
    from .checkpoints import last_checkpoint
    from .history import EvalRecord, History
    from .measures import Measure
    from .schedule import Interval
    from .tasks import EvaluationError, Scheduled

__version__ = "0.1.0"

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

# Imported when they are asked for: who reads a run, or asks the command line for help, need not wait for torch.
_ROOMS = {
    "EvalRecord": "history",
    "EvaluationError": "tasks",
    "EvaluatorCallback": "callback",
    "History": "history",
    "Interval": "schedule",
    "Measure": "measures",
    "Scheduled": "tasks",
    "last_checkpoint": "checkpoints",
}
_PARTS = {"evaluators", "measures", "report", "schedule", "history"}


if not TYPE_CHECKING:
    # A type checker that sees it would take any name for one of ours.

    def __getattr__(name):
        """Import what is asked for: a name of `__all__`, or a part of the package."""
        if name in _ROOMS:
            value = getattr(importlib.import_module(f".{_ROOMS[name]}", __name__), name)
            globals()[name] = value
            return value
        if name in _PARTS:
            return importlib.import_module(f".{name}", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """All names, also those not asked for yet."""
    return sorted({*globals(), *__all__, *_PARTS})
