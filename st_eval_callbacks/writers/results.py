"""`evaluation_results.csv`: the history of a run as one table."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from ..history import RUN_FILE, History
from .files import replace_file, set_aside
from .run_file import RunInfo

FILE_NAME = "evaluation_results.csv"
PLOT_FILE = "evaluation_curves.png"


def results_text(history: History, info: RunInfo, names: Sequence[str] | None = None) -> str:
    """The table: a row for each step at which anything ran, ascending.

    Args:
        history: What was measured.
        info: What decides the best.
        names: Order of the metrics' columns; None takes the order in which they first appeared.

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
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["epoch", "steps", "seconds", "is_best", *names])
    for record in history:
        cells = ["" if name not in record.metrics else _cell(record.metrics[name]) for name in names]
        seconds = f"{record.total_seconds:.4f}"
        writer.writerow([_cell(record.epoch), record.step, seconds, int(record.step in best_steps), *cells])
    return stream.getvalue()


def write_results(folder: Path, history: History, info: RunInfo, names: Sequence[str] | None = None) -> Path:
    """Rewrite `evaluation_results.csv` whole; a reader sees the old table or the new. Arguments as `results_text`.

    Returns:
        The path of the file.
    """
    path = folder / FILE_NAME
    replace_file(path, results_text(history, info, names))
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
    if not path.exists():
        return None
    if history and _steps_upto(path, history.records[-1].step) <= {record.step for record in history}:
        return None
    for name in (RUN_FILE, PLOT_FILE):
        set_aside(folder / name)
    return set_aside(path)


def _steps_upto(path: Path, step: int) -> set[int]:
    steps: set[int] = set()
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            text = row.get("steps") or ""
            if text.isdigit() and int(text) <= step:
                steps.add(int(text))
    return steps


def _cell(value: float) -> str:
    return "nan" if math.isnan(value) else repr(float(value))
