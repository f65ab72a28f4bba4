"""`st-eval plot`: the curves of a run as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..writers.results import PLOT_FILE
from .output import write_json, write_lines
from .problems import Problem, matching, telling
from .reading import read_run

if TYPE_CHECKING:
    import typer


HELP = """Draw the curves of a run into a picture (PNG, SVG or PDF, by the ending).

\b
Example:
  st-eval plot runs/search_api_docs
  st-eval plot runs/search_api_docs --metric "*ndcg@10" -o curves.svg
"""


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    import typer

    run = typer.Argument(help="output_dir of a run, or a checkpoint in it.", metavar="RUN")
    metrics = typer.Option(
        None, "--metric", "--metrics", metavar="GLOB", help="Only metrics like this; may be given again."
    )
    output = typer.Option(None, "--output", "-o", metavar="FILE", help=f"Where to write it, else {PLOT_FILE} in RUN.")
    as_json = typer.Option(False, "--json", help="JSON that says where the picture is.")

    @app.command("plot", help=HELP)
    @telling
    def command(run: Path = run, metrics: list[str] = metrics, output: Path = output, as_json: bool = as_json) -> None:
        found = read_run(run)
        names = matching(metrics, found.history.metric_names()) if metrics else None
        path = output or found.folder / PLOT_FILE
        if path.is_dir():
            path = path / PLOT_FILE
        elif not path.suffix:
            path = path.with_name(f"{path.name}.png")
        from ..report.plot import plot

        try:
            plot(found, path, names)
        except ImportError as error:
            if (error.name or "").partition(".")[0] != "matplotlib":
                raise
            raise Problem('a picture needs matplotlib: pip install "st-eval-callbacks[report]"') from error
        except (OSError, ValueError) as error:
            raise Problem(f"the picture cannot be written to {path}: {error}") from error
        if as_json:
            write_json({"path": path})
        else:
            write_lines(f"{path}")
