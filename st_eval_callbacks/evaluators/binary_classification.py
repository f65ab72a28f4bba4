"""Telling similar from dissimilar pairs by a threshold on their similarity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from ..kernels.classification import BINARY_METRICS, best_thresholds
from ..scorers import Scorer, Wish
from .base import Evaluator, maximum, warn_nonfinite, warn_undefined
from .inputs import check_equal_lengths, check_similarity_names

_TITLES = {
    "cosine": "Cosine-Similarity",
    "dot": "Dot-Product",
    "manhattan": "Manhattan-Distance",
    "euclidean": "Euclidean-Distance",
}
_DISTANCES = ("euclidean", "manhattan")
_CSV_METRICS = ("accuracy", "accuracy_threshold", "f1", "precision", "recall", "f1_threshold", "ap", "mcc")
# The threshold of a distance and that of a similarity have no common maximum.
_MAX_METRICS = tuple(metric for metric in BINARY_METRICS if not metric.endswith("_threshold"))


class BinaryClassificationEvaluator(Evaluator):
    """Accuracy, F1, average precision and Matthews' correlation of similar and dissimilar pairs.

    A pair is predicted similar when its similarity is at least a threshold (its distance at most). Accuracy, and F1
    with its precision and recall, are those at the threshold that is best for each; applying the threshold to the
    scores gives the metric. `ap` is the average precision over all thresholds, `mcc` Matthews' correlation at the
    threshold of F1. All lie in [0, 1], `mcc` in [-1, 1]; higher is better. Thresholds of "euclidean" and "manhattan"
    are distances, of at least 0. Definitions are those of sentence-transformers, but for two things: `max_*` leaves
    thresholds out, which mean something else for every function, and `ap` is NaN when no pair is labelled 1.

    Args:
        sentences1: First text of each pair.
        sentences2: Second text of each pair.
        labels: 1 for each pair of similar texts, 0 for the others.
        name: Put before every metric.
        batch_size: Most texts a batch.
        show_progress_bar: Whether encoding shows a bar.
        write_csv: Whether a call with `output_path` appends to the CSV.
        truncate_dim: Leading dimensions of the embeddings to use.
        similarity_fn_names: Any of "cosine", "dot", "euclidean", "manhattan"; None takes the model's own, on every
            call anew.
        keep_per_query: Whether to keep one value for each pair; see `Evaluator`.
        truncate_dims: Several sizes to measure from one encoding, such as [384, 128]; see `Evaluator`.

    Raises:
        ValueError: When there are no pairs, the lengths differ, a label is neither 0 nor 1, or a name is unknown.
    """

    kinds: ClassVar[tuple[str, ...]] = ("dense", "sparse")

    def __init__(
        self,
        sentences1: Sequence[Any],
        sentences2: Sequence[Any],
        labels: Sequence[int],
        name: str = "",
        batch_size: int = 32,
        show_progress_bar: bool | None = False,
        write_csv: bool = True,
        truncate_dim: int | None = None,
        similarity_fn_names: Sequence[Literal["cosine", "dot", "euclidean", "manhattan"]] | None = None,
        *,
        keep_per_query: bool = False,
        truncate_dims: Sequence[int] | None = None,
    ) -> None:
        super().__init__(
            name=name,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            write_csv=write_csv,
            truncate_dim=truncate_dim,
            keep_per_query=keep_per_query,
            truncate_dims=truncate_dims,
        )
        check_equal_lengths(self.label, sentences1=sentences1, sentences2=sentences2, labels=labels)
        self.sentences1 = sentences1
        self.sentences2 = sentences2
        self.labels = labels
        self._labels = _checked_labels(self.label, labels)
        self.similarity_fn_names: list[str] = check_similarity_names(self.label, similarity_fn_names or [])
        self.csv_file = "_".join(["binary_classification_evaluation", *filter(None, [name]), "results.csv"])

    @classmethod
    def from_input_examples(cls, examples: Sequence[Any], **kwargs: Any) -> BinaryClassificationEvaluator:
        """Make one from `InputExample`s: two texts and a label each."""
        return cls(
            [example.texts[0] for example in examples],
            [example.texts[1] for example in examples],
            [example.label for example in examples],
            **kwargs,
        )

    def metric_keys(self, scorer: Scorer) -> list[str]:
        """`<function>_<metric>`, and the maxima of all but the thresholds when there are several functions."""
        names = self._names(scorer)
        keys = [f"{name}_{metric}" for name in names for metric in BINARY_METRICS]
        return keys + ([f"max_{metric}" for metric in _MAX_METRICS] if len(names) > 1 else [])

    def primary_key(self, scorer: Scorer, metrics: Mapping[str, float] | None = None) -> str:
        """Average precision of the only function, or the maximum."""
        names = self._names(scorer)
        return "max_ap" if len(names) > 1 else f"{names[0]}_ap"

    def csv_columns(self, scorer: Scorer) -> list[tuple[str, str]]:
        """All metrics of each function, in sentence-transformers' order."""
        return [(key, key) for name in self._names(scorer) for key in (f"{name}_{metric}" for metric in _CSV_METRICS)]

    def title(self, when: str) -> str:
        """The line logged before it runs."""
        return f"Binary Accuracy Evaluation of the model on the {self.name} dataset{when}:"

    def log_lines(self, scorer: Scorer, metrics: Mapping[str, float]) -> Sequence[str]:
        """Six lines a function, in percent, thresholds as they are."""
        lines = []
        for name in self._names(scorer):
            value = {metric: metrics[f"{name}_{metric}"] for metric in BINARY_METRICS}
            percent = {metric: f"{value[metric] * 100:.2f}" for metric in _MAX_METRICS}
            title = _TITLES[name]
            lines += [
                f"Accuracy with {title}:             {percent['accuracy']}\t"
                f"(Threshold: {value['accuracy_threshold']:.4f})",
                f"F1 with {title}:                   {percent['f1']}\t(Threshold: {value['f1_threshold']:.4f})",
                f"Precision with {title}:            {percent['precision']}",
                f"Recall with {title}:               {percent['recall']}",
                f"Average Precision with {title}:    {percent['ap']}",
                f"Matthews Correlation with {title}: {percent['mcc']}\n",
            ]
        return lines

    def wants(self, scorer: Scorer) -> list[Wish]:
        """Both sides of the pairs."""
        return [Wish(self.sentences1, self.options()), Wish(self.sentences2, self.options())]

    def score(self, scorer: Scorer) -> dict[str, float]:
        """Find the best thresholds for the similarities of the pairs."""
        by_function = self._by_function(scorer)
        metrics = {f"{name}_{metric}": value for name, found in by_function.items() for metric, value in found.items()}
        if len(by_function) > 1:
            for metric in _MAX_METRICS:
                metrics[f"max_{metric}"] = maximum([found[metric] for found in by_function.values()])
        return metrics

    def compute_metrics(self, model: Any) -> dict[str, dict[str, float]]:
        """Metrics by similarity function; writes and stores nothing.

        Args:
            model: The model to evaluate.

        Returns:
            For each function its metrics by name.
        """
        return self._by_function(self.scorer(model))

    @staticmethod
    def find_best_acc_and_threshold(scores: Any, labels: Any, high_score_more_similar: bool) -> tuple[float, float]:
        """Find the threshold with the best accuracy.

        Args:
            scores: (P,) similarities or distances.
            labels: (P,) labels, 0 or 1.
            high_score_more_similar: True for similarities, False for distances.

        Returns:
            Accuracy in [0, 1] and its threshold.
        """
        best = best_thresholds(torch.as_tensor(scores), torch.as_tensor(labels), high_score_more_similar)
        return best["accuracy"], best["accuracy_threshold"]

    @staticmethod
    def find_best_f1_and_threshold(
        scores: Any, labels: Any, high_score_more_similar: bool
    ) -> tuple[float, float, float, float]:
        """Find the threshold with the best F1.

        Args:
            scores: (P,) similarities or distances.
            labels: (P,) labels, 0 or 1.
            high_score_more_similar: True for similarities, False for distances.

        Returns:
            F1, precision and recall in [0, 1], and their threshold.
        """
        best = best_thresholds(torch.as_tensor(scores), torch.as_tensor(labels), high_score_more_similar)
        return best["f1"], best["precision"], best["recall"], best["f1_threshold"]

    def _names(self, scorer: Scorer) -> list[str]:
        return self.similarity_fn_names or [scorer.similarity_fn_name]

    def _by_function(self, scorer: Scorer) -> dict[str, dict[str, float]]:
        names = self._names(scorer)
        similarities = scorer.pairwise(self.sentences1, self.sentences2, names, self.options(), self.options())
        num_nonfinite = max(int((~values.isfinite()).sum()) for values in similarities.values())
        if num_nonfinite:
            warn_nonfinite(self.label, num_nonfinite, len(self._labels), "similarities")
        elif not self._labels.any():
            warn_undefined(self.label, "average precision needs at least one pair with label 1")
        results = {}
        right: dict[str, torch.Tensor] = {}
        for name in names:
            is_distance = name in _DISTANCES
            scores = -similarities[name] if is_distance else similarities[name]
            found = best_thresholds(scores, self._labels, greater_is_better=not is_distance)
            results[name] = {metric: found[metric] for metric in BINARY_METRICS}
            if self.keep_per_query:
                threshold = found["accuracy_threshold"]
                is_similar = scores <= threshold if is_distance else scores >= threshold
                right[f"{name}_accuracy"] = is_similar.cpu() == (self._labels == 1)
        raw = {f"{name}_similarity": values for name, values in similarities.items()}
        self.keep(range(len(self._labels)), right, {"label": self._labels, **raw})
        return results


def _checked_labels(label: str, labels: Sequence[int]) -> torch.Tensor:
    values = np.asarray(labels)
    if values.ndim != 1:
        raise ValueError(f"{label}: labels must be one number a pair, but have the shape {values.shape}.")
    wrong = np.flatnonzero(~((values == 0) | (values == 1)))
    if len(wrong):
        raise ValueError(f"{label}: labels must be 0 or 1; {len(wrong)} are not, the first is {values[wrong[0]]!r}.")
    return torch.from_numpy(values.astype(np.int64))
