"""What a person sees of a run: the table at its end."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .history import History
from .writers.results import FILE_NAME

logger = logging.getLogger(__name__)


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


HEADER = ("metric", "before", "best (step)", "last", "change", "runs", "seconds")


def cells(row: SummaryRow) -> tuple[str, ...]:
    """A row as text; the metric that decides the best has a star."""
    best = "-" if row.best is None else f"{row.best:.4f} ({row.best_step})"
    return (
        row.metric + (" *" if row.decides else ""),
        _number(row.before),
        best,
        _number(row.last),
        "-" if row.change is None else f"{row.change:+.4f}",
        str(row.runs),
        f"{row.seconds:.1f}",
    )


def table_text(rows: Sequence[SummaryRow], title: str = "Evaluation", width: int | None = None) -> str:
    """The table: with rich where it is installed, as plain text else.

    Args:
        rows: What `summarise` gives.
        title: Line above it.
        width: Characters a line; None takes as many as it needs.

    Returns:
        Text of several lines.
    """
    lines = [cells(row) for row in rows]
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        widths = [max(len(line[i]) for line in [HEADER, *lines]) for i in range(len(HEADER))]
        text = [
            "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
            for line in [HEADER, *lines]
        ]
        return "\n".join([title, *text])
    table = Table(title=title, title_justify="left")
    for i, name in enumerate(HEADER):
        table.add_column(name, justify="left" if i == 0 else "right", no_wrap=True)
    for line in lines:
        table.add_row(*line)
    stream = io.StringIO()
    Console(file=stream, width=width or 40 + 20 * len(HEADER), color_system=None).print(table)
    return stream.getvalue().rstrip("\n")


def show_summary(
    history: History,
    primaries: Mapping[str, str],
    decisive: str | None,
    greater_is_better: bool,
    output_dir: Path,
    best_checkpoint: str | None,
) -> None:
    """Print the table and where the files are."""
    rows = summarise(history, primaries, decisive, greater_is_better)
    lines = [table_text(rows)] if rows else []
    if decisive is not None:
        lines.append(f"* decides the best checkpoint: {best_checkpoint or 'none was saved'}")
    lines.append(f"all values: {output_dir / FILE_NAME}")
    sys.stdout.write("\n" + "\n".join(lines) + "\n")
    sys.stdout.flush()


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
