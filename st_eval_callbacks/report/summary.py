"""One row an evaluator over a whole run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..history import History


@dataclass(frozen=True)
class SummaryRow:
    """One evaluator over the whole run.

    Attributes:
        metric: Its primary metric (log key without "eval_").
        before: Value before the first step, or None when it was not measured then.
        best: Best value at a checkpoint, or None when nothing finite was measured.
        best_step: Where that was.
        last: Last value.
        runs: How often it ran.
        seconds: Seconds in all.
        decides: Whether this metric decides the best checkpoint.
    """

    metric: str
    before: float | None
    best: float | None
    best_step: int | None
    last: float | None
    runs: int
    seconds: float
    decides: bool

    @property
    def change(self) -> float | None:
        """Best against before; without a baseline, last against first is not the same thing, so None."""
        return None if self.before is None or self.best is None else self.best - self.before


def summarise(
    history: History, primaries: Mapping[str, str], decisive: str | None, greater_is_better: bool = True
) -> list[SummaryRow]:
    """One row an evaluator.

    Args:
        history: The run.
        primaries: Primary metric by evaluator.
        decisive: The metric that decides the best.
        greater_is_better: Whether higher values of it are better.

    Returns:
        Rows in the order of `primaries`; evaluators that never ran are left out.
    """
    rows = []
    for name, metric in primaries.items():
        values = history.values(metric)
        if not values:
            continue
        greater = greater_is_better if metric == decisive else True
        best = history.best(metric, greater)
        ran = [record.seconds[name] for record in history if name in record.seconds]
        rows.append(
            SummaryRow(
                metric=metric,
                before=values[0][1] if values[0][0] == 0 else None,
                best=None if best is None else best.metrics[metric],
                best_step=None if best is None else best.step,
                last=values[-1][1],
                runs=len(ran),
                seconds=sum(ran),
                decides=metric == decisive,
            )
        )
    return rows
