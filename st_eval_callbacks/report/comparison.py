"""Two or more runs beside each other: what differs, and whether by more than chance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..history import EvalRecord
from .kept import KeptItems
from .run import Run
from .statistics import PairedDifference, paired_test


@dataclass(frozen=True)
class Side:
    """One run at one step.

    Attributes:
        label: How it is called.
        run: The run.
        record: What was measured at the step.
        kept: Its values of single queries or pairs.
    """

    label: str
    run: Run
    record: EvalRecord
    kept: KeptItems

    @classmethod
    def of(cls, run: Run, label: str, step: int | None = None) -> Side:
        """A run at a step.

        Args:
            run: The run.
            label: How it is called.
            step: The step; None takes that of the best, and where there is none the last.

        Raises:
            LookupError: When nothing was measured at that step; says where something was.
        """
        record = (run.best or run.history.records[-1]) if step is None else run.history.at(step)
        if record is None:
            steps = ", ".join(str(one.step) for one in run.history)
            raise LookupError(f"nothing was measured at step {step} of {label}; there is: {steps}.")
        return cls(label, run, record, KeptItems(run.folder))


@dataclass(frozen=True)
class Change:
    """One metric of a run against that of the baseline.

    Attributes:
        difference: Value minus the baseline's; NaN where one is undefined.
        test: The paired test, where both kept a value for each query or pair.
    """

    difference: float
    test: PairedDifference | None = None


@dataclass(frozen=True)
class ComparedMetric:
    """One metric of all sides.

    Attributes:
        metric: Log key without "eval_".
        values: Value by side; None where it was not measured at that step.
        changes: For each side but the first its change from that; None where one has no value.
        greater_is_better: Whether higher values are better, as the first run has it.
    """

    metric: str
    values: tuple[float | None, ...]
    changes: tuple[Change | None, ...]
    greater_is_better: bool = True


@dataclass(frozen=True)
class Comparison:
    """All that can be said of sides.

    Attributes:
        sides: The runs; the first is the baseline.
        metrics: The metrics that the first and another have.
        notes: Sentences about what is missing.
    """

    sides: tuple[Side, ...]
    metrics: tuple[ComparedMetric, ...]
    notes: tuple[str, ...] = field(default=())


def common_metrics(runs: Sequence[Run]) -> list[str]:
    """Metrics that the first run and another have measured at any step, in the first one's order."""
    others = {name for run in runs[1:] for name in run.history.metric_names()}
    return [name for name in runs[0].history.metric_names() if name in others]


def compare(
    sides: Sequence[Side],
    metrics: Sequence[str] | None = None,
    test: Callable[[dict[str, float], dict[str, float]], PairedDifference] = paired_test,
) -> Comparison:
    """Compare runs with the first of them.

    Args:
        sides: At least two.
        metrics: Names of `common_metrics`; None takes all.
        test: Given the values by item of the first and of another.

    Returns:
        The comparison. A metric that is no mean of single values (a correlation, a best threshold) has no test.
    """
    names = common_metrics([side.run for side in sides]) if metrics is None else metrics
    compared = []
    for name in names:
        values = tuple(side.record.metrics.get(name) for side in sides)
        changes = tuple(
            None if values[0] is None or value is None else _change(name, sides[0], side, values[0], value, test)
            for side, value in zip(sides[1:], values[1:], strict=True)
        )
        if any(change is not None for change in changes):
            compared.append(ComparedMetric(name, values, changes, sides[0].run.greater_is_better(name)))
    return Comparison(tuple(sides), tuple(compared), tuple(_notes(sides, names, compared)))


def _change(
    name: str,
    baseline: Side,
    side: Side,
    before: float,
    after: float,
    test: Callable[[dict[str, float], dict[str, float]], PairedDifference],
) -> Change:
    left, right = (one.kept.at(one.record.step).get(name) for one in (baseline, side))
    found = None if left is None or right is None else test(left, right)
    return Change(after - before, found if found is not None and found.num_items else None)


def _notes(sides: Sequence[Side], names: Sequence[str], compared: Sequence[ComparedMetric]) -> list[str]:
    notes = []
    for side in sides:
        absent = [name for name in names if name not in side.record.metrics]
        owners = [side.run.evaluator_of(name) for name in absent]
        for who in dict.fromkeys(
            name if owner is None else owner.name for name, owner in zip(absent, owners, strict=True)
        ):
            notes.append(f"{side.label}: {who} was not measured at step {side.record.step}.")
        steps = side.kept.steps
        if side.record.step not in steps:
            elsewhere = f"; there are some of step {_listed(steps)}" if steps else " (keep_per_query=True keeps them)"
            notes.append(f"{side.label}: no values of single queries at step {side.record.step}{elsewhere}.")
    for place, side in enumerate(sides[1:]):
        changes = [one.changes[place] for one in compared]
        tests = [change.test for change in changes if change is not None and change.test is not None]
        for left, right in sorted({(test.num_left_only, test.num_right_only) for test in tests} - {(0, 0)}):
            notes.append(
                f"{left} items are only in {sides[0].label} and {right} only in {side.label}: left out of the test."
            )
    return notes


def _listed(steps: Sequence[int]) -> str:
    return ", ".join(map(str, steps if len(steps) < 8 else [*steps[:6], "...", steps[-1]]))
