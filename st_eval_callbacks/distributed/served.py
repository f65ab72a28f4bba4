"""Evaluators that know nothing of processes, run on one of them while the others encode for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sentence_transformers import util

from .meeting import OtherProcessError
from .processes import is_main_process, is_sharded, num_processes


@contextmanager
def served(model: Any) -> Iterator[bool]:
    """Let the main process alone run an evaluator that knows nothing of processes, while the others encode for it.

    This is sentence-transformers' `distributed_evaluation`, where there is one and the model can be served.

    Args:
        model: The model.

    Yields:
        Whether this process runs the evaluator: all do where it cannot be served.
    """
    # Not there in sentence-transformers below 6.2.
    serve = getattr(getattr(util, "distributed", None), "distributed_evaluation", None)
    if serve is None or num_processes() == 1 or not hasattr(model, "_distributed_inference") or is_sharded(model):
        yield True
        return
    try:
        with serve(model) as is_running:
            yield is_running
    except RuntimeError as error:
        if is_main_process():
            raise
        raise OtherProcessError(str(error)) from error
