"""`st-eval rank`: the checkpoints of a run, best first."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..report.run import Run
from .output import number, write_json, write_lines, write_table
from .problems import Problem, known_metric, telling
from .reading import read_run

if TYPE_CHECKING:
    import typer

    from ..tasks import Task

HELP = """Rank the evaluated steps of a run by a metric, and say which of them have a checkpoint on disk.

\b
Example:
  st-eval rank runs/search_api_docs --by docs_cosine_mrr@10 --top 3
  st-eval rank runs/search_api_docs --by test_cosine_ndcg@10 --again --evaluators evaluators.py:build
"""


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    import typer

    run = typer.Argument(help="output_dir of a run.", metavar="RUN")
    by = typer.Option(..., "--by", metavar="METRIC", help="The metric, with or without eval_.")
    top = typer.Option(None, "--top", metavar="N", min=1, help="Only so many.")
    lower = typer.Option(False, "--lower-is-better", help="Rank from low to high, whatever the run says.")
    again = typer.Option(False, "--again", help="Evaluate each checkpoint on disk anew; needs --evaluators.")
    evaluators = typer.Option(None, "--evaluators", metavar="FILE.py:FUNCTION", help="What builds the evaluators.")
    batch_size = typer.Option(None, "--batch-size", min=1, help="Most texts a batch, else their lengths decide.")
    device = typer.Option(None, "--device", metavar="NAME", help="Such as cpu or cuda:1.")
    as_json = typer.Option(False, "--json", help="JSON instead of a table.")
    traceback = typer.Option(False, "--traceback", help="Show where an evaluator failed.")

    @app.command("rank", help=HELP)
    @telling
    def command(
        run: Path = run,
        by: str = by,
        top: int = top,
        lower: bool = lower,
        again: bool = again,
        evaluators: str = evaluators,
        batch_size: int = batch_size,
        device: str = device,
        as_json: bool = as_json,
        traceback: bool = traceback,
    ) -> None:
        if again != (evaluators is not None):
            raise typer.BadParameter("--again and --evaluators go together.")
        found = read_run(run)
        if again:
            from ..distributed import is_main_process
            from .measuring import processes, quiet_stdout

            with processes(device) as own, quiet_stdout(as_json):
                ranking = rank_again(found, by, evaluators, lower, own, batch_size)
                is_main = is_main_process()
            if not is_main:
                return
        else:
            ranking = rank_logged(found, by, lower)
        _show(found, ranking, top, as_json)


@dataclass(frozen=True)
class Place:
    """One step in the ranking.

    Attributes:
        step: The step.
        epoch: Epochs done there.
        value: What it is ranked by; NaN comes last.
        logged: The value in the run's log, or None.
        checkpoint: Where its checkpoint is, or None when it is not on disk.
    """

    step: int
    epoch: float
    value: float
    logged: float | None
    checkpoint: Path | None


@dataclass(frozen=True)
class Ranking:
    """Steps, best first.

    Attributes:
        metric: What they are ranked by.
        greater_is_better: Whether higher values are better.
        is_fresh: Whether the values were measured now.
        places: The steps.
    """

    metric: str
    greater_is_better: bool
    is_fresh: bool
    places: tuple[Place, ...]


def rank_logged(run: Run, by: str, lower_is_better: bool) -> Ranking:
    """Rank the steps after step 0 by the values in the log.

    Raises:
        Problem: When there is no such metric, or none was measured after step 0.
    """
    metric = known_metric(by, run.history.metric_names())
    checkpoints = run.checkpoints
    places = [
        Place(record.step, record.epoch, value, value, checkpoints.get(record.step))
        for record in run.history
        if record.step > 0 and (value := record.metrics.get(metric)) is not None
    ]
    if not places:
        raise Problem(f"{metric} was measured before training only.")
    greater = not lower_is_better and run.greater_is_better(metric)
    return Ranking(metric, greater, False, _ranked(places, greater))


def rank_again(
    run: Run, by: str, evaluators: str, lower_is_better: bool, device: str | None, batch_size: int | None
) -> Ranking:
    """Evaluate each checkpoint on disk anew and rank them by that.

    Raises:
        Problem: When there is no checkpoint or no such metric, or an evaluation fails.
    """
    from .evaluators_file import load_build
    from .measuring import measure

    if not run.checkpoints:
        raise Problem(f"there is no checkpoint in {run.folder}.")
    build = load_build(evaluators)
    places: list[Place] = []
    metric, greater = by, True
    for step, path in run.checkpoints.items():
        measured = measure(str(path), build, lambda _: None, kind=None, device=device, batch_size=batch_size)
        metric = known_metric(by, list(measured.outcome.merged))
        owner = next(task for task, metrics in measured.outcome.metrics.items() if metric in metrics)
        greater = not lower_is_better and _greater_is_better(run, metric, owner, measured.outcome.metrics[owner])
        record = run.history.at(step)
        logged = None if record is None else record.metrics.get(metric)
        places.append(Place(step, measured.epoch, measured.outcome.merged[metric], logged, path))
    return Ranking(metric, greater, True, _ranked(places, greater))


def _greater_is_better(run: Run, metric: str, owner: Task, measured: Iterable[str]) -> bool:
    """The direction of a metric: by the run where it knows it, by its evaluator, else by its name."""
    from ..selection import direction

    if metric in run.history.metric_names():
        return run.greater_is_better(metric)
    parts = owner.parts()
    return parts[metric] if metric in parts else direction(metric, _owner_of_primary(owner, metric, measured), None)


def _owner_of_primary(owner: Task, metric: str, measured: Iterable[str]) -> Task | None:
    return owner if metric == owner.primary_metric(measured) else None


def _ranked(places: list[Place], greater_is_better: bool) -> tuple[Place, ...]:
    """Best first; of equal values the earlier step, undefined ones last."""
    sign = -1 if greater_is_better else 1
    return tuple(sorted(places, key=lambda one: (math.isnan(one.value), sign * one.value, one.step)))


def _show(run: Run, ranking: Ranking, top: int | None, as_json: bool) -> None:
    shown = ranking.places[:top]
    if as_json:
        told = {"metric": ranking.metric, "greater_is_better": ranking.greater_is_better, "is_fresh": ranking.is_fresh}
        write_json({"folder": run.folder, **told, "checkpoints": [asdict(place) for place in shown]})
        return
    header = ["place", "step", "epoch", ranking.metric, *(["in the log"] if ranking.is_fresh else []), "checkpoint"]
    lines = [
        [
            str(number_of),
            str(place.step),
            f"{place.epoch:.2f}",
            number(place.value),
            *([number(place.logged)] if ranking.is_fresh else []),
            "not on disk" if place.checkpoint is None else place.checkpoint.name,
        ]
        for number_of, place in enumerate(shown, start=1)
    ]
    write_table(header, lines, f"{run.folder}, {'highest' if ranking.greater_is_better else 'lowest'} first")
    on_disk = sum(place.checkpoint is not None for place in ranking.places)
    write_lines("", f"{on_disk} of {len(ranking.places)} have a checkpoint on disk")
