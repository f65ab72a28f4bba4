"""`st-eval show`: the table of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..report.kept import KeptItems
from ..report.run import Run
from ..report.statistics import MeanInterval, mean_interval
from ..report.summary import SummaryRow, summary_row
from ..report.table import HEADER, cells
from .output import interval, number, write_json, write_lines, write_table
from .problems import matching, telling
from .reading import kept_values, read_run

if TYPE_CHECKING:
    import typer

HELP = """Show what a run measured: before training, at best, at last.

\b
Example:
  st-eval show runs/search_api_docs
  st-eval show runs/search_api_docs --metric "*ndcg*" --interval
"""


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    import typer

    run = typer.Argument(help="output_dir of a run, or a checkpoint in it.", metavar="RUN")
    metrics = typer.Option(
        None, "--metric", "--metrics", metavar="GLOB", help="Only metrics like this; may be given again."
    )
    everything = typer.Option(False, "--all", help="Every step and every metric.")
    with_interval = typer.Option(False, "--interval", help="95 % intervals, where values of single queries were kept.")
    as_json = typer.Option(False, "--json", help="JSON instead of a table.")

    @app.command("show", help=HELP)
    @telling
    def command(
        run: Path = run,
        metrics: list[str] = metrics,
        everything: bool = everything,
        with_interval: bool = with_interval,
        as_json: bool = as_json,
    ) -> None:
        found = read_run(run)
        if everything:
            _show_all(found, metrics, as_json)
        else:
            _show_summary(found, metrics, with_interval, as_json)


def best_checkpoint(run: Run) -> Path | None:
    """The checkpoint of the best, as far as it is still there."""
    return None if run.best is None else run.checkpoints.get(run.best.step)


def _show_summary(run: Run, metrics: Sequence[str], with_interval: bool, as_json: bool) -> None:
    measured = run.history.metric_names()
    shown = [name for evaluator in run.info.evaluators for name in run.shown_metrics(evaluator) if name in measured]
    rows = [summary_row(run, name) for name in (matching(metrics, measured) if metrics else shown or measured)]
    intervals = _intervals(run, rows) if with_interval else {}
    checkpoint, best = best_checkpoint(run), run.best
    if as_json:
        told = [_row_as_json(row, intervals.get(row.metric)) for row in rows]
        best_as_json = None if best is None else {"step": best.step, "epoch": best.epoch, "checkpoint": checkpoint}
        info = {"deciding_metric": run.info.deciding_metric, "greater_is_better": run.info.greater_is_better}
        write_json({"folder": run.folder, **info, "best": best_as_json, "metrics": told})
        return
    header, lines = [*HEADER], [[*cells(row)] for row in rows]
    if with_interval:
        header.append("95 % interval")
        for row, line in zip(rows, lines, strict=True):
            one = intervals.get(row.metric)
            line.append("-" if one is None else interval(one.low, one.high))
    count = "1 evaluation" if len(run.history) == 1 else f"{len(run.history)} evaluations"
    write_table(header, lines, f"{run.folder}: {count} up to step {run.history.records[-1].step}")
    write_lines("")
    if checkpoint is not None:
        write_lines(f"* decides the best checkpoint: {checkpoint}")
    elif best is not None and len(run.history) > 1:
        write_lines(f"* decides the best: step {best.step}, of which no checkpoint is on disk")
    lower = [row.metric for row in rows if not row.greater_is_better]
    if lower:
        write_lines(f"less is better: {', '.join(lower)}")
    if with_interval and not intervals:
        write_lines("no values of single queries were kept at these steps: keep_per_query=True keeps them")


def _intervals(run: Run, rows: Sequence[SummaryRow]) -> dict[str, MeanInterval]:
    """Interval of the best value by metric, or of the last where none is best, as far as its parts were kept."""
    kept = KeptItems(run.folder)
    found = {}
    for row in rows:
        step = run.history.values(row.metric)[-1][0] if row.best_step is None else row.best_step
        values = kept_values(kept, step).get(row.metric)
        if values:
            found[row.metric] = mean_interval(list(values.values()))
    return found


def _row_as_json(row: SummaryRow, one: MeanInterval | None) -> dict[str, Any]:
    told = {name: getattr(row, name) for name in ("metric", "before", "best", "best_step", "last", "change", "runs")}
    told.update(seconds=row.seconds, decides=row.decides, greater_is_better=row.greater_is_better)
    return told if one is None else {**told, "interval": [one.low, one.high], "num_items": one.num_items}


def _show_all(run: Run, metrics: Sequence[str], as_json: bool) -> None:
    names = run.history.metric_names()
    names = matching(metrics, names) if metrics else names
    if as_json:
        records = [
            {
                "step": record.step,
                "epoch": record.epoch,
                "seconds": record.total_seconds,
                "metrics": {name: record.metrics[name] for name in names if name in record.metrics},
            }
            for record in run.history
        ]
        write_json({"folder": run.folder, "records": records})
        return
    lines = [
        [name, str(record.step), f"{record.epoch:.2f}", number(record.metrics[name])]
        for name in names
        for record in run.history
        if name in record.metrics
    ]
    write_table(["metric", "step", "epoch", "value"], lines)
