"""The model card's numbers: those of the checkpoint they stand beside."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sentence_transformers.base.evaluation import BaseEvaluator

from .files import replace_file
from .results import PLOT_FILE

_LINK = f"![Evaluation during training: metrics against steps](assets/{PLOT_FILE})"


def card_data(model: Any) -> Any:
    """The model-card data of a model, or None when it has none."""
    return getattr(model, "model_card_data", None)


def set_results(
    model: Any, results: Mapping[BaseEvaluator, Mapping[str, float]], ours: Iterable[BaseEvaluator]
) -> None:
    """Let the card show these results of our evaluators and no others; what other evaluators stored stays.

    Args:
        model: The model whose card it is.
        results: Metrics as the evaluator returned them.
        ours: All evaluators of the callback.
    """
    card = card_data(model)
    if card is None:
        return
    for evaluator in ours:
        card.eval_results_dict.pop(evaluator, None)
    card.eval_results_dict.update({evaluator: dict(metrics) for evaluator, metrics in results.items()})


def rebuild_training_table(
    model: Any, log_history: Sequence[Mapping[str, Any]], primary_metrics: Sequence[str]
) -> None:
    """Write the training table anew from the log, as it was when the checkpoint was saved.

    sentence-transformers keeps the table in memory only, so a resumed run would start it empty.

    Args:
        model: The model whose card it is.
        log_history: `state.log_history`.
        primary_metrics: Log keys without "eval_" that the table shows.
    """
    card = card_data(model)
    if card is None:
        return
    rows: dict[int, dict[str, Any]] = {}
    # A loss of several parts has them logged beside it; the table shows only the whole.
    parts = {f"eval_{key}" for entry in log_history if "loss" in entry for key in entry if key != "loss"}
    every = {key for key in set().union(*log_history) if key.startswith("eval_") and key.endswith("_loss")} - parts
    for entry in log_history:
        values: dict[str, Any] = {}
        if "loss" in entry:
            values["Training Loss"] = entry["loss"]
        losses = {key: value for key, value in entry.items() if key in every} if every else {}
        if list(losses) == ["eval_loss"]:
            values["Validation Loss"] = losses["eval_loss"]
        else:
            values.update({" ".join(key.split("_")[1:]): value for key, value in losses.items()})
        measured = {name: entry[f"eval_{name}"] for name in primary_metrics if f"eval_{name}" in entry}
        values.update({name: math.nan if value is None else value for name, value in measured.items()})
        if values:
            row = rows.setdefault(entry["step"], {"Epoch": entry.get("epoch", 0.0), "Step": entry["step"]})
            row.update(values)
    card.training_logs = list(rows.values())


def add_evaluation_seconds(model: Any, seconds: float) -> None:
    """Count time spent evaluating, which the card takes off the training time."""
    card = card_data(model)
    if card is not None and hasattr(card, "evaluation_duration"):
        card.evaluation_duration += seconds


def set_curves(model: Any, picture: bytes | None) -> None:
    """Let cards that are saved from now on show a picture of the run; None takes it away.

    Args:
        model: The model whose card it is.
        picture: A PNG file.
    """
    card = card_data(model)
    if card is None:
        return
    vars(card).pop("to_dict", None)
    if picture is not None:
        card.to_dict = _WithCurves(card, picture)


class _WithCurves:
    """What a card's template is filled with, and the picture put where the card links to.

    It stands in the place of `to_dict` of one card, which knows where it is being saved; the place differs from one
    save to the next. Holding the card and bytes alone, it goes along when a model is copied or pickled.

    Args:
        card: The card's data.
        picture: A PNG file.
    """

    def __init__(self, card: Any, picture: bytes) -> None:
        self.card = card
        self.picture = picture

    def __call__(self) -> dict[str, Any]:
        filled: dict[str, Any] = type(self.card).to_dict(self.card)
        table = filled.get("eval_lines")
        if not self.card.save_dir or not table:
            return filled
        replace_file(Path(self.card.save_dir) / "assets" / PLOT_FILE, self.picture)
        if filled["hide_eval_lines"]:
            # The template would fold the picture away with a long table.
            table = f"<details><summary>Click to expand</summary>\n\n{table}\n</details>"
            filled["hide_eval_lines"] = False
        filled["eval_lines"] = f"{_LINK}\n\n{table}"
        return filled
