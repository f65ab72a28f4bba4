"""One model, evaluated as the callback does it: all evaluators over one session, on all processes together."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .. import distributed
from ..evaluation import EvalSettings, Outcome, evaluate
from ..selection import known_names
from ..tasks import EvaluationError, Task, build_tasks
from .evaluators_file import build_evaluators
from .models import Kind, load_model, trained_steps
from .problems import Problem


@dataclass(frozen=True)
class Measured:
    """What evaluators found of a model.

    Attributes:
        model: The model.
        tasks: The evaluators.
        outcome: What they measured.
        step: Steps the model was trained, as far as known.
        epoch: Epochs it was trained.
    """

    model: Any
    tasks: list[Task]
    outcome: Outcome
    step: int
    epoch: float


@contextlib.contextmanager
def processes(device: str | None) -> Iterator[str | None]:
    """Join the processes of `torchrun`, and let the main one alone tell of problems.

    Args:
        device: What the user asked for.

    Yields:
        The device for this process, or None for sentence-transformers to choose.
    """
    on_cpu = device == "cpu" or not torch.accelerator.is_available()
    with distributed.launched(on_cpu=on_cpu) as own:
        is_main = distributed.is_main_process()
        try:
            yield own if own is not None else device
        except (Problem, distributed.OtherProcessError) as error:
            if not is_main:
                raise Problem("") from None
            if isinstance(error, Problem):
                raise
            raise Problem(f"another process failed: {_last_line(error)}") from error


def measure(
    name: str,
    build: Callable[..., Any],
    output_path: Callable[[list[Task]], str | None],
    *,
    kind: Kind | None,
    device: str | None,
    batch_size: int | None,
) -> Measured:
    """Load a model and evaluate it.

    Args:
        name: Folder, or name on the Hub.
        build: Builds the evaluators.
        output_path: Given the evaluators, makes ready and names the folder for what they write; called on the main
            process alone.
        kind: Kind of the model; None finds out.
        device: Where it computes.
        batch_size: Most texts a batch; None lets their lengths decide.

    Raises:
        Problem: When the model cannot be loaded, or an evaluator does not fit or fails.
    """
    with distributed.guarded():
        model = load_model(name, kind, device)
        step, epoch = trained_steps(name)
        try:
            tasks = build_tasks(build_evaluators(build, model), None)
            known_names(tasks, model)
        except (TypeError, ValueError) as error:
            raise Problem(str(error)) from error
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
            raise Problem(f"the evaluators cannot be made ready: {told} (--traceback shows where)") from error
        folder = output_path(tasks) if distributed.is_main_process() else None
    settings = EvalSettings(
        show_progress_bar=distributed.is_main_process() and sys.stderr.isatty(), batch_size=batch_size
    )
    try:
        outcome = evaluate(tasks, model, output_path=folder, epoch=epoch, step=step, settings=settings)
    except EvaluationError as error:
        told = str(error).removesuffix(", shown above.")
        raise Problem(f"{told}: {_last_line(error.__cause__)} (--traceback shows where)") from error
    return Measured(model, tasks, outcome, step, epoch)


def quiet_stdout(wanted: bool) -> contextlib.AbstractContextManager[Any]:
    """Where stdout is for JSON alone: what evaluators print goes to stderr."""
    return contextlib.redirect_stdout(sys.stderr) if wanted else contextlib.nullcontext()


def own_folder(name: str) -> Path:
    """Where results of a model go when the user names no folder."""
    from ..writers.files import safe_name

    path = Path(os.path.abspath(name)) if Path(name).exists() else Path(name)
    parts = path.parts[-2:] if path.name.startswith("checkpoint-") else path.parts[-1:]
    return Path("evaluation") / safe_name("_".join(parts))


def _last_line(error: BaseException | None) -> str:
    lines = str(error).strip().splitlines() if error is not None else []
    return lines[-1].strip() if lines else ""
