"""Runs and what they kept, read for a command."""

from __future__ import annotations

from pathlib import Path

from ..history import RUN_FILE
from ..report.kept import KeptItems
from ..report.run import Run
from .problems import Problem, did_you_mean


def read_run(path: Path) -> Run:
    """Read a run that a user named.

    Raises:
        Problem: When there is none, or nothing was evaluated in it.
    """
    try:
        if not path.exists():
            beside = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
            raise Problem(f"there is no {path}.{did_you_mean(path.name, beside)}")
        run = Run.read(path)
    except FileNotFoundError as error:
        below = [one.parent.name for one in sorted(path.glob(f"*/{RUN_FILE}"))]
        hint = f" Runs in it: {', '.join(below)}." if below else ""
        raise Problem(f"{error}{hint}") from error
    except OSError as error:
        raise Problem(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise Problem(f"{error} Name the output_dir of a run.") from error
    if not run.history:
        raise Problem(f"nothing was evaluated in the run of {path}.")
    return run


def kept_values(kept: KeptItems, step: int) -> dict[str, dict[str, float]]:
    """Value by item, by metric, as far as they were kept at a step.

    Raises:
        Problem: When they cannot be read.
    """
    try:
        return kept.at(step)
    except ImportError as error:
        raise Problem(
            'values of single queries are in Parquet files: pip install "st-eval-callbacks[report]"'
        ) from error
    except (OSError, ValueError) as error:
        raise Problem(f"the values of single queries at step {step} cannot be read: {error}") from error
