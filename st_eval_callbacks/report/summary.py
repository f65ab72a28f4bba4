"""One row an evaluator over a whole run, and what evaluating cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..history import History
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
    """

    seconds: float
    evaluating: Mapping[str, float]

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
    rows = []
    for evaluator in run.info.evaluators:
        ran = [record.seconds[evaluator.name] for record in run.history if evaluator.name in record.seconds]
        seconds: float | None = math.fsum(ran)
        for metric in run.shown_metrics(evaluator):
            values = run.history.values(metric)
            if not values:
                continue
            best = run.best_of(metric)
            rows.append(
                SummaryRow(
                    metric=metric,
                    before=values[0][1] if values[0][0] == 0 else None,
                    best=None if best is None else best.metrics[metric],
                    best_step=None if best is None else best.step,
                    last=values[-1][1],
                    runs=len(ran),
                    seconds=seconds,
                    decides=metric == run.info.deciding_metric,
                    greater_is_better=run.greater_is_better(metric),
                )
            )
            seconds = None
    return rows
