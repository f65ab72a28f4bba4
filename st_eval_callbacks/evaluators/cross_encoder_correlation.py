"""Correlation of a cross-encoder's scores with judged ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..kernels.correlation import average_ranks, pearson
from ..scorers import Scorer
from .base import warn_nonfinite, warn_undefined
from .inputs import check_equal_lengths
from .pairs import PairEvaluator, checked_pairs, num_nonfinite


class CrossEncoderCorrelationEvaluator(PairEvaluator):
    """Pearson and Spearman correlation between the predicted and the judged score of pairs.

    Pearson: covariance over the product of standard deviations. Spearman: Pearson of the average ranks; it decides.
    Both lie in [-1, 1], higher is better, and are NaN when all predictions (or all scores) are equal.

    Args:
        sentence_pairs: Pairs of texts.
        scores: Judged score of each pair, on any scale.
        name: Put before every metric.
        prompt_name: Key of the model's `prompts`.
        batch_size: Most pairs a batch.
        show_progress_bar: Whether predicting shows a bar; None shows one when the logger shows INFO.
        write_csv: Whether a call with `output_path` appends to the CSV.
        keep_per_query: Whether to keep one value for each pair; see `Evaluator`.

    Raises:
        ValueError: When there are no pairs, or the lengths differ.
    """

    def __init__(
        self,
        sentence_pairs: Sequence[Sequence[str]],
        scores: Sequence[float],
        name: str = "",
        prompt_name: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        write_csv: bool = True,
        *,
        keep_per_query: bool = False,
    ) -> None:
        super().__init__(
            name=name,
            prompt_name=prompt_name,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            write_csv=write_csv,
            keep_per_query=keep_per_query,
        )
        check_equal_lengths(self.label, sentence_pairs=sentence_pairs, scores=scores)
        self.sentence_pairs = sentence_pairs
        self.scores = scores
        self._pairs = checked_pairs(self.label, sentence_pairs)
        self._judged = torch.as_tensor(np.asarray(scores, dtype=np.float64))
        self._judged_ranks = average_ranks(self._judged)
        self.csv_file = "_".join(["CrossEncoderCorrelationEvaluator", *filter(None, [name]), "results.csv"])
        self.primary_metric = self._named("spearman")

    @classmethod
    def from_input_examples(cls, examples: Sequence[Any], **kwargs: Any) -> CrossEncoderCorrelationEvaluator:
        """Make one from `InputExample`s: two texts and a label each."""
        return cls([example.texts for example in examples], [example.label for example in examples], **kwargs)

    def metric_keys(self, scorer: Scorer) -> list[str]:
        """`pearson` and `spearman`.

        Raises:
            ValueError: When the model has several labels.
        """
        self.check_one_label(scorer)
        return ["pearson", "spearman"]

    def primary_key(self, scorer: Scorer, metrics: Mapping[str, float] | None = None) -> str:
        """Spearman."""
        return "spearman"

    def csv_columns(self, scorer: Scorer) -> list[tuple[str, str]]:
        """Both."""
        return [("Pearson_Correlation", "pearson"), ("Spearman_Correlation", "spearman")]

    def title(self, when: str) -> str:
        """The line logged before it runs."""
        return f"{type(self).__name__}: Evaluating the model on {self.name} dataset{when}:"

    def log_lines(self, scorer: Scorer, metrics: Mapping[str, float]) -> Sequence[str]:
        """One line."""
        return [f"Correlation:\tPearson: {metrics['pearson']:.4f}\tSpearman: {metrics['spearman']:.4f}"]

    def score(self, scorer: Scorer) -> dict[str, float]:
        """Correlate predictions with judged scores."""
        self.check_one_label(scorer)
        predicted = self.predictions(scorer)
        metrics = {
            "pearson": float(pearson(self._judged, predicted)),
            "spearman": float(pearson(self._judged_ranks, average_ranks(predicted))),
        }
        self.keep(range(len(predicted)), raw={"label": self._judged, "score": predicted})
        nonfinite = num_nonfinite(predicted)
        if nonfinite:
            warn_nonfinite(self.label, nonfinite, len(predicted), "predictions")
        elif any(value != value for value in metrics.values()):
            warn_undefined(self.label, "a correlation needs two different scores and two different predictions")
        return metrics
