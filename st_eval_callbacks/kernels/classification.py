"""Best thresholds of a binary classification, and F1 of a multi-class one."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from .sorting import IntArray, RealArray, host_values, sort_groups

BINARY_METRICS = ("accuracy", "accuracy_threshold", "f1", "f1_threshold", "precision", "recall", "ap", "mcc")
MULTI_CLASS_METRICS = ("f1_macro", "f1_micro", "f1_weighted")


def best_thresholds(scores: Tensor, labels: Tensor, greater_is_better: bool = True) -> dict[str, float]:
    """Find the thresholds with the best accuracy and the best F1, from one sort.

    The values are those of sentence-transformers' BinaryClassificationEvaluator. A pair is predicted positive when its
    score is at least the threshold (at most, when lower scores are better). Thresholds are midpoints between
    neighbouring scores in the dtype of the scores, so that applying one to the scores gives the metric returned.

    Args:
        scores: Shape ``(P,)``: similarities, or distances with ``greater_is_better=False``.
        labels: Shape ``(P,)``: 1 (positive) or 0.
        greater_is_better: Whether higher scores speak for the label 1.

    Returns:
        * ``accuracy``, ``accuracy_threshold``: the best share of right predictions and the strictest threshold that
          reaches it, which may predict no pair positive;
        * ``f1``, ``precision``, ``recall``, ``f1_threshold``: the best F1 and precision and recall there; without
          positives all are 0;
        * ``ap``: average precision, sum over thresholds of precision times the rise of recall; NaN without positives;
        * ``mcc``: Matthews' correlation at ``f1_threshold``, 0 where a prediction or label is the same for all pairs.

        All NaN if a score is non-finite or there are no pairs.

    Raises:
        ValueError: If shapes don't fit or a label is neither 0 nor 1.

    >>> best = best_thresholds(torch.tensor([0.75, 0.5, 1.0, 0.75]), torch.tensor([1, 0, 1, 0]))
    >>> best["f1"], best["f1_threshold"], best["precision"], best["recall"], best["accuracy"]
    (0.8, 0.625, 0.6666666666666666, 1.0, 0.75)
    """
    if scores.ndim != 1 or scores.shape != labels.shape:
        raise ValueError(f"scores and labels must both be (P,): {tuple(scores.shape)}, {tuple(labels.shape)}.")
    scores = scores.detach() if scores.is_floating_point() else scores.double()
    label_values = host_values(labels)
    positive = label_values == 1
    if not (positive | (label_values == 0)).all():
        raise ValueError("Labels must be 0 or 1.")
    values = host_values(scores)
    if len(values) == 0 or not np.isfinite(values).all():
        return dict.fromkeys(BINARY_METRICS, math.nan)

    order, bounds = sort_groups(-values if greater_is_better else values)
    # Per distinct score: predictions and right predictions among the pairs with this score or a better one.
    predicted = bounds[1:]
    true_positive = np.cumsum(positive[order])[predicted - 1]
    num_pairs, num_positive = len(values), int(true_positive[-1])

    def score_of(group: int) -> Tensor:
        return scores[int(order[bounds[group]])].cpu()

    def threshold_after(group: int) -> float:
        is_last = group == len(predicted) - 1
        return float(score_of(group)) if is_last else _between(score_of(group), score_of(group + 1))

    right = 2 * true_positive - predicted + (num_pairs - num_positive)
    best = int(right.argmax())
    if right[best] > num_pairs - num_positive:
        num_right, accuracy_threshold = int(right[best]), threshold_after(best)
    else:
        num_right, accuracy_threshold = num_pairs - num_positive, _above_all(score_of(0), greater_is_better)
    metrics = {"accuracy": num_right / num_pairs, "accuracy_threshold": accuracy_threshold}
    if num_positive == 0:
        return metrics | {"f1": 0.0, "f1_threshold": 0.0, "precision": 0.0, "recall": 0.0, "ap": math.nan, "mcc": 0.0}

    precision, recall = true_positive / predicted, true_positive / num_positive
    total = precision + recall
    # The same operations in the same order as sentence-transformers: of two thresholds that differ by a rounding error
    # the same one wins. Without right predictions the numerator is 0 as well.
    f1 = 2 * precision * recall / np.where(total > 0, total, 1.0)
    best = int(f1.argmax())
    return metrics | {
        "f1": float(f1[best]),
        "f1_threshold": threshold_after(best),
        "precision": float(precision[best]),
        "recall": float(recall[best]),
        "ap": float((np.diff(recall, prepend=0.0) * precision).sum()),
        "mcc": _mcc(int(true_positive[best]), int(predicted[best]), num_positive, num_pairs),
    }


def multi_class_f1(predictions: Tensor, labels: Tensor) -> dict[str, float]:
    """Compute F1 over several classes, as scikit-learn's ``f1_score`` does.

    A class's F1 is 2 * right / (predicted + labelled). Classes are those that occur among labels or predictions.

    Args:
        predictions: Predicted classes of shape ``(P,)``, or logits of shape ``(P, num_classes)``, of which the highest
            (the first of equal ones) is the prediction.
        labels: Shape ``(P,)``, integers.

    Returns:
        ``f1_macro`` (mean over classes), ``f1_micro`` (share of right predictions) and ``f1_weighted`` (mean weighted
        by the number of labels), 0 to 1. All NaN if a logit is non-finite or there are no pairs.

    Raises:
        ValueError: If shapes don't fit.

    >>> multi_class_f1(torch.tensor([0, 1, 1, 2]), torch.tensor([0, 1, 2, 2]))["f1_micro"]
    0.75
    """
    if labels.ndim != 1 or predictions.ndim not in (1, 2) or len(predictions) != len(labels):
        raise ValueError(
            "predictions must be (P,) or (P, num_classes) and labels (P,): "
            f"{tuple(predictions.shape)}, {tuple(labels.shape)}."
        )
    num_pairs = len(labels)
    values = host_values(predictions)
    if num_pairs == 0 or not np.isfinite(values).all():
        return dict.fromkeys(MULTI_CLASS_METRICS, math.nan)
    prediction = _first_highest(values) if values.ndim == 2 else values.astype(np.int64)
    label, prediction, num_classes = _numbered(labels.detach().cpu().long().numpy(), prediction)
    if num_classes**2 <= max(num_pairs, 1024):
        confusion = np.bincount(label * num_classes + prediction, minlength=num_classes**2)
        confusion = confusion.reshape(num_classes, num_classes)
        right, support, predicted = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    else:
        right = np.bincount(label[prediction == label], minlength=num_classes)
        support, predicted = (np.bincount(classes, minlength=num_classes) for classes in (label, prediction))
    occurring = support + predicted > 0
    right, support, predicted = right[occurring], support[occurring], predicted[occurring]
    f1 = 2 * right / (predicted + support)
    return {
        "f1_macro": float(f1.mean()),
        "f1_micro": float(right.sum() / num_pairs),
        "f1_weighted": float((f1 * support).sum() / num_pairs),
    }


def _first_highest(logits: RealArray) -> IntArray:
    """Column of each row's highest value, the first of equal ones."""
    if logits.shape[1] > 8:
        highest: IntArray = logits.argmax(axis=1)
        return highest
    # numpy's argmax goes row by row: a few columns are faster one after the other.
    best, column = logits[:, 0].copy(), np.zeros(len(logits), dtype=np.int64)
    for index in range(1, logits.shape[1]):
        np.maximum(column, (logits[:, index] > best) * np.int64(index), out=column)
        np.maximum(best, logits[:, index], out=best)
    return column


def _numbered(labels: IntArray, predictions: IntArray) -> tuple[IntArray, IntArray, int]:
    """Number the classes from 0, with gaps where that saves a sort: labels, predictions and how many numbers."""
    low, high = int(min(labels.min(), predictions.min())), int(max(labels.max(), predictions.max()))
    if low >= 0 and high <= len(labels):
        return labels, predictions, high + 1
    classes, numbers = np.unique(np.concatenate((labels, predictions)), return_inverse=True)
    return numbers[: len(labels)], numbers[len(labels) :], len(classes)


def _between(score: Tensor, following: Tensor) -> float:
    """Midpoint of two scores in their dtype, or the first where the midpoint would let the second in."""
    midpoint = (score + following) / 2
    # It is outside of the two scores where their sum overflows.
    inside = min(score, following) <= midpoint <= max(score, following)
    return float(midpoint if inside and midpoint != following else score)


def _above_all(best_score: Tensor, greater_is_better: bool) -> float:
    """The nearest threshold that predicts no pair positive."""
    limit = torch.full_like(best_score, math.inf if greater_is_better else -math.inf)
    return float(torch.nextafter(best_score, limit))


def _mcc(true_positive: int, predicted: int, num_positive: int, num_pairs: int) -> float:
    """Matthews' correlation coefficient; 0 where it is undefined."""
    spread = predicted * (num_pairs - predicted) * num_positive * (num_pairs - num_positive)
    return (true_positive * num_pairs - predicted * num_positive) / math.sqrt(spread) if spread else 0.0
