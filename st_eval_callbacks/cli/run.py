"""`st-eval run`: evaluates a model that is there already."""

from __future__ import annotations

import json
import math
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..history import RUN_FILE, EvalRecord, History
from ..writers.files import replace_file, set_aside
from .models import Kind
from .output import number, strict, write_json, write_lines, write_table
from .problems import Problem, telling

if TYPE_CHECKING:
    import typer

    from ..tasks import Task
    from .measuring import Measured

JSON_FILE = "evaluation_results.json"
_PACKAGES = ("st-eval-callbacks", "sentence-transformers", "transformers", "torch")

HELP = """Evaluate a model: of any kind, by name or path, or a checkpoint.

FILE.py holds a function that returns an evaluator, a list, or {name: evaluator}; it is given the model if it has a
parameter for it.

\b
Example:
  st-eval run runs/search_api_docs/checkpoint-100 --evaluators evaluators.py:build
  torchrun --nproc_per_node 2 -m st_eval_callbacks run MODEL --evaluators evaluators.py:build
"""


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    import typer

    model = typer.Argument(help="Folder of a model or checkpoint, or its name on the Hub.", metavar="MODEL")
    evaluators = typer.Option(..., "--evaluators", metavar="FILE.py:FUNCTION", help="What builds the evaluators.")
    output = typer.Option(None, "--output", "-o", metavar="DIR", help="Where results go, else evaluation/<model>.")
    batch_size = typer.Option(None, "--batch-size", min=1, help="Most texts a batch, else their lengths decide.")
    device = typer.Option(None, "--device", metavar="NAME", help="Such as cpu or cuda:1.")
    kind = typer.Option(None, "--kind", help="Kind of the model, where it does not say so itself.")
    as_json = typer.Option(False, "--json", help="JSON instead of a table.")
    traceback = typer.Option(False, "--traceback", help="Show where an evaluator failed.")

    @app.command("run", help=HELP)
    @telling
    def command(
        model: str = model,
        evaluators: str = evaluators,
        output: Path = output,
        batch_size: int = batch_size,
        device: str = device,
        kind: Kind = kind,
        as_json: bool = as_json,
        traceback: bool = traceback,
    ) -> None:
        from .. import distributed
        from .evaluators_file import load_build
        from .measuring import measure, own_folder, processes, quiet_stdout

        folder = output or own_folder(model)
        with processes(device) as own_device:
            start = time.perf_counter()
            with quiet_stdout(as_json):
                measured = measure(
                    model,
                    load_build(evaluators),
                    lambda tasks: make_ready(folder, tasks),
                    kind=kind,
                    device=own_device,
                    batch_size=batch_size,
                )
            with distributed.guarded():
                if distributed.is_main_process():
                    results = write_all(folder, model, measured, time.perf_counter() - start)
                    _show(results, folder, as_json)


def make_ready(folder: Path, tasks: list[Task]) -> str:
    """Keep the files of an earlier evaluation under other names.

    Returns:
        Where evaluators write.

    Raises:
        Problem: When the folder cannot be written to.
    """
    from ..writers.per_query import FOLDER
    from ..writers.results import FILE_NAME

    tables = [f"eval/{name}" for task in tasks for name in task.csv_files()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (FILE_NAME, JSON_FILE, RUN_FILE, f"eval/{FOLDER}", *tables):
            set_aside(folder / name)
    except OSError as error:
        raise Problem(f"results cannot be written to {folder}: {error}") from error
    return str(folder / "eval")


def write_all(folder: Path, model: str, measured: Measured, seconds: float) -> dict[str, Any]:
    """Write the table, the JSON, and what `show` and `compare` read.

    Returns:
        What is in the JSON.
    """
    from .. import distributed
    from ..scorers import scorer_for
    from ..writers.results import write_results
    from ..writers.run_file import write_run

    outcome = measured.outcome
    info = _info(measured)
    history = History([EvalRecord(measured.step, measured.epoch, outcome.merged, outcome.seconds)])
    results = {
        "model": model,
        "kind": scorer_for(measured.model).kind,
        "step": measured.step,
        "epoch": measured.epoch,
        "device": str(getattr(measured.model, "device", "")),
        "num_processes": distributed.num_processes(),
        "versions": _versions(),
        "primary_metric": info.deciding_metric,
        "metrics": outcome.merged,
        "seconds": outcome.seconds,
        "total_seconds": seconds,
        "evaluators": [
            {"name": one.name, "class": one.kind, "primary_metric": one.primary_metric} for one in info.evaluators
        ],
    }
    replace_file(folder / JSON_FILE, json.dumps(strict(results), indent=1, allow_nan=False) + "\n")
    write_results(folder, history, info)
    write_run(folder, info, history)
    return results


def _info(measured: Measured) -> Any:
    from ..selection import describe
    from ..writers.run_file import RunInfo

    evaluators = tuple(describe(task, list(measured.outcome.metrics[task])) for task in measured.tasks)
    return RunInfo(evaluators[0].primary_metric, evaluators[0].greater_is_better, evaluators=evaluators)


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _show(results: dict[str, Any], folder: Path, as_json: bool) -> None:
    if as_json:
        write_json({**results, "folder": folder})
        return
    primaries = {one["primary_metric"] for one in results["evaluators"]}
    rows = [[name + (" *" if name in primaries else ""), number(value)] for name, value in results["metrics"].items()]
    write_table(["metric", "value"], rows, f"{results['model']} ({results['kind']})")
    each = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in results["seconds"].items())
    total = math.fsum(results["seconds"].values())
    write_lines("", "* primary metric of its evaluator", f"evaluated in {total:.1f} s: {each}", f"results: {folder}")
