"""Thresholds against sentence-transformers' own search and scikit-learn; multi-class F1 against scikit-learn."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.sentence_transformer.evaluation import BinaryClassificationEvaluator
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, matthews_corrcoef

from st_eval_callbacks.kernels.classification import best_thresholds, multi_class_f1

DTYPES = st.sampled_from([torch.float16, torch.float32, torch.float64])
TIED = st.lists(st.tuples(st.integers(-4, 4).map(lambda i: i / 3), st.integers(0, 1)), min_size=1, max_size=25)
REAL = st.lists(st.tuples(st.floats(-3, 3), st.integers(0, 1)), min_size=1, max_size=25)


def tensors(pairs, dtype):
    return torch.tensor([score for score, _ in pairs], dtype=dtype), torch.tensor([label for _, label in pairs])


def peer_values(scores, labels, greater_is_better):
    accuracy, accuracy_threshold = BinaryClassificationEvaluator.find_best_acc_and_threshold(
        scores, labels, greater_is_better
    )
    f1, precision, recall, f1_threshold = BinaryClassificationEvaluator.find_best_f1_and_threshold(
        scores, labels, greater_is_better
    )
    predicted = scores >= f1_threshold if greater_is_better else scores <= f1_threshold
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mcc = matthews_corrcoef(labels, predicted)
    sign = 1 if greater_is_better else -1
    ap = average_precision_score(labels, scores * sign) if labels.any() else math.nan
    return {
        "accuracy": accuracy,
        "accuracy_threshold": accuracy_threshold,
        "f1": f1,
        "f1_threshold": f1_threshold,
        "precision": precision,
        "recall": recall,
        "ap": ap,
        "mcc": mcc,
    }


@settings(deadline=None, max_examples=300)
@given(st.one_of(TIED, REAL), DTYPES, st.booleans())
def test_all_values_are_those_of_sentence_transformers(pairs, dtype, greater_is_better):
    scores, labels = tensors(pairs, dtype)
    values = best_thresholds(scores, labels, greater_is_better)
    expected = peer_values(scores.numpy(), labels.numpy(), greater_is_better)
    for name, value in values.items():
        if name in ("ap", "mcc"):
            assert value == pytest.approx(expected[name], abs=1e-12, nan_ok=True)
        else:
            assert value == float(expected[name]), name
        assert type(value) is float


@settings(deadline=None, max_examples=300)
@given(
    st.one_of(TIED, REAL),
    st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    st.booleans(),
)
def test_applying_a_threshold_to_the_scores_gives_the_metric(pairs, dtype, greater_is_better):
    scores, labels = tensors(pairs, dtype)
    values = best_thresholds(scores, labels, greater_is_better)

    def predictions(threshold):
        return (scores >= threshold) if greater_is_better else (scores <= threshold)

    assert accuracy_score(labels, predictions(values["accuracy_threshold"])) == values["accuracy"]
    expected = f1_score(labels, predictions(values["f1_threshold"]), zero_division=0)
    assert expected == pytest.approx(values["f1"], abs=1e-12)


@pytest.mark.parametrize("greater_is_better", [True, False])
def test_a_threshold_between_scores_whose_sum_overflows_gives_the_metric(greater_is_better):
    scores = torch.tensor([3e38, 2.9e38]) if greater_is_better else torch.tensor([-3e38, -2.9e38])
    values = best_thresholds(scores, torch.tensor([1, 0]), greater_is_better)
    assert values["accuracy"] == values["f1"] == 1
    assert math.isfinite(values["accuracy_threshold"])


@pytest.mark.parametrize(
    ("scores", "labels", "greater_is_better", "expected"),
    [
        ([0.5, 0.5], [1, 0], True, {"accuracy": 0.5, "f1": 2 / 3, "precision": 0.5, "recall": 1, "ap": 0.5, "mcc": 0}),
        (
            [0.7, 0.6, 0.8, 0.7],
            [1, 0, 1, 0],
            True,
            {"f1": 0.8, "f1_threshold": 0.65, "precision": 2 / 3, "recall": 1, "accuracy": 0.75},
        ),
        (
            [1.0, 2.0, 10.0, 12.0],
            [1, 1, 0, 0],
            False,
            {"accuracy": 1, "f1": 1, "ap": 1, "mcc": 1, "accuracy_threshold": 6, "f1_threshold": 6},
        ),
        ([1.0, 0.0], [1, 1], True, {"accuracy": 1, "f1": 1, "ap": 1, "mcc": 0}),
        ([1.0, 0.0], [0, 0], True, {"accuracy": 1, "f1": 0, "ap": math.nan, "mcc": 0}),
    ],
)
def test_small_cases(scores, labels, greater_is_better, expected):
    values = best_thresholds(torch.tensor(scores), torch.tensor(labels), greater_is_better)
    assert {name: values[name] for name in expected} == pytest.approx(expected, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("scores", [[], [1.0, math.nan], [1.0, math.inf], [-math.inf, 1.0]])
def test_all_values_are_nan_without_pairs_or_with_a_non_finite_score(scores):
    values = best_thresholds(torch.tensor(scores), torch.tensor([1, 0][: len(scores)]), True)
    assert all(math.isnan(value) for value in values.values())


def test_labels_may_be_bool_or_float_but_only_zero_or_one():
    scores = torch.tensor([0.1, 0.9])
    expected = best_thresholds(scores, torch.tensor([0, 1]), True)
    assert best_thresholds(scores, torch.tensor([False, True]), True) == expected
    assert best_thresholds(scores, torch.tensor([0.0, 1.0]), True) == expected
    with pytest.raises(ValueError, match="0 or 1"):
        best_thresholds(scores, torch.tensor([1, 2]), True)
    with pytest.raises(ValueError, match="must both be"):
        best_thresholds(scores, torch.tensor([1]), True)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(-1, 4), st.integers(0, 5)), min_size=1, max_size=30),
    st.sampled_from([1, 7, 2**40]),
)
def test_multi_class_f1_is_that_of_scikit_learn(pairs, step):
    predicted, labels = np.array(pairs).T * step
    values = multi_class_f1(torch.tensor(predicted), torch.tensor(labels))
    for average in ("macro", "micro", "weighted"):
        expected = f1_score(labels, predicted, average=average, zero_division=0)
        assert values[f"f1_{average}"] == pytest.approx(expected, abs=1e-12)


def test_logits_predict_the_first_of_the_highest_classes():
    logits = torch.tensor([[0.0, 1.0, 1.0], [2.0, 0.0, 1.0]])
    assert multi_class_f1(logits, torch.tensor([1, 0]))["f1_macro"] == 1
    assert multi_class_f1(logits.half(), torch.tensor([2, 0]))["f1_micro"] == 0.5


def test_many_classes_have_the_f1_of_scikit_learn():
    labels = np.arange(200) // 2
    predicted = np.roll(labels, 1)
    values = multi_class_f1(torch.tensor(predicted), torch.tensor(labels))
    assert values["f1_macro"] == pytest.approx(f1_score(labels, predicted, average="macro"), abs=1e-12)


@settings(deadline=None)
@given(st.integers(1, 12), st.data())
def test_any_number_of_columns_of_logits_predicts_the_first_highest(num_classes, data):
    row = st.lists(st.integers(0, 3), min_size=num_classes, max_size=num_classes)
    logits = np.array(data.draw(st.lists(row, min_size=1, max_size=6)), dtype=np.float32)
    values = multi_class_f1(torch.tensor(logits), torch.tensor(logits.argmax(axis=1)))
    assert values["f1_macro"] == 1


def test_multi_class_f1_is_nan_without_pairs_or_with_a_non_finite_logit():
    for logits, labels in (([[math.nan, 1.0]], [0]), ([[math.inf, 1.0]], [0]), ([], [])):
        values = multi_class_f1(torch.tensor(logits), torch.tensor(labels))
        assert all(math.isnan(value) for value in values.values())
    with pytest.raises(ValueError, match="predictions must be"):
        multi_class_f1(torch.tensor([1, 0]), torch.tensor([1]))
