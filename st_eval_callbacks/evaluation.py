"""One evaluation event: the due evaluators, one after another, over shared encodings."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from sentence_transformers.base.evaluation import BaseEvaluator
from transformers import TrainingArguments

from .distributed import OtherProcessError, from_main, guarded, is_main_process, num_processes, served
from .encoding import apart, session, untouched
from .evaluators.together import encode_together, inner_evaluators, runs_together
from .tasks import EvaluationError, Task
from .writers.model_card import card_data

logger = logging.getLogger(__name__)


# The value that TrainingArguments has when nobody set it: lengths then decide.
_DEFAULT_BATCH_SIZE = TrainingArguments.per_device_eval_batch_size


@dataclass(frozen=True)
class EvalSettings:
    """How inputs are encoded during an event, where the evaluators leave it open.

    Attributes:
        show_progress_bar: Whether encoding shows a bar.
        batch_size: Most texts a batch; None lets the lengths decide.
        autocast_dtype: Models compute in this type where torch deems it safe; None leaves that as training has it.
    """

    show_progress_bar: bool = False
    batch_size: int | None = None
    autocast_dtype: torch.dtype | None = None

    @classmethod
    def of(cls, args: TrainingArguments) -> EvalSettings:
        """What `disable_tqdm`, `per_device_eval_batch_size`, `bf16_full_eval` and `fp16_full_eval` ask for.

        `bf16` and `fp16` need nothing: the trainer has put them into the model's forward.
        """
        batch_size = args.per_device_eval_batch_size
        return cls(
            show_progress_bar=is_main_process() and not args.disable_tqdm,
            batch_size=None if batch_size == _DEFAULT_BATCH_SIZE else batch_size,
            autocast_dtype=torch.bfloat16 if args.bf16_full_eval else torch.float16 if args.fp16_full_eval else None,
        )


@dataclass
class Outcome:
    """What an event measured.

    Attributes:
        metrics: Value by log key without "eval_", for each evaluator that succeeded.
        seconds: Seconds by evaluator, also of those that failed.
        card_results: What the model card shows of each evaluator.
    """

    metrics: dict[Task, dict[str, float]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    card_results: dict[BaseEvaluator, Mapping[str, float]] = field(default_factory=dict)

    @property
    def merged(self) -> dict[str, float]:
        """All metrics in one dict."""
        return {key: value for metrics in self.metrics.values() for key, value in metrics.items()}


def evaluate(
    tasks: Sequence[Task],
    model: Any,
    *,
    output_path: str | None,
    epoch: float,
    step: int,
    settings: EvalSettings,
    on_error: str = "raise",
) -> Outcome:
    """Run evaluators on a model in training and leave it as it was.

    Args:
        tasks: The evaluators, in order.
        model: The model.
        output_path: Folder for what evaluators write, or None.
        epoch: Passes over the training data done.
        step: Optimizer steps done.
        settings: How inputs are encoded.
        on_error: "raise", or "warn" to log a failed evaluator and go on.

    Returns:
        What was measured.

    Raises:
        EvaluationError: When an evaluator failed and `on_error` is "raise".
    """
    outcome = Outcome()
    with untouched(model), session(**vars(settings)):
        parts = _encode_together(tasks, model)
        for task in tasks:
            inner = inner_evaluators(task.evaluator)
            _forget(model, inner)
            start = time.perf_counter()
            try:
                metrics = _run(task, model, output_path, epoch, step)
            except EvaluationError as error:
                if on_error == "raise":
                    raise
                if is_main_process():
                    logger.warning("%s Training goes on (on_error='warn').", error, exc_info=error.__cause__)
                metrics = None
            outcome.seconds[task.name] = time.perf_counter() - start + parts[task]
            if metrics is None:
                continue
            outcome.metrics[task] = metrics
            stored = _stored(model, inner)
            outcome.card_results.update(stored or {task.evaluator: metrics})
        with guarded():
            # What is logged is the same everywhere, seconds too.
            outcome.seconds = from_main(outcome.seconds)
    return outcome


def _run(task: Task, model: Any, output_path: str | None, epoch: float, step: int) -> dict[str, float]:
    """Run an evaluator on all processes, or on the main one for all; all get the main one's values."""
    if num_processes() == 1:
        return task.run(model, output_path, epoch, step)
    try:
        if runs_together(task.evaluator):
            with guarded(is_together=True):
                metrics = from_main(task.run(model, output_path, epoch, step))
        else:
            # It encodes in a session of its own: what it asks for on one process, others would not keep.
            with guarded():
                with apart(), served(model) as is_running:
                    metrics = task.run(model, output_path, epoch, step) if is_running else {}
                metrics = from_main(metrics)
    except OtherProcessError as error:
        raise task.failure(step, error) from error
    found: dict[str, float] = metrics
    return found


def _encode_together(tasks: Sequence[Task], model: Any) -> dict[Task, float]:
    """Encode what all will ask for; seconds of it by evaluator, as much as its part of the inputs."""
    start = time.perf_counter()
    sharing = [task for task in tasks if num_processes() == 1 or runs_together(task.evaluator)]
    counts = encode_together([task.evaluator for task in sharing], model, guarded(is_together=True))
    seconds, total = time.perf_counter() - start, sum(counts.values())
    parts = {task: seconds * counts[place] / total if total else 0.0 for place, task in enumerate(sharing)}
    return {task: parts.get(task, 0.0) for task in tasks}


def _forget(model: Any, evaluators: Sequence[BaseEvaluator]) -> None:
    card = card_data(model)
    for evaluator in evaluators if card is not None else ():
        card.eval_results_dict.pop(evaluator, None)


def _stored(model: Any, evaluators: Sequence[BaseEvaluator]) -> dict[BaseEvaluator, Mapping[str, float]]:
    card = card_data(model)
    if card is None:
        return {}
    return {one: dict(card.eval_results_dict[one]) for one in evaluators if one in card.eval_results_dict}
