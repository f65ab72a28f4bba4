"""`st-eval compare`: runs beside each other, and whether they differ by more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..report.comparison import Change, Comparison, Side, common_metrics, compare
from ..report.numbers import value_format
from ..report.run import checkpoint_of
from .output import interval, number, write_json, write_lines, write_table
from .problems import Problem, matching, telling
from .reading import kept_values, read_run

if TYPE_CHECKING:
    import typer

HELP = """Compare runs, each at its best step, with the first of them.

Where both kept values of single queries (keep_per_query=True), the difference has a 95 % interval and the p
value of a paired randomisation test.

\b
Example:
  st-eval compare runs/baseline runs/longer --metric "*ndcg*"
  st-eval compare runs/a/checkpoint-100 runs/a/checkpoint-200
"""


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    import typer

    runs = typer.Argument(
        help="Two or more runs or checkpoints; the first is the baseline.", metavar="RUN_A RUN_B ..."
    )
    metrics = typer.Option(
        None, "--metric", "--metrics", metavar="GLOB", help="Only metrics like this; may be given again."
    )
    step = typer.Option(None, "--step", metavar="N", help="Compare at this step, not at each run's best.")
    as_json = typer.Option(False, "--json", help="JSON instead of a table.")

    @app.command("compare", help=HELP)
    @telling
    def command(
        runs: list[Path] = runs, metrics: list[str] = metrics, step: int = step, as_json: bool = as_json
    ) -> None:
        if len(runs) < 2:
            raise typer.BadParameter("at least two runs or checkpoints.", param_hint="RUN_A RUN_B ...")
        found = compare_paths(runs, metrics, step)
        if as_json:
            write_json(_as_json(found))
        else:
            _show(found)


def compare_paths(paths: Sequence[Path], patterns: Sequence[str], step: int | None) -> Comparison:
    """Compare what is at some paths.

    Raises:
        Problem: When a run, a step or a metric is not there.
    """
    sides: list[Side] = []
    notes: list[str] = []
    for path, label in zip(paths, _labels(paths), strict=True):
        run = read_run(path)
        # The history of a checkpoint ends at its step.
        checkpoint = checkpoint_of(path)
        own = run.history.records[-1].step if checkpoint is not None else None
        if step is None and checkpoint is not None and checkpoint.name != f"checkpoint-{own}":
            notes.append(f"{label}: nothing was measured at {checkpoint.name}; this is step {own}.")
        try:
            sides.append(Side.of(run, label, own if step is None else step))
        except LookupError as error:
            raise Problem(str(error.args[0])) from error
        kept_values(sides[-1].kept, sides[-1].record.step)
    names = common_metrics([side.run for side in sides])
    if not names:
        each = [f"{side.label} has {', '.join(side.run.history.metric_names()[:3])} ..." for side in sides]
        raise Problem(f"the runs have no metric in common: {'; '.join(each)}.")
    found = compare(sides, matching(patterns, names) if patterns else names)
    if not found.metrics:
        raise Problem(f"the runs have no metric in common at these steps. {' '.join(found.notes)}")
    return replace(found, notes=(*notes, *found.notes))


def _labels(paths: Sequence[Path]) -> list[str]:
    """The last parts of the paths, as many as tell them apart."""
    absolute = [path.absolute().parts for path in paths]
    for length in range(1, max(map(len, absolute)) + 1):
        labels = ["/".join(parts[-length:]) for parts in absolute]
        if len(set(labels)) == len(labels):
            return labels
    return [str(path) for path in paths]


def _show(found: Comparison) -> None:
    first, *others = found.sides
    header = ["metric", f"{first.label} ({first.record.step})"]
    for side in others:
        header += [f"{side.label} ({side.record.step})", "difference", "95 % interval", "p"]
    lines = []
    for row in found.metrics:
        # One form for all numbers of a metric: a tiny difference of large values is shown as one.
        form = value_format(value for value in row.values if value is not None)
        line = [row.metric, number(row.values[0], form)]
        for value, change in zip(row.values[1:], row.changes, strict=True):
            line += [number(value, form), *_cells(change, form)]
        lines.append(line)
    write_table(header, lines)
    tests = [change.test for row in found.metrics for change in row.changes if change is not None]
    counts = sorted({test.num_items for test in tests if test is not None})
    notes = list(found.notes)
    if counts:
        over = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        notes.insert(0, f"p: paired randomisation test over {over} items; not corrected for the number of metrics.")
    lower = [row.metric for row in found.metrics if not row.greater_is_better]
    if lower:
        notes.insert(0, f"less is better: {', '.join(lower)}")
    if notes:
        write_lines("", *notes)


def _cells(change: Change | None, form: str) -> list[str]:
    if change is None:
        return ["-", "-", "-"]
    test = change.test
    tested = ["-", "-"] if test is None else [interval(test.low, test.high, f"+{form}"), f"{test.p_value:.4f}"]
    return [number(change.difference, f"+{form}"), *tested]


def _as_json(found: Comparison) -> dict[str, Any]:
    runs = [{"label": side.label, "folder": side.run.folder, "step": side.record.step} for side in found.sides]
    metrics = [
        {
            "metric": row.metric,
            "greater_is_better": row.greater_is_better,
            "values": row.values,
            "changes": [None if one is None else _change_as_json(one) for one in row.changes],
        }
        for row in found.metrics
    ]
    return {"runs": runs, "metrics": metrics, "notes": found.notes}


def _change_as_json(change: Change) -> dict[str, Any]:
    test = change.test
    if test is None:
        return {"difference": change.difference}
    counts = {name: getattr(test, name) for name in ("num_items", "num_left_only", "num_right_only", "num_left_out")}
    return {
        "difference": change.difference,
        "interval": [test.low, test.high],
        "p_value": test.p_value,
        "is_exact": test.is_exact,
        **counts,
    }
