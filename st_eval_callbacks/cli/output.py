"""What goes to stdout: tables and lines for people, JSON for programs."""

from __future__ import annotations

import contextlib
import io
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..report.numbers import value_format


@contextlib.contextmanager
def nothing_unprintable() -> Iterator[None]:
    """Where stdout takes only some characters, such as ASCII, the others are shown as escapes."""
    stdout = sys.stdout
    if not isinstance(stdout, io.TextIOWrapper):
        yield
        return
    before = stdout.errors
    stdout.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        stdout.reconfigure(errors=before)


def write_json(value: Any) -> None:
    """Print strict JSON: what is undefined is null."""
    sys.stdout.write(json.dumps(strict(value), indent=1, allow_nan=False, default=str) + "\n")


def write_lines(*lines: str) -> None:
    """Print lines; an empty text leaves a line empty."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def write_table(header: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """Print a table: the first column to the left, numbers to the right; without lines where nobody looks at it.

    Args:
        header: Names of the columns.
        rows: Cells, as many as there are names.
        title: Line above.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, emoji=False, highlight=False)
    table = Table(box=SIMPLE_HEAD if console.is_terminal else None, pad_edge=False)
    for place, name in enumerate(header):
        table.add_column(name, justify="right" if place else "left", overflow="fold", no_wrap=not console.is_terminal)
    for row in rows:
        table.add_row(*row)
    if title:
        write_lines(title)
    if console.is_terminal:
        console.print(table)
        return
    # A file or a pipe has no width.
    console.width = 10_000
    with console.capture() as captured:
        console.print(table)
    write_lines(*(line.rstrip() for line in captured.get().splitlines()))


def number(value: float | None, form: str | None = None) -> str:
    """A value as text: "-" where there is none, "nan" where it is undefined.

    Args:
        value: The value.
        form: A format; None takes one that suits the value.
    """
    return "-" if value is None else f"{value:{value_format([value]) if form is None else form}}"


def interval(low: float, high: float, form: str | None = None) -> str:
    """An interval as text; its ends have one format."""
    form = value_format([low, high]) if form is None else form
    return f"{number(low, form)} to {number(high, form)}"


def strict(value: Any) -> Any:
    """A value that strict JSON can hold: numbers that are not finite become None, mappings get keys of text."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): strict(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(one) for one in value]
    return value
