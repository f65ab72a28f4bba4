"""What is settled, and refused, before the first step."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from transformers import TrainerState, TrainingArguments

from .schedule import Interval, Progress, Schedule
from .selection import Selection, choose, known_names, refuse_same_keys, unknown_metric_message
from .tasks import Task
from .trainer_link import TrainerLink

logger = logging.getLogger(__name__)

_EACH_EPOCH = Interval.parse("1 epochs")


@dataclass
class Plan:
    """How evaluation runs in one call of `train()`.

    Attributes:
        selection: What decides the best.
        owners: Evaluator by metric, as far as known; grows as evaluators run.
        saves: Whether checkpoints are saved at all.
        others: Evaluators of the trainer's other callbacks, which write into the same folder.
    """

    selection: Selection
    owners: dict[str, Task]
    saves: bool
    others: Sequence[Task] = ()

    def due(
        self,
        tasks: Sequence[Task],
        args: TrainingArguments,
        previous: Progress,
        current: Progress,
        is_last: bool,
        trainer_evaluates: bool,
    ) -> list[Task]:
        """Which evaluators run at a step, by their own schedule or with the Trainer's evaluation.

        Args:
            tasks: The callback's evaluators.
            args: The trainer's arguments, for `eval_delay`.
            previous: The step before.
            current: This step.
            is_last: Whether training ends here.
            trainer_evaluates: Whether the Trainer evaluates at this step; the deciding evaluator then runs too.

        Returns:
            The evaluators, in the order given; the deciding one last when nothing else asks for it.
        """
        reached = current.epoch if args.eval_strategy == "epoch" else current.step
        delayed = args.eval_strategy != "no" and reached < args.eval_delay and not is_last
        found = []
        for task in tasks:
            follows = task.follows_trainer and trainer_evaluates
            if follows or (task.schedule.due(previous, current, is_last=is_last) and not delayed):
                found.append(task)
        primary = self.selection.task
        if trainer_evaluates and primary is not None and primary not in found:
            found.append(primary)
        return found

    def learn(self, results: Mapping[Task, Mapping[str, float]], args: TrainingArguments) -> None:
        """Take over names that evaluators could not tell before they ran.

        Args:
            results: What evaluators just returned.
            args: The trainer's arguments; the deciding metric is written into them.

        Raises:
            ValueError: When two evaluators share a key, or the deciding metric is not among what was measured.
        """
        for task, metrics in results.items():
            refuse_same_keys(self.owners, task, metrics)
            self.owners.update(dict.fromkeys(metrics, task))
            task.returned = tuple(metrics)
            self.selection.learn(task, metrics)
            if task is self.selection.task and self.selection.metric not in metrics:
                raise ValueError(unknown_metric_message(str(self.selection.metric), list(metrics)))
        write_selection(args, self.selection)


def make_plan(
    tasks: Sequence[Task],
    link: TrainerLink,
    args: TrainingArguments,
    state: TrainerState,
    *,
    primary: str | None,
    load_best_model_at_end: bool | None,
    min_delta: float = 0.0,
    steps_per_epoch: float,
    others: Sequence[Task] = (),
) -> Plan:
    """Check everything that can be known before training, and write into the arguments what they leave open.

    Args:
        tasks: The callback's evaluators; those without an interval get theirs here.
        link: The trainer.
        args: Its arguments; `metric_for_best_model`, `greater_is_better` and `load_best_model_at_end` may be set.
        state: Its state at the start of training.
        primary: The callback's `primary`.
        load_best_model_at_end: The callback's own wish, or None for the argument's.
        min_delta: The callback's `min_delta`.
        steps_per_epoch: Optimizer steps of one pass; infinite when unknown.
        others: Evaluators of other callbacks, which may measure what decides.

    Returns:
        The plan.

    Raises:
        ValueError: When an interval never fires, a metric is unknown, keys or names collide, or arguments contradict.
        TypeError: When an evaluator does not fit the kind of model.
    """
    for task in tasks:
        task.schedule = task.given
        if task.follows_trainer and args.eval_strategy == "no":
            task.schedule = Schedule(_EACH_EPOCH, (), task.given.at_start, task.given.at_end)
    _refuse_silent_schedules(tasks, state.max_steps, steps_per_epoch)
    owners = known_names(tasks, link.model)
    _refuse_same_names(tasks, others)
    trainer_evaluates = args.eval_strategy != "no"
    elsewhere = {name for task in others for name in task.metric_names(link.model) or [task.primary_metric() or ""]}
    selection = choose(
        tasks,
        owners,
        primary=primary,
        stated=args.metric_for_best_model,
        stated_greater_is_better=args.greater_is_better,
        trainer_names=elsewhere | (link.trainer_metric_names() if trainer_evaluates else set()),
        trainer_measures_more=(trainer_evaluates and link.measures_unknown_metrics) or "" in elsewhere,
    )
    selection.min_delta = min_delta
    if load_best_model_at_end is not None:
        args.load_best_model_at_end = load_best_model_at_end
    saves = args.save_strategy != "no"
    if args.load_best_model_at_end and not saves:
        raise ValueError(
            "load_best_model_at_end needs a checkpoint of the best model, but save_strategy='no' saves none: "
            "set save_strategy to 'best' (only new bests), 'steps' or 'epoch'."
        )
    if saves and args.save_total_limit == 1:
        logger.warning(
            "save_total_limit=1 keeps only the best checkpoint once training ends: the last one, needed to train on "
            "from the end, is deleted. save_total_limit=2 keeps both."
        )
    write_selection(args, selection)
    return Plan(selection, owners, saves, others)


def write_selection(args: TrainingArguments, selection: Selection) -> None:
    """Let the Trainer, and callbacks such as early stopping, decide by the same metric."""
    if selection.log_key is not None:
        args.metric_for_best_model = selection.log_key
        args.greater_is_better = selection.greater_is_better


def obey_eval_steps(args: TrainingArguments, state: TrainerState) -> None:
    """Evaluate at the interval of the arguments after a resume; the checkpoint's would win over it."""
    if args.eval_steps is not None and args.eval_strategy == "steps":
        share = args.eval_steps < 1
        state.eval_steps = math.ceil(state.max_steps * args.eval_steps) if share else int(args.eval_steps)


def optimizer_steps_per_epoch(train_dataloader: Any, gradient_accumulation_steps: int) -> float:
    """Optimizer steps of one pass over the data; infinite when its length is unknown."""
    try:
        return math.ceil(len(train_dataloader) / max(gradient_accumulation_steps, 1))
    except TypeError:
        return math.inf


def _refuse_same_names(tasks: Sequence[Task], others: Sequence[Task]) -> None:
    """What ran at a step is known by its name, so that of another callback would not run."""
    for task in tasks:
        if any(other.name == task.name and other.evaluator is not task.evaluator for other in others):
            raise ValueError(
                f"two callbacks of this trainer have an evaluator called {task.name!r}: give them different names "
                "(name=...), or pass {name: evaluator} to one of the callbacks."
            )


def _regular(schedule: Schedule) -> Schedule:
    """What of a schedule was to fire, without the start and the end of training."""
    return replace(schedule, at_start=False, at_end=False)


def _refuse_silent_schedules(tasks: Sequence[Task], max_steps: int, steps_per_epoch: float) -> None:
    for task in tasks:
        # Once an epoch is what we make of no interval; in less than an epoch, the end is left of it.
        is_ours = task.given.every is None and not task.given.at
        if task.schedule.never_fires(max_steps, steps_per_epoch) and not (is_ours and task.schedule.at_end):
            length = f"{max_steps} steps"
            if math.isfinite(steps_per_epoch):
                length += f" ({max_steps / steps_per_epoch:.3g} epochs)"
            raise ValueError(
                f"the interval of the evaluator {task.name!r} ({_regular(task.schedule)}) never fires: training has "
                f"{length}. Shorten it, or leave it out to run with the Trainer's evaluations and at the end."
            )
