"""What a user is told when something is not there."""

from __future__ import annotations

import difflib
import functools
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import ParamSpec

P = ParamSpec("P")


class Problem(Exception):
    """Something asked for is not there, or fails; its message is one line for the user, "" when another tells it."""


def telling(command: Callable[P, None]) -> Callable[P, None]:
    """A command whose problems go to stderr as one line, with exit code 1.

    With its argument `traceback=True` what is behind a problem is shown above that.
    """

    @functools.wraps(command)
    def told(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except Problem as problem:
            import typer

            if kwargs.get("traceback") and problem.__cause__ is not None:
                sys.stderr.write("".join(traceback.format_exception(problem.__cause__)))
            if str(problem):
                sys.stderr.write(f"st-eval: {' '.join(str(problem).split())}\n")
            raise typer.Exit(1) from None

    return told


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """A hint at what was probably meant, with a space before it; "" where nothing is near."""
    choices = list(allowed)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.5) or [
        one for one in choices if one.endswith(f"_{name}")
    ]
    return f" Did you mean {near[0]!r}?" if near else ""


def known_metric(name: str, allowed: Sequence[str]) -> str:
    """The metric that is meant, with or without "eval_".

    Raises:
        Problem: When there is no such metric; says what was probably meant.
    """
    metric = name if name in allowed else name.removeprefix("eval_")
    if metric not in allowed:
        raise Problem(f"there is no metric {name!r}.{did_you_mean(metric, allowed)} {_listed(allowed)}")
    return metric


def matching(patterns: Sequence[str], allowed: Sequence[str]) -> list[str]:
    """Metrics that fit any of some patterns (`*`, `?`), in their own order.

    Raises:
        Problem: When nothing fits one of them.
    """
    found: set[str] = set()
    for given in patterns:
        pattern = given if given in allowed else given.removeprefix("eval_")
        fitting = [name for name in allowed if name == pattern or fnmatchcase(name, pattern)]
        if not fitting:
            raise Problem(f"no metric fits {given!r}.{did_you_mean(pattern, allowed)} {_listed(allowed)}")
        found.update(fitting)
    return [name for name in allowed if name in found]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8])
    return f"There is: {shown}{f' and {len(names) - 8} more' if len(names) > 8 else ''}."
