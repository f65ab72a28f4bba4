"""Trials of a hyperparameter search: their objective is the metric that decides the best."""

from __future__ import annotations

import logging
import math
from typing import Any

from transformers.trainer_utils import default_compute_objective

from .trainer_link import TrainerLink

logger = logging.getLogger(__name__)


def is_trial(link: TrainerLink) -> bool:
    """Whether this run is a trial of a hyperparameter search."""
    return link.trainer.hp_search_backend is not None and link.trainer._trial is not None


def compare_by_deciding_metric(link: TrainerLink) -> None:
    """Let the metric that decides the best be the objective of a search that was given none.

    The default is the sum of all metrics, which means nothing for errors and scores of many cutoffs together. The
    direction stays with the user, who is told when it leads to the worst trial.
    """
    trainer = link.trainer
    if not is_trial(link) or trainer.compute_objective is not default_compute_objective:
        return

    def deciding_metric(metrics: dict[str, float]) -> float:
        key = trainer.args.metric_for_best_model
        return metrics[key] if key in metrics else default_compute_objective(metrics)

    trainer.compute_objective = deciding_metric
    study = getattr(trainer._trial, "study", None)
    directions = [direction.name.lower() for direction in getattr(study, "directions", ())]
    wanted = "maximize" if trainer.args.greater_is_better else "minimize"
    if trainer.args.greater_is_better is not None and len(directions) == 1 and directions != [wanted]:
        logger.warning(
            "the hyperparameter search has direction=%r and so returns the worst trial by %s: pass direction=%r.",
            directions[0],
            trainer.args.metric_for_best_model,
            wanted,
        )


def report(link: TrainerLink, metrics: dict[str, float]) -> None:
    """Tell a search of values, as of an evaluation of the Trainer: it may end the trial by raising.

    Args:
        link: The trainer.
        metrics: Value by log key; without the metric that decides, nothing is told.
    """
    trainer = link.trainer
    if is_trial(link) and trainer.args.metric_for_best_model in metrics:
        trainer._report_to_hp_search(trainer._trial, trainer.state.global_step, metrics)


def settle_objective(link: TrainerLink, loaded_step: int | None) -> None:
    """Let the objective of a trial be that of the model it leaves.

    Args:
        link: The trainer.
        loaded_step: The step of the best checkpoint, when that was loaded; None leaves the last value told.
    """
    if not is_trial(link):
        return
    trainer: Any = link.trainer
    entries = [entry for entry in trainer.state.log_history if entry["step"] == loaded_step]
    logged = {key: value for entry in entries for key, value in entry.items() if key.startswith("eval_")}
    metrics = {key: math.nan if value is None else value for key, value in logged.items()}
    if trainer.args.metric_for_best_model in metrics:
        trainer.objective = trainer.compute_objective(metrics)
    if trainer.objective is None and not link.evaluates_by_itself:
        # The Trainer would now evaluate, and fail: a trial without a value is one that failed.
        trainer.objective = math.nan
