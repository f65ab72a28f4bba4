"""One CSV an evaluator, as sentence-transformers writes it: `epoch,steps`, then the evaluator's columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from .files import replace_file, set_aside


def append_row(path: Path, header: Sequence[str], row: Sequence[object]) -> None:
    """Add one row, under one header as wide as the row.

    A file whose header differs (another similarity function, other cutoffs) is kept under another name first, so that
    no row ever stands under the wrong column.

    Args:
        path: The file; made when missing.
        header: Column names.
        row: Values, one a column.

    Raises:
        ValueError: When the row is not as wide as the header.
    """
    if len(header) != len(row):
        raise ValueError(f"{len(row)} values for {len(header)} columns of {path.name}.")
    rows = _complete_rows(path)
    if rows and rows[0] != [str(column) for column in header]:
        set_aside(path)
        rows = []
    replace_file(path, _text([*(rows or [list(header)]), row]))


def drop_rows_after(path: Path, step: int) -> None:
    """Take out the rows that a resumed run will write again, and a row that a crash cut short.

    Args:
        path: A file of `append_row`'s form; nothing happens when it is missing, and one that cannot be read is kept
            under another name.
        step: The last step whose rows stay.
    """
    try:
        rows = _complete_rows(path)
        if len(rows) < 1 or rows[0][:2] != ["epoch", "steps"]:
            return
        kept = [row for row in rows[1:] if float(row[1]) <= step]
    except (ValueError, csv.Error):
        # Somebody has changed it, and no row could be added to it.
        set_aside(path)
        return
    replace_file(path, _text([rows[0], *kept]))


def _complete_rows(path: Path) -> list[list[str]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))
    return [row for row in rows if row and len(row) == len(rows[0])]


def _text(rows: Sequence[Sequence[object]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()
