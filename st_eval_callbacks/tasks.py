"""An evaluator of any kind with a name, a schedule and keys that can be trusted."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sentence_transformers.base.evaluation import BaseEvaluator

from .evaluators.items import KeepsItems, logged_under, with_prefix
from .evaluators.together import inner_evaluators, parts_of
from .schedule import IntervalLike, Schedule
from .writers.files import safe_name

EvaluatorLike: TypeAlias = "Callable[..., float | dict[str, float]] | BaseEvaluator | Scheduled"


class EvaluationError(Exception):
    """An evaluator failed; says which and at which step, and carries what it raised as its cause.

    It is no `RuntimeError` and repeats no message: transformers' `auto_find_batch_size` reads an out-of-memory message
    in a `RuntimeError` as a sign to start training anew with smaller batches.
    """


class Scheduled:
    """An evaluator with intervals of its own.

    Args:
        evaluator: A bundled evaluator, one of sentence-transformers, or any callable with the same signature.
        every: The distance between two runs, such as 100 (steps), "0.25 epochs" or "10%"; None follows the callback's.
        at: Single points of training, in the same forms.
        at_start: Whether to run once before the first step (a baseline).
        at_end: Whether to run after the last step.

    Raises:
        ValueError: When an interval cannot be read.
        TypeError: When the evaluator cannot be called, or an interval is no number or string.
    """

    def __init__(
        self,
        evaluator: EvaluatorLike,
        *,
        every: IntervalLike | None = None,
        at: IntervalLike | Iterable[IntervalLike] = (),
        at_start: bool = False,
        at_end: bool = True,
    ) -> None:
        if isinstance(evaluator, Scheduled):
            raise TypeError("Scheduled(Scheduled(...)): give the evaluator itself.")
        if not callable(evaluator):
            raise TypeError(f"{evaluator!r} is not an evaluator: it cannot be called.")
        self.evaluator = evaluator
        self.schedule = Schedule.parse(every, at, at_start, at_end)


class CallableEvaluator(BaseEvaluator):
    """What the model card shows for a plain callable.

    Args:
        function: Called as `function(model, output_path, epoch, steps)`.
        name: Its name.
    """

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.function = function
        self.name = name

    @property
    def description(self) -> str:
        """The callable's name in words."""
        return self.name.replace("_", " ").title()

    def __call__(self, model: Any, output_path: str | None = None, epoch: float = -1, steps: int = -1) -> Any:
        """Call the function."""
        return self.function(model, output_path, epoch, steps)


@dataclass(eq=False)
class Task:
    """One evaluator of a callback.

    Attributes:
        name: Unique among the callback's evaluators; used in messages and in `eval_<name>_runtime`.
        evaluator: What is called.
        given: The schedule asked for; with `every` None and no points it follows the Trainer.
        prefix: Put before keys that do not start with it; "" for none.
        schedule: When it runs in this call of `train()`.
        returned: Keys of its last run in training; none before.
    """

    name: str
    evaluator: BaseEvaluator
    given: Schedule
    prefix: str = ""
    schedule: Schedule = field(init=False)
    returned: tuple[str, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        """Run as asked for until a plan says more."""
        self.schedule = self.given

    @property
    def follows_trainer(self) -> bool:
        """Whether it has no interval of its own."""
        return self.schedule.every is None and not self.schedule.at

    @property
    def greater_is_better(self) -> bool | None:
        """What the evaluator says of its primary metric; None when it says nothing."""
        stated = getattr(self.evaluator, "greater_is_better", None)
        return None if stated is None or isinstance(self.evaluator, CallableEvaluator) else bool(stated)

    def key(self, metric: str) -> str:
        """The log key (without "eval_") of a metric that the evaluator returns."""
        return with_prefix(self.prefix, metric.removeprefix("eval_"))

    def metric_names(self, model: Any) -> list[str] | None:
        """Keys the evaluator will return for a model, or None when they are known only after it ran.

        Raises:
            ValueError: When the evaluator does not fit the model.
            TypeError: When the evaluator does not fit the kind of model.
        """
        names = getattr(self.evaluator, "metric_names", None)
        if callable(names):
            return [self.key(name) for name in names(model)]
        # One inside a sequence that cannot tell its keys may still refuse the model.
        for inner in inner_evaluators(self.evaluator)[1:]:
            if callable(ask := getattr(inner, "metric_names", None)):
                ask(model)
        return None

    def primary_keys(self) -> list[str]:
        """The keys that the stated primary metric may have: one, none, or two until the evaluator has run.

        Some of sentence-transformers' evaluators put their name before the primary metric only when they run.
        """
        stated, name = getattr(self.evaluator, "primary_metric", None), getattr(self.evaluator, "name", "")
        if not stated:
            return []
        named = name and not str(stated).startswith(f"{name}_") and not isinstance(self.evaluator, CallableEvaluator)
        return [self.key(str(stated)), *([self.key(f"{name}_{stated}")] if named else [])]

    def primary_metric(self, returned: Iterable[str] = ()) -> str | None:
        """The key of the primary metric: the evaluator's, else the first of `returned`, else None.

        None as well while it is uncertain, with nothing returned yet.
        """
        stated, keys = self.primary_keys(), list(returned)
        if not keys:
            return stated[0] if len(stated) == 1 else None
        return next((key for key in stated if key in keys), stated[0] if stated else keys[0])

    def run(self, model: Any, output_path: str | None, epoch: float, step: int) -> dict[str, float]:
        """Evaluate.

        Args:
            model: The model in training.
            output_path: Folder for what the evaluator writes, or None on processes that write nothing.
            epoch: Passes over the training data done.
            step: Optimizer steps done.

        Returns:
            Value by key.

        Raises:
            EvaluationError: When the evaluator raised or returned no numbers.
        """
        try:
            # sentence-transformers calls it an int, and passes the Trainer's float.
            with logged_under(self.prefix):
                result: Any = self.evaluator(model, output_path, epoch, step)  # type: ignore[arg-type]
            if not isinstance(result, Mapping):
                # A function is called by its name; the Trainer's own word stands for a nameless evaluator.
                own = self.name if isinstance(self.evaluator, CallableEvaluator) else "evaluator"
                result = {self.prefix or own: result}
            return {self.key(str(key)): math.nan if value is None else float(value) for key, value in result.items()}
        except Exception as error:
            raise self.failure(step, error) from error

    def failure(self, step: int, error: Exception) -> EvaluationError:
        """The error that says which evaluator failed when; what it raised becomes its cause."""
        return EvaluationError(
            f"evaluator {self.name!r} ({type(self.evaluator).__name__}) failed at step {step}: "
            f"{type(error).__name__}, shown above."
        )

    def csv_files(self) -> list[str]:
        """Names of the tables that the evaluator, and those inside it, append to."""
        found: list[str] = []
        for evaluator in inner_evaluators(self.evaluator):
            if isinstance(name := getattr(evaluator, "csv_file", None), str):
                if isinstance(evaluator, KeepsItems):
                    found.append(safe_name(evaluator.file_logged_under(self.prefix, name)))
                    continue
                # Others than ours write under the name as it is; one that leads elsewhere is not ours to touch.
                found += dict.fromkeys([safe_name(name), *([name] if os.path.basename(name) == name else [])])
        return found

    def parts(self) -> dict[str, bool]:
        """Primary metrics of its sizes, or of what a sequence runs, and whether higher values of each are better."""
        found = {}
        for one in parts_of(self.evaluator):
            if isinstance(metric := getattr(one, "primary_metric", None), str):
                found[self.key(metric)] = bool(getattr(one, "greater_is_better", True))
        return found

    @property
    def keepers(self) -> list[KeepsItems]:
        """The evaluator and those inside it, as far as they can keep the values of single items."""
        return [one for one in inner_evaluators(self.evaluator) if isinstance(one, KeepsItems)]

    def items_folders(self) -> list[str]:
        """Names of the folders of their files."""
        return [one.items_folder(self.prefix) for one in self.keepers]


def build_tasks(
    evaluators: EvaluatorLike | Iterable[EvaluatorLike] | Mapping[str, EvaluatorLike],
    every: IntervalLike | None,
    *,
    keep_per_query: bool = False,
) -> list[Task]:
    """Read what was given to the callback.

    Args:
        evaluators: One, several, or several by name.
        every: Interval of those that have none of their own.
        keep_per_query: Whether this is switched on in all of this package, those inside others too.

    Returns:
        One task an evaluator, in the given order, with unique names.

    Raises:
        ValueError: When there is none, or an interval cannot be read.
        TypeError: When one cannot be called.
    """
    default = Schedule.parse(every)
    named: list[tuple[str, EvaluatorLike]]
    if isinstance(evaluators, Mapping):
        named = [(str(name), evaluator) for name, evaluator in evaluators.items()]
    elif isinstance(evaluators, Scheduled) or callable(evaluators):
        named = [("", evaluators)]
    elif isinstance(evaluators, Iterable):
        named = [("", evaluator) for evaluator in evaluators]
    else:
        raise TypeError(f"{evaluators!r} is not an evaluator, a list of evaluators or {{name: evaluator}}.")
    if not named:
        raise ValueError("no evaluators were given: pass one, a list, or {name: evaluator}.")

    tasks: list[Task] = []
    for given_name, given in named:
        scheduled = given if isinstance(given, Scheduled) else Scheduled(given)
        schedule, evaluator = scheduled.schedule, scheduled.evaluator
        if schedule.every is None and not schedule.at:
            schedule = Schedule(default.every, default.at, schedule.at_start, schedule.at_end)
        name = given_name or _own_name(evaluator)
        taken = {task.name for task in tasks}
        number = 2
        unique = name
        while unique in taken:
            unique, number = f"{name}_{number}", number + 1
        if not isinstance(evaluator, BaseEvaluator):
            evaluator = CallableEvaluator(evaluator, unique)
        tasks.append(Task(unique, evaluator, schedule, prefix=given_name))
        for keeper in tasks[-1].keepers if keep_per_query else ():
            keeper.keep_per_query = True
    return tasks


def _own_name(evaluator: Any) -> str:
    name = getattr(evaluator, "name", "") or getattr(evaluator, "__name__", "")
    if isinstance(name, str) and name and name != "<lambda>":
        return name
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(evaluator).__name__.removesuffix("Evaluator"))
    return words.lower() or "evaluator"
