"""The table of a run: with rich where it is installed, plain else, and in HTML for notebooks."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence

from .numbers import fold, text_width, value_format
from .summary import SummaryRow

HEADER = ("metric", "before", "best (step)", "last", "change", "runs", "seconds")

# What a narrow table can do without: the first goes first.
_DROPPED = ("runs", "seconds", "before")
# Names are folded down to this many places before a column is dropped for them.
_NAME_WIDTH = 24


def cells(row: SummaryRow) -> tuple[str, ...]:
    """A row as text; the metric that decides the best has a star."""
    values = [value for value in (row.before, row.best, row.last) if value is not None]
    spec = value_format(values)
    return (
        row.metric + (" *" if row.decides else ""),
        "-" if row.before is None else format(row.before, spec),
        "-" if row.best is None else f"{row.best:{spec}} ({row.best_step})",
        format(row.last, spec),
        "-" if row.change is None else f"{row.change:+{spec}}",
        str(row.runs),
        "" if row.seconds is None else f"{row.seconds:.1f}",
    )


def table_text(
    rows: Sequence[SummaryRow], title: str = "Evaluation", width: int | None = None, *, ascii_only: bool = False
) -> str:
    """The table: with rich where it is installed, as plain text else.

    Args:
        rows: What `summarise` gives.
        title: Line above it.
        width: Most places a line; then long names are folded and the least needed columns left out. None takes as
            many as it needs.
        ascii_only: Whether to draw no lines, for terminals that cannot show them.

    Returns:
        Text of several lines.
    """
    lines = [cells(row) for row in rows]
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        return _plain_text(lines, title, width)
    if ascii_only:
        return _plain_text(lines, title, width)
    names, lines = _fitted(lines, width, between=3, around=1)
    table = Table(title=title, title_justify="left")
    for i, name in enumerate(names):
        table.add_column(name, justify="left" if i == 0 else "right", no_wrap=True)
    for line in lines:
        table.add_row(*line)
    stream = io.StringIO()
    # Names of metrics are anyone's: what looks like markup in them is none.
    console = Console(file=stream, width=10_000, color_system=None, markup=False, emoji=False, highlight=False)
    console.print(table)
    return "\n".join(line.rstrip() for line in stream.getvalue().rstrip("\n").split("\n"))


def table_html(rows: Sequence[SummaryRow], title: str = "Evaluation") -> str:
    """The table as HTML, the row of the deciding metric in bold."""
    right, left = "text-align: right", "text-align: left"
    head = "".join(f'<th style="{right if i else left}">{html.escape(name)}</th>' for i, name in enumerate(HEADER))
    body = []
    for row in rows:
        weight = "; font-weight: bold" if row.decides else ""
        line = [
            f'<td style="{right if i else left}{weight}">{html.escape(cell)}</td>' for i, cell in enumerate(cells(row))
        ]
        body.append(f"<tr>{''.join(line)}</tr>")
    return (
        f"<table><caption>{html.escape(title)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table>"
    )


def _plain_text(lines: Sequence[tuple[str, ...]], title: str, width: int | None) -> str:
    names, lines = _fitted(lines, width, between=2, around=-2)
    text = [title]
    widths = _widths([names, *lines])
    for line in [names, *lines]:
        parts = [cell.split("\n") for cell in line]
        for place in range(max(map(len, parts))):
            shown = [part[place] if place < len(part) else "" for part in parts]
            padded = [
                " " * (w - text_width(cell)) + cell if i else cell + " " * (w - text_width(cell))
                for i, (cell, w) in enumerate(zip(shown, widths, strict=True))
            ]
            text.append("  ".join(padded).rstrip())
    return "\n".join(text)


def _fitted(
    lines: Sequence[tuple[str, ...]], width: int | None, *, between: int, around: int
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows that fit a width, as far as that can be.

    Args:
        lines: Cells of all columns.
        width: Places a line, or None.
        between: Places that go into parting a column from the next.
        around: Places that are needed besides.
    """
    kept = list(range(len(HEADER)))
    widths = _widths([HEADER, *lines])
    if width is None:
        return HEADER, list(lines)
    wanted = min(widths[0], _NAME_WIDTH)
    for name in ("", *_DROPPED):
        kept = [place for place in kept if HEADER[place] != name]
        room = width - around - sum(widths[place] + between for place in kept[1:]) - between
        if room >= wanted:
            break
    room = max(room, len(HEADER[0]))
    folded = [("\n".join(fold(line[0], room)), *(line[place] for place in kept[1:])) for line in lines]
    return tuple(HEADER[place] for place in kept), folded


def _widths(lines: Sequence[tuple[str, ...]]) -> list[int]:
    return [
        max(text_width(part) for line in lines for part in line[place].split("\n")) for place in range(len(lines[0]))
    ]
