"""Classes of pairs, as a cross-encoder predicts them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ..kernels.classification import MULTI_CLASS_METRICS, best_thresholds, multi_class_f1
from ..scorers import Scorer, num_labels
from .base import warn_nonfinite, warn_undefined
from .inputs import check_equal_lengths
from .pairs import PairEvaluator, checked_pairs, num_nonfinite

logger = logging.getLogger(__name__)

# Key by name of the kernel's value.
_BINARY = {
    "accuracy": "accuracy",
    "accuracy_threshold": "accuracy_threshold",
    "f1": "f1",
    "f1_threshold": "f1_threshold",
    "precision": "precision",
    "recall": "recall",
    "ap": "average_precision",
}
_BINARY_TITLES = {"f1": "F1", "precision": "Precision", "recall": "Recall", "average_precision": "Average Precision"}


class CrossEncoderClassificationEvaluator(PairEvaluator):
    """Accuracy, F1 and average precision of a model with one label; F1 over the classes of one with several.

    With one label, a pair is predicted to have label 1 when its score is at least a threshold. Accuracy, and F1 with
    its precision and recall, are those at the threshold that is best for each; `average_precision`, over all
    thresholds, decides. With several labels the highest score (the first of equal ones) is the predicted class;
    `f1_macro` (mean over classes) decides, `f1_micro` is the share of right predictions, `f1_weighted` the mean over
    classes weighted by their number of labels. All but the thresholds lie in [0, 1], higher is better.

    Args:
        sentence_pairs: Pairs of texts.
        labels: A whole number for each pair: 0 or 1 for a model with one label, else the class.
        name: Put before every metric.
        prompt_name: Key of the model's `prompts`.
        batch_size: Most pairs a batch.
        show_progress_bar: Whether predicting shows a bar; None shows one when the logger shows INFO.
        write_csv: Whether a call with `output_path` appends to the CSV.
        keep_per_query: Whether to keep one value for each pair; see `Evaluator`.

    Raises:
        ValueError: When there are no pairs, the lengths differ, or a label is no whole number.
    """

    def __init__(
        self,
        sentence_pairs: Sequence[Sequence[str]],
        labels: Sequence[int],
        *,
        name: str = "",
        prompt_name: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        write_csv: bool = True,
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
        check_equal_lengths(self.label, sentence_pairs=sentence_pairs, labels=labels)
        self.sentence_pairs = sentence_pairs
        self.labels = np.asarray(labels)
        self._labels = _whole_numbers(self.label, self.labels)
        self._pairs = checked_pairs(self.label, sentence_pairs)
        self.csv_file = "_".join(["CrossEncoderClassificationEvaluator", *filter(None, [name]), "results.csv"])

    def metric_keys(self, scorer: Scorer) -> list[str]:
        """Seven keys for a model with one label, three for one with several.

        Raises:
            ValueError: When the model has one label and some of those given are neither 0 nor 1.
        """
        if num_labels(scorer.model) > 1:
            return list(MULTI_CLASS_METRICS)
        wrong = self._labels[(self._labels != 0) & (self._labels != 1)]
        if len(wrong):
            raise ValueError(
                f"{self.label}: the model has one label, so labels must be 0 or 1; {len(wrong)} are not, the first is "
                f"{int(wrong[0])}."
            )
        return list(_BINARY.values())

    def primary_key(self, scorer: Scorer, metrics: Mapping[str, float] | None = None) -> str:
        """Average precision, or the mean F1 of the classes."""
        return "f1_macro" if num_labels(scorer.model) > 1 else "average_precision"

    def csv_columns(self, scorer: Scorer) -> list[tuple[str, str]]:
        """All metrics, with sentence-transformers' headers."""
        if num_labels(scorer.model) > 1:
            return [(f"{key.removeprefix('f1_').capitalize()}_F1", key) for key in MULTI_CLASS_METRICS]
        return [(key.title(), key) for key in _BINARY.values()]

    def title(self, when: str) -> str:
        """The line logged before it runs."""
        return f"{type(self).__name__}: Evaluating the model on {self.name} dataset{when}:"

    def log_lines(self, scorer: Scorer, metrics: Mapping[str, float]) -> Sequence[str]:
        """A line a metric, in percent, thresholds as they are."""
        if num_labels(scorer.model) > 1:
            titles = {key: f"{key.removeprefix('f1_').capitalize()} F1:" for key in MULTI_CLASS_METRICS}
            return [f"{title:<20}{metrics[key] * 100:.2f}" for key, title in titles.items()]
        lines = []
        for key, title in {"accuracy": "Accuracy", **_BINARY_TITLES}.items():
            threshold = f"\t(Threshold: {metrics[f'{key}_threshold']:.4f})" if f"{key}_threshold" in metrics else ""
            lines.append(f"{title + ':':<19}{metrics[key] * 100:.2f}{threshold}")
        return lines

    def score(self, scorer: Scorer) -> dict[str, float]:
        """Compare predictions with labels."""
        keys = self.metric_keys(scorer)
        predicted = self.predictions(scorer)
        nonfinite = num_nonfinite(predicted)
        if nonfinite:
            warn_nonfinite(self.label, nonfinite, predicted.numel(), "predictions")
        else:
            self.warn_if_collapsed(predicted)
        if predicted.ndim > 1:
            self._warn_of_unknown_classes(predicted.shape[1])
            if self.keep_per_query:
                # numpy's is the first of equal ones.
                classes = torch.from_numpy(predicted.float().numpy().argmax(axis=1))
                self._keep({"f1_micro": classes == self._labels}, {"prediction": classes})
            return multi_class_f1(predicted, self._labels)
        if not nonfinite and not self._labels.any():
            warn_undefined(self.label, "average precision needs at least one pair with label 1")
        found = best_thresholds(predicted, self._labels)
        if self.keep_per_query:
            is_positive = predicted >= found["accuracy_threshold"]
            self._keep({"accuracy": is_positive == (self._labels == 1)}, {"score": predicted})
        return dict(zip(keys, (found[name] for name in _BINARY), strict=True))

    def _keep(self, right: dict[str, Tensor], raw: dict[str, Tensor]) -> None:
        self.keep(range(len(self._labels)), right, {"label": self._labels, **raw})

    def _warn_of_unknown_classes(self, num_classes: int) -> None:
        num_unknown = int(((self._labels < 0) | (self._labels >= num_classes)).sum())
        if num_unknown:
            logger.warning(
                "%s: %d of %d labels are no class of the model (0 to %d), so it cannot predict them.",
                self.label,
                num_unknown,
                len(self._labels),
                num_classes - 1,
            )


def _whole_numbers(label: str, labels: np.ndarray) -> Tensor:
    if labels.ndim != 1:
        raise ValueError(f"{label}: labels must be one number a pair, but have the shape {labels.shape}.")
    if labels.dtype.kind not in "biuf":
        raise ValueError(f"{label}: labels must be whole numbers, but are of type {labels.dtype}.")
    with np.errstate(invalid="ignore"):
        whole = labels.astype(np.int64)
    wrong = np.flatnonzero(whole != labels)
    if len(wrong):
        raise ValueError(
            f"{label}: labels must be whole numbers; {len(wrong)} are not, the first is {labels[wrong[0]].item()!r}."
        )
    return torch.from_numpy(whole)
