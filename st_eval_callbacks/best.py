"""What follows from a value of the metric that decides: a new best, a stop, a word of warning."""

from __future__ import annotations

import logging
import math

from transformers import TrainerCallback, TrainerControl, TrainerState

from .history import EvalRecord, History, is_better
from .plan import Plan
from .selection import Selection, unknown_metric_message
from .trainer_link import TrainerLink

logger = logging.getLogger(__name__)


def beats(value: float, selection: Selection, state: TrainerState) -> bool:
    """Whether a value of the deciding metric is better than the best so far."""
    best = math.nan if state.best_metric is None else state.best_metric
    return is_better(value, best, selection.greater_is_better, selection.min_delta)


def recall(selection: Selection, history: History, state: TrainerState) -> None:
    """Find the best so far in the history after a resume, whatever the checkpoint says of it.

    Args:
        selection: The deciding metric; one that only the Trainer measures is left to the checkpoint.
        history: All evaluations up to the resumed step.
        state: Its best is set.
    """
    metric = selection.metric
    if metric is None or (selection.task is None and not history.values(metric)):
        return
    found = history.best(metric, selection.greater_is_better, selection.min_delta)
    state.best_metric = None if found is None else found.metrics[metric]
    state.best_global_step = None if found is None else found.step
    if found is None or not (state.best_model_checkpoint or "").endswith(f"-{found.step}"):
        state.best_model_checkpoint = None


def take_over(plan: Plan, result: EvalRecord, link: TrainerLink, callback: TrainerCallback) -> None:
    """Let a new best be saved, at a step where the Trainer does not evaluate; where it does, it decides by itself.

    Args:
        plan: How this run is evaluated.
        result: What was just measured.
        link: The trainer; its state and control flags are set.
        callback: The callback that measured.
    """
    metric = plan.selection.metric
    if metric is None or metric not in result.metrics or result.step == 0:
        return
    # Others compare with the best so far, so they hear of the value before it is the best.
    link.tell_others({**result.log_entry(), "epoch": result.epoch}, callback)
    state = link.trainer.state
    if not beats(result.metrics[metric], plan.selection, state):
        return
    state.best_metric = result.metrics[metric]
    if plan.saves:
        state.best_global_step = state.global_step
        link.trainer.control.should_save = True


def stop_after(
    patience: int,
    threshold: float,
    selection: Selection,
    history: History,
    state: TrainerState,
    control: TrainerControl,
) -> None:
    """Stop training when the deciding metric has not improved for too long.

    Args:
        patience: Evaluations without improvement that are too many, >= 1.
        threshold: Least improvement that counts, >= 0.
        selection: The deciding metric.
        history: All evaluations, also those before a resume.
        state: Where training stands.
        control: Its flag to stop is set.
    """
    if selection.metric is None or state.global_step == 0 or control.should_training_stop:
        return
    count = history.without_improvement(selection.metric, selection.greater_is_better, threshold, selection.min_delta)
    if count >= patience:
        logger.info("training stops: %d evaluations of %s without improvement.", count, selection.metric)
        control.should_training_stop = True


def stop_note(
    patience: int | None, threshold: float, selection: Selection, history: History, state: TrainerState
) -> str:
    """What is to be said of a training that stopped before its last step; "" for one that did not.

    Args:
        patience: Evaluations without improvement that are too many; None for any number.
        threshold: Least improvement that counts, >= 0.
        selection: The deciding metric.
        history: All evaluations.
        state: Where training stands.
    """
    if state.global_step >= state.max_steps:
        return ""
    note = f"training stopped at step {state.global_step} of {state.max_steps}"
    if patience is None or selection.metric is None:
        return note
    count = history.without_improvement(selection.metric, selection.greater_is_better, threshold, selection.min_delta)
    times = "evaluation" if count == 1 else "evaluations"
    return f"{note}: {count} {times} of {selection.metric} without improvement" if count >= patience else note


def require_primary(plan: Plan, metrics: dict[str, float], *, tolerant: bool) -> None:
    """Make sure that a Trainer evaluation holds the metric it decides by.

    Args:
        plan: How this run is evaluated.
        metrics: The Trainer's metrics, ours included.
        tolerant: Whether a failed evaluator counts as NaN, which never wins.

    Raises:
        ValueError: When the metric is missing and nothing failed.
    """
    key = plan.selection.log_key
    if key is None or key in metrics or plan.selection.task is None:
        # What the Trainer or another callback measures is not ours to ask for.
        return
    if tolerant:
        metrics[key] = math.nan
        return
    raise ValueError(unknown_metric_message(key, list(metrics)))


def warn_if_over(state: TrainerState) -> None:
    """Say so when a run is resumed that has ended."""
    if state.global_step >= state.max_steps:
        logger.warning(
            "step %d is the last of this run: nothing is trained. For a new experiment take another output_dir, or "
            "resume_from_checkpoint=None.",
            state.global_step,
        )


def warn_of_best_baseline(selection: Selection, history: History) -> None:
    """Say so when no checkpoint beats the model before training."""
    metric, greater = selection.metric, selection.greater_is_better
    start = history.at(0)
    if metric is None or start is None or not math.isfinite(start.metrics.get(metric, math.nan)):
        return
    best = history.best(metric, greater, selection.min_delta)
    after = math.nan if best is None else best.metrics[metric]
    if not is_better(after, start.metrics[metric], greater):
        logger.warning(
            "no checkpoint beats the model before training: %s was %.4f at the start, %.4f at best after it.",
            metric,
            start.metrics[metric],
            after,
        )
