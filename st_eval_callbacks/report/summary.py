"""One row an evaluator over a whole run, and what evaluating cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..history import History
from ..writers.run_file import EvaluatorInfo
from .run import Run


@dataclass(frozen=True)
class SummaryRow:
    """One metric of an evaluator over the whole run.

    Attributes:
        metric: The metric (log key without "eval_").
        before: Value before the first step, or None when it was not measured then.
        best: Best value after the first step, or None when nothing finite was measured.
        best_step: Where that was.
        last: Last value.
        runs: How often its evaluator ran.
        seconds: Seconds of its evaluator in all; None in a second row of the same evaluator.
        decides: Whether this metric decides the best checkpoint.
        greater_is_better: Whether higher values are better.
    """

    metric: str
    before: float | None
    best: float | None
    best_step: int | None
    last: float
    runs: int
    seconds: float | None
    decides: bool
    greater_is_better: bool = True

    @property
    def change(self) -> float | None:
        """Best less before, so below 0 is good where less is better; None when either is unknown."""
        if self.before is None or self.best is None or not math.isfinite(self.before):
            return None
        return self.best - self.before


@dataclass(frozen=True)
class Session:
    """What one call of `train()` took; a resume is another.

    Attributes:
        seconds: Seconds since training began.
        evaluating: Of these, seconds by evaluator.
        note: What else is to be said of it; "" for nothing.
    """

    seconds: float
    evaluating: Mapping[str, float]
    note: str = ""

    def __str__(self) -> str:
        spent = math.fsum(self.evaluating.values())
        text = f"evaluating took {spent:.1f} s of {self.seconds:.1f} s"
        if self.seconds > 0:
            text += f" ({spent / self.seconds:.0%})"
        if len(self.evaluating) > 1:
            slowest = max(self.evaluating, key=self.evaluating.__getitem__)
            text += f", the slowest being {slowest} ({self.evaluating[slowest]:.1f} s)"
        return text


def summarise(source: Run | History | str | Path) -> list[SummaryRow]:
    """One row for the primary metric of each evaluator, and one for the deciding metric where that is another.

    Args:
        source: The run, its history, or the path of either.

    Returns:
        Rows in the order of the evaluators; metrics that were never measured are left out.
    """
    run = Run.of(source)
    measured = run.history.metric_names()
    rows = []
    for evaluator in run.info.evaluators:
        shown = [metric for metric in run.shown_metrics(evaluator) if metric in measured]
        for place, metric in enumerate(shown):
            row = summary_row(run, metric, evaluator)
            rows.append(row if place == 0 else replace(row, seconds=None))
    return rows


def summary_row(run: Run, metric: str, evaluator: EvaluatorInfo | None = None) -> SummaryRow:
    """One metric over the whole run.

    Args:
        run: The run.
        metric: A metric that was measured.
        evaluator: Who measures it; None looks that up.
    """
    evaluator = evaluator or run.evaluator_of(metric)
    ran = [record.seconds[evaluator.name] for record in run.history if evaluator and evaluator.name in record.seconds]
    values, best = run.history.values(metric), run.best_of(metric)
    return SummaryRow(
        metric=metric,
        before=values[0][1] if values[0][0] == 0 else None,
        best=None if best is None else best.metrics[metric],
        best_step=None if best is None else best.step,
        last=values[-1][1],
        runs=len(ran),
        seconds=math.fsum(ran),
        decides=metric == run.info.deciding_metric,
        greater_is_better=run.greater_is_better(metric),
    )
