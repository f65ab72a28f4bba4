"""Which metric decides the best checkpoint, and which way is better."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .tasks import Task
from .writers.run_file import EvaluatorInfo

logger = logging.getLogger(__name__)


@dataclass
class Selection:
    """What decides the best.

    Attributes:
        metric: Log key without "eval_"; None until the first evaluation of an evaluator that cannot say before.
        greater_is_better: Whether higher values are better.
        task: The evaluator that measures it; None when the Trainer's own evaluation does, or another callback.
        min_delta: Only a value that is better by more than this takes the place of the best, >= 0.
    """

    metric: str | None
    greater_is_better: bool
    task: Task | None
    min_delta: float = 0.0

    @property
    def log_key(self) -> str | None:
        """The key in `log_history` and in the metrics of a Trainer evaluation."""
        return None if self.metric is None else f"eval_{self.metric}"

    def learn(self, task: Task, returned: Iterable[str]) -> None:
        """Take the primary metric of an evaluator that could not name it before it ran."""
        if self.metric is None and task is self.task:
            self.metric = task.primary_metric(returned)


def known_names(tasks: Sequence[Task], model: Any) -> dict[str, Task]:
    """Which evaluator measures which metric, as far as evaluators can say before they ran.

    Raises:
        ValueError: When two evaluators would write the same keys, or files of the same name.
        TypeError: When an evaluator does not fit the kind of model.
    """
    owners: dict[str, Task] = {}
    for task in tasks:
        names = task.metric_names(model)
        if names is None:
            primary = task.primary_metric()
            names = [] if primary is None else [primary]
        refuse_same_keys(owners, task, names)
        owners.update(dict.fromkeys(names, task))
    _refuse_same_files(tasks)
    return owners


def _refuse_same_files(tasks: Sequence[Task]) -> None:
    """Raise when two evaluators measure different things into files of one name, where each would undo the other's."""
    writers: dict[str, Task] = {}
    for task in tasks:
        evaluator: object = task.evaluator
        for one in task.keepers:
            if one.keep_per_query or (one is evaluator and getattr(one, "write_csv", True)):
                other = writers.setdefault(one.items_folder(task.prefix), task)
                if other is not task:
                    raise ValueError(
                        f"the evaluators {other.name!r} and {task.name!r} write files of the same name "
                        f"({one.items_folder(task.prefix)}): give them different names (name=...)."
                    )


def refuse_same_keys(owners: dict[str, Task], task: Task, names: Iterable[str]) -> None:
    """Raise when another evaluator already writes one of these keys.

    Raises:
        ValueError: Names both evaluators and says how to tell them apart.
    """
    shared = [name for name in names if owners.get(name, task) is not task]
    if shared:
        raise ValueError(
            f"the evaluators {owners[shared[0]].name!r} and {task.name!r} both measure {shared[0]!r}, so one would "
            "overwrite the other: give them different names (name=...), or pass {name: evaluator} to the callback."
        )


def choose(
    tasks: Sequence[Task],
    owners: dict[str, Task],
    *,
    primary: str | None,
    stated: str | None,
    stated_greater_is_better: bool | None,
    trainer_names: set[str],
    trainer_measures_more: bool,
) -> Selection:
    """Settle what decides the best.

    Args:
        tasks: The callback's evaluators.
        owners: Evaluator by metric, as far as known.
        primary: The callback's `primary`, with or without "eval_".
        stated: `args.metric_for_best_model`.
        stated_greater_is_better: `args.greater_is_better`.
        trainer_names: Metrics of the Trainer's own evaluation.
        trainer_measures_more: Whether that evaluation also measures what cannot be known before.

    Returns:
        The selection.

    Raises:
        ValueError: When the metric is unknown, the two statements disagree, or an evaluator contradicts the arguments.
    """
    wanted, asked = _strip(primary), _strip(stated)
    # TrainingArguments fills in "loss" by itself; without an eval dataset nothing measures it.
    if asked == "loss" and ("loss" not in trainer_names or wanted is not None) and "loss" not in owners:
        asked, stated_greater_is_better = None, None
    if wanted is not None and asked is not None and wanted != asked:
        raise ValueError(
            f"primary={primary!r} and metric_for_best_model={stated!r} name different metrics: give one of them."
        )
    metric = wanted if wanted is not None else asked
    if metric is None:
        task: Task | None = tasks[0]
        metric = tasks[0].primary_metric(name for name, owner in owners.items() if owner is tasks[0])
    else:
        task = _owner_of(metric, tasks, owners, trainer_names, trainer_measures_more)
    return Selection(metric, direction(metric, task, stated_greater_is_better), task)


def _strip(name: str | None) -> str | None:
    return None if name is None else name.removeprefix("eval_")


def _owner_of(
    metric: str, tasks: Sequence[Task], owners: dict[str, Task], trainer_names: set[str], trainer_measures_more: bool
) -> Task | None:
    if metric in owners:
        return owners[metric]
    if metric in trainer_names:
        return None
    closed = {id(owner) for owner in owners.values() if callable(getattr(owner.evaluator, "metric_names", None))}
    silent = [task for task in tasks if id(task) not in closed]
    # Of names that begin alike ("a", "a_b") the longest fits best.
    fitting = [(len(name), task) for task in silent if (name := _start_of(task, metric)) is not None]
    if fitting:
        return max(fitting, key=lambda pair: pair[0])[1]
    if trainer_measures_more:
        return None
    unnamed = [task for task in silent if task.primary_metric() is None and not _has_name(task)]
    if unnamed:
        return unnamed[0]
    uncertain = [key for task in silent for key in task.primary_keys()[1:]]
    raise ValueError(unknown_metric_message(metric, [*owners, *uncertain, *sorted(trainer_names)]))


def _start_of(task: Task, metric: str) -> str | None:
    """How much of a metric tells that it is this evaluator's: all of it, its name, or None."""
    if metric in task.primary_keys():
        return metric
    name = task.prefix or getattr(task.evaluator, "name", "")
    return name if name and (metric == name or metric.startswith(f"{name}_")) else None


def _has_name(task: Task) -> bool:
    from .tasks import CallableEvaluator

    return bool(task.prefix) or (
        not isinstance(task.evaluator, CallableEvaluator) and bool(getattr(task.evaluator, "name", ""))
    )


def unknown_metric_message(metric: str, allowed: Sequence[str]) -> str:
    """What was asked for, what there is, and what was probably meant."""
    near = difflib.get_close_matches(metric, allowed, n=1, cutoff=0.5) or [
        name for name in allowed if name.endswith(f"_{metric}") or metric.endswith(f"_{name}")
    ]
    hint = f" Did you mean {near[0]!r}?" if near else ""
    said = f"the metric {metric!r} that decides the best model is measured by no evaluator."
    return f"{said}{hint} There is: {list(allowed)}."


def direction(metric: str | None, task: Task | None, stated: bool | None) -> bool:
    """Whether higher values of a metric are better: what is stated, what its evaluator says, what its name tells.

    Raises:
        ValueError: When statement and evaluator contradict each other.
    """
    by_name = metric is None or not metric.endswith("loss")
    evaluator_says = task.greater_is_better if task is not None else None
    if evaluator_says is None:
        return by_name if stated is None else stated
    if stated is None or stated == evaluator_says:
        # True is what every evaluator says that was never asked; a metric called a loss needs a word more.
        if evaluator_says and stated is None and not by_name:
            return False
        return evaluator_says
    if not evaluator_says and stated == by_name:
        # The arguments only hold what TrainingArguments derives from the name.
        return False
    raise ValueError(
        f"greater_is_better={stated} in the training arguments, but the evaluator {task.name if task else ''!r} says "
        f"{evaluator_says} of {metric!r}: set evaluator.greater_is_better or the argument so that they agree."
    )


def describe(task: Task, metrics: Sequence[str]) -> EvaluatorInfo:
    """What a run's file says of an evaluator.

    Args:
        task: The evaluator.
        metrics: Keys of its metrics, as far as known.
    """
    primary = task.primary_metric(metrics)
    return EvaluatorInfo(
        name=task.name,
        kind=type(task.evaluator).__name__,
        primary_metric=primary,
        greater_is_better=primary is None or direction(primary, task, None),
        metrics=tuple(metrics),
        parts={name: better for name, better in task.parts().items() if name in metrics},
    )
