"""The commands, put together."""

from __future__ import annotations

import sys
from importlib import metadata
from typing import TYPE_CHECKING

from . import compare, plot, rank, run, show

if TYPE_CHECKING:
    import typer

NAME = "st-eval-callbacks"


def build_app() -> typer.Typer:
    """The application with all its commands."""
    import typer

    # Plain help: boxes are for screens, and help is read in logs and pipes too.
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    def tell_version(asked: bool) -> None:
        if asked:
            sys.stdout.write(f"{NAME} {metadata.version(NAME)}\n")
            raise typer.Exit

    version = typer.Option(
        False, "--version", help="Show the version and leave.", callback=tell_version, is_eager=True
    )

    def st_eval(version: bool = version) -> None:
        pass

    app.callback(
        help="""Look at evaluations of sentence-transformers models: those of training runs, and new ones.

        Each command shows an example: st-eval COMMAND --help
        """
    )(st_eval)
    for command in (show, plot, rank, compare, run):
        command.add_to(app)
    return app
