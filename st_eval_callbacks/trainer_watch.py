"""What is added to four methods of a trainer, where no event tells enough."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

from transformers import Trainer

from . import distributed
from .checkpoints import checkpoint_folders, last_checkpoint, mark_unfinished


def watch(
    trainer: Trainer,
    insists_at: Callable[[], int],
    is_too_little: Callable[[dict[str, float]], bool],
    run_dir: Callable[[], str],
) -> None:
    """Watch a trainer from now on; once is enough, however many callbacks it has.

    Args:
        trainer: The trainer.
        insists_at: The step at which a save is insisted on.
        is_too_little: Whether the metrics of an evaluation are not better enough than the best to take its place.
        run_dir: Where the run writes its checkpoints.
    """
    _watch_decision(trainer, insists_at, is_too_little)
    if getattr(trainer, "_st_eval_watched", False):
        return
    trainer._st_eval_watched = True  # type: ignore[attr-defined]
    _watch_train(trainer)
    _watch_epochs(trainer)
    _watch_saves(trainer, run_dir)


def _watch_decision(
    trainer: Trainer, insists_at: Callable[[], int], is_too_little: Callable[[dict[str, float]], bool]
) -> None:
    """Keep `best_metric` None while nothing finite was measured, and make a save that is insisted on.

    The Trainer starts the best metric at minus infinity, which is no JSON, and a first NaN would leave it there. It
    uses the answer only to save, with `save_strategy="best"`.
    """
    original = trainer._determine_best_metric

    @functools.wraps(original)
    def determine_best_metric(metrics: dict[str, float], trial: Any) -> bool:
        nothing_yet = trainer.state.best_metric is None
        # The Trainer takes any improvement.
        is_new_best = not is_too_little(metrics) and bool(original(metrics=metrics, trial=trial))
        if nothing_yet and not is_new_best:
            trainer.state.best_metric = None
        return is_new_best or insists_at() == trainer.state.global_step

    trainer._determine_best_metric = determine_best_metric  # type: ignore[method-assign]


def _watch_train(trainer: Trainer) -> None:
    """Let `resume_from_checkpoint=True` pass over a checkpoint that was cut short; the Trainer takes the newest.

    The wrapped method raises ValueError when all of them were.
    """
    original = trainer.train

    @functools.wraps(original)
    def train(resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        if resume_from_checkpoint is True:
            folder = str(trainer.args.output_dir)
            resume_from_checkpoint = last_checkpoint(folder) or True
            if resume_from_checkpoint is True and checkpoint_folders(folder):
                raise ValueError(
                    f"no checkpoint in {folder} was written to its end: nothing to resume from. Train anew "
                    "with resume_from_checkpoint=None. last_checkpoint(output_dir) tells the two apart."
                )
        return original(resume_from_checkpoint, *args, **kwargs)

    trainer.train = train  # type: ignore[method-assign]


def _watch_epochs(trainer: Trainer) -> None:
    """Train no step when training is to stop before the first: the Trainer looks only after one."""
    original: Callable[..., Any] = trainer._run_epoch

    @functools.wraps(original)
    def run_epoch(*args: Any, **kwargs: Any) -> Any:
        return None if trainer.control.should_training_stop else original(*args, **kwargs)

    trainer._run_epoch = run_epoch  # type: ignore[method-assign]


def _watch_saves(trainer: Trainer, run_dir: Callable[[], str]) -> None:
    """Let a checkpoint that is written a second time count as unfinished while it is written."""
    original = trainer._save_checkpoint

    @functools.wraps(original)
    def save_checkpoint(*args: Any, **kwargs: Any) -> Any:
        if distributed.is_main_process():
            mark_unfinished(os.path.join(run_dir(), f"checkpoint-{trainer.state.global_step}"))
        return original(*args, **kwargs)

    trainer._save_checkpoint = save_checkpoint  # type: ignore[method-assign]
