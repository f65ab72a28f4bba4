"""The command line `st-eval`: what a run measured, and evaluations of models that are there already."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib import metadata

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: What follows the program's name; None takes `sys.argv`.

    Returns:
        Exit code: 0 fine, 1 something asked for is not there or fails, 2 it was called wrongly.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given == ["--version"]:
        # Also where the rest of the command line is not installed.
        sys.stdout.write(f"st-eval-callbacks {metadata.version('st-eval-callbacks')}\n")
        return 0
    missing = [name for name in ("typer", "rich") if importlib.util.find_spec(name) is None]
    if missing:
        sys.stderr.write(f'st-eval needs {" and ".join(missing)}: pip install "st-eval-callbacks[report]"\n')
        return 1
    from .app import build_app
    from .output import nothing_unprintable

    try:
        with nothing_unprintable():
            build_app()(args=given, prog_name="st-eval")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    return 0
