"""Tables as text: with rich where it is installed, plain else."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..history import History
from ..writers.results import FILE_NAME
from .summary import SummaryRow, summarise

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
