"""`evaluation_results.csv`: the history of a run as one table."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from ..history import RUN_FILE, EvalRecord, History
from .files import replace_file, set_aside
from .record_texts import RecordTexts
from .run_file import RunInfo

FILE_NAME = "evaluation_results.csv"
PLOT_FILE = "evaluation_curves.png"


def results_text(
    history: History, info: RunInfo, names: Sequence[str] | None = None, rows: RecordTexts | None = None
) -> str:
    """The table: a row for each step at which anything ran, ascending.

    Args:
        history: What was measured.
        info: What decides the best.
        names: Order of the metrics' columns; None takes the order in which they first appeared.
        rows: Cells of records that were written before.

    Returns:
        CSV text with columns `epoch,steps,seconds,is_best` and one a metric. Cells of evaluators that did not run at a
        step are empty; undefined values are `nan`.
    """
    names = history.metric_names() if names is None else names
    best_steps = set()
    if info.deciding_metric is not None:
        bests = history.improvements(info.deciding_metric, info.greater_is_better, info.min_delta)
        best_steps = {record.step for record in bests}
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerow(["epoch", "steps", "seconds", "is_best", *names])

    def cells(record: EvalRecord) -> str:
        # Numbers need no quotes.
        return "".join(f",{_cell(record.metrics[name])}" if name in record.metrics else "," for name in names)

    for record, text in zip(history, (rows or RecordTexts()).of(history, names, cells), strict=True):
        start = f"{_cell(record.epoch)},{record.step},{record.total_seconds:.4f},{int(record.step in best_steps)}"
        stream.write(f"{start}{text}\n")
    return stream.getvalue()


def write_results(
    folder: Path,
    history: History,
    info: RunInfo,
    names: Sequence[str] | None = None,
    rows: RecordTexts | None = None,
) -> Path:
    """Rewrite `evaluation_results.csv` whole; a reader sees the old table or the new. Arguments as `results_text`.

    Returns:
        The path of the file.
    """
    path = folder / FILE_NAME
    replace_file(path, results_text(history, info, names, rows))
    return path


def keep_foreign_results(folder: Path, history: History) -> Path | None:
    """Keep a table that the coming run would overwrite with less: an earlier run's, or one without these rows.

    Args:
        folder: Where `evaluation_results.csv` is.
        history: What the coming run starts from; empty on a fresh run.

    Returns:
        Where the earlier file went, or None when it may be overwritten.
    """
    path = folder / FILE_NAME
    if history and (not path.exists() or _has_no_more(path, history)):
        return None
    for name in (RUN_FILE, PLOT_FILE):
        # Also where somebody has taken the table away: they tell of the earlier run.
        set_aside(folder / name)
    return set_aside(path)


def _has_no_more(path: Path, history: History) -> bool:
    """Whether a table has no rows but those of a history, and such as come after it."""
    last = history.records[-1].step
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            table = csv.DictReader(stream)
            # Of a table that somebody has changed, such as a spreadsheet, nobody knows what is in it.
            is_ours = "steps" in (table.fieldnames or ["steps"])
            steps = {int(float(row["steps"] or "nan")) for row in table} if is_ours else set()
    except (ValueError, OverflowError, csv.Error):
        return False
    return is_ours and {step for step in steps if step <= last} <= {record.step for record in history}


def _cell(value: float) -> str:
    return "nan" if math.isnan(value) else repr(float(value))
