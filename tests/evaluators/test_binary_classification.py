"""Binary classification: sentence-transformers' values, and the cases that must come out right."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sentence_transformers.sentence_transformer import evaluation as peer
from sentence_transformers.sentence_transformer.readers import InputExample
from support.models import StubModel, tiny_model
from support.parity import assert_equal_to_peer, sentences

from st_eval_callbacks.evaluators import BinaryClassificationEvaluator

ALL = ["cosine", "dot", "euclidean", "manhattan"]
MAX_THRESHOLDS = ["max_accuracy_threshold", "max_f1_threshold"]
METRICS = ["accuracy", "accuracy_threshold", "f1", "f1_threshold", "precision", "recall", "ap", "mcc"]


def labelled_pairs(num=60):
    left = sentences(num, seed=1)
    right = [
        text if i % 5 == 0 else other for i, (text, other) in enumerate(zip(left, sentences(num, 2), strict=True))
    ]
    return left, right, [int(i % 5 == 0 or i % 3 == 0) for i in range(num)]


def of_scores(scores, labels, name="dot", **kwargs):
    """A model and an evaluator whose pair i has the similarity (or distance) `scores[i]`."""
    other = "one" if name in ("cosine", "dot") else "zero"
    vectors = {str(i): [score] for i, score in enumerate(scores)} | {"one": [1.0], "zero": [0.0]}
    texts = [str(i) for i in range(len(scores))]
    return StubModel(vectors, name), BinaryClassificationEvaluator(texts, [other] * len(scores), labels, **kwargs)


def values_of(scores, labels, name="dot"):
    model, evaluator = of_scores(scores, labels, name)
    return {key.removeprefix(f"{name}_"): value for key, value in evaluator(model).items()}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"name": "dev"},
        {"similarity_fn_names": ["euclidean"]},
        {"similarity_fn_names": ALL, "name": "all", "batch_size": 7},
        {"similarity_fn_names": ["manhattan", "cosine"], "truncate_dim": 6},
    ],
)
def test_it_is_equal_to_the_peer_but_for_maxima_of_thresholds(settings, tmp_path, caplog):
    data = labelled_pairs()
    ours, theirs = (
        BinaryClassificationEvaluator(*data, **settings),
        peer.BinaryClassificationEvaluator(*data, **settings),
    )
    without = [f"{prefix}{key}" for key in MAX_THRESHOLDS for prefix in ("", f"{ours.name}_")]
    assert_equal_to_peer(ours, theirs, tiny_model(), tmp_path, caplog, without=without)


@pytest.mark.parametrize("name", ALL)
def test_it_takes_the_models_own_similarity_and_its_default_prompt(name, tmp_path, caplog):
    model = tiny_model(similarity_fn_name=name, prompts={"p": "find : "}, default_prompt_name="p", truncate_dim=8)
    data = labelled_pairs(30)
    ours, theirs = BinaryClassificationEvaluator(*data), peer.BinaryClassificationEvaluator(*data)
    assert_equal_to_peer(ours, theirs, model, tmp_path, caplog)


@pytest.mark.parametrize(
    ("scores", "labels", "expected"),
    [
        ([0.5, 0.5], [1, 0], {"accuracy": 0.5, "f1": 2 / 3, "precision": 0.5, "recall": 1, "ap": 0.5, "mcc": 0}),
        (
            [0.7, 0.6, 0.8, 0.7],
            [1, 0, 1, 0],
            {"accuracy": 0.75, "f1": 0.8, "f1_threshold": 0.65, "precision": 2 / 3, "recall": 1},
        ),
        ([1, 0], [1, 1], {"accuracy": 1, "f1": 1}),
        ([1, 0], [0, 0], {"accuracy": 1, "f1": 0}),
    ],
    ids=["A1 tie", "A2 tie of both labels", "A4 all similar", "A4 all dissimilar"],
)
def test_ties_and_single_labels_have_the_values_they_must_have(scores, labels, expected):
    found = values_of(scores, labels)
    assert {key: found[key] for key in expected} == pytest.approx(expected)


def test_distances_are_better_when_small_and_thresholds_are_distances():
    model = StubModel({"a": [0], "b": [1], "c": [2], "d": [10], "e": [12]}, "euclidean")
    result = BinaryClassificationEvaluator(["a"] * 4, ["b", "c", "d", "e"], [1, 1, 0, 0])(model)
    ones = [value for key, value in result.items() if not key.endswith("threshold")]
    assert ones == [1] * 6
    assert result["euclidean_accuracy_threshold"] == result["euclidean_f1_threshold"] == 6


@pytest.mark.parametrize("name", ["dot", "euclidean"])
@pytest.mark.parametrize("seed", range(5))
def test_applying_a_threshold_to_the_scores_gives_its_metric(name, seed):
    rng = np.random.default_rng(seed)
    scores, labels = rng.integers(1, 9, 20).astype(np.float32) / 7, rng.integers(0, 2, 20)
    found = values_of(scores.tolist(), labels.tolist(), name)
    similar = np.less_equal if name == "euclidean" else np.greater_equal
    by_accuracy = similar(scores, np.float32(found["accuracy_threshold"]))
    by_f1 = similar(scores, np.float32(found["f1_threshold"]))
    assert (by_accuracy == labels).mean() == pytest.approx(found["accuracy"])
    assert (by_f1 & (labels == 1)).sum() / by_f1.sum() == pytest.approx(found["precision"])
    assert (by_f1 & (labels == 1)).sum() / labels.sum() == pytest.approx(found["recall"])


def test_there_is_no_maximum_over_thresholds_of_different_functions():
    model = StubModel({"a": [1, 0], "b": [2, 0], "c": [0, 1]})
    evaluator = BinaryClassificationEvaluator(
        ["a"] * 2, ["b", "c"], [1, 0], similarity_fn_names=["cosine", "euclidean"]
    )
    result = evaluator(model)
    assert not set(MAX_THRESHOLDS) & {*result, *evaluator.metric_names(model)}
    assert result["max_ap"] == 1


def test_average_precision_without_similar_pairs_is_nan_with_one_warning(caplog):
    model, evaluator = of_scores([1, 0], [0, 0], name="cosine", similarity_fn_names=["cosine", "dot"])
    result = evaluator(model)
    assert [key for key, value in result.items() if math.isnan(value)] == ["cosine_ap", "dot_ap", "max_ap"]
    assert len(caplog.records) == 1
    assert "BinaryClassificationEvaluator" in caplog.text


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("names", [["cosine", "dot"], ["dot", "cosine"]])
def test_a_score_that_is_not_finite_makes_every_metric_nan_with_one_warning(bad, names, caplog):
    model = StubModel({"a": [1, 0], "b": [bad, 0]})
    evaluator = BinaryClassificationEvaluator(["a"] * 3, ["a", "b", "a"], [1, 0, 1], "dev", similarity_fn_names=names)
    assert all(math.isnan(value) for value in evaluator(model).values())
    assert len(caplog.records) == 1
    assert "('dev'): 1 of 3" in caplog.text


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_embeddings_are_scored_in_float32(dtype):
    # Products and sums of these overflow float16 or tie in bfloat16.
    vectors = {"q": [300.0, 1.0], "a": [250.0, 1.0078125], "b": [300.0, 1.0]}
    model = StubModel(vectors, "dot", dtype)
    result = BinaryClassificationEvaluator(["q", "q"], ["b", "a"], [1, 0])(model)
    stored = {text: torch.tensor(row, dtype=dtype).double() for text, row in vectors.items()}
    middle = float(stored["q"] @ (stored["a"] + stored["b"])) / 2
    assert result["dot_ap"] == 1
    assert result["dot_accuracy_threshold"] == pytest.approx(middle, rel=1e-6)


def test_the_similarity_is_the_models_own_on_every_call():
    vectors = {"a": [1, 1], "b": [10, 0], "c": [0.5, 0.5]}
    evaluator = BinaryClassificationEvaluator(["a", "a"], ["b", "c"], [1, 0])
    assert next(iter(evaluator(StubModel(vectors, "cosine")))) == "cosine_accuracy"
    assert next(iter(evaluator(StubModel(vectors, "dot")))) == "dot_accuracy"
    assert evaluator.primary_metric == "dot_ap"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], [], []), "nothing to evaluate"),
        ((["a"], ["b", "c"], [1, 0]), "1 sentences1, 2 sentences2, 2 labels"),
        ((["a", "b"], ["b", "c"], [1, 2]), "labels must be 0 or 1; 1 are not, the first is .*2"),
        ((["a"], ["b"], [math.nan]), "labels must be 0 or 1"),
        ((["a"], ["b"], [[1]]), "one number a pair"),
        ((["a"], ["b"], ["1"]), "labels must be 0 or 1"),
    ],
)
def test_data_that_cannot_be_evaluated_is_refused_at_construction(arguments, message):
    with pytest.raises(ValueError, match=message):
        BinaryClassificationEvaluator(*arguments)


def test_an_unknown_similarity_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="Did you mean 'cosine'"):
        BinaryClassificationEvaluator(["a"], ["b"], [1], similarity_fn_names=["cosien"])


@pytest.mark.parametrize("labels", [[1.0, 0.0], [True, False], np.array([1, 0]), torch.tensor([1, 0])])
def test_labels_may_be_any_sequence_of_zeros_and_ones(labels):
    assert values_of([1.0, 0.0], labels)["ap"] == 1


def test_inputs_that_cannot_be_hashed_are_encoded_as_they_are():
    class Identity:
        def encode(self, inputs, **kwargs):
            return np.array(inputs, dtype=np.float32)

    evaluator = BinaryClassificationEvaluator([[1, 0], [1, 0]], [[2, 0], [0, 1]], [1, 0])
    assert evaluator(Identity())["cosine_ap"] == 1


def test_input_examples_make_an_evaluator():
    examples = [InputExample(texts=["a", "b"], label=1), InputExample(texts=["a", "c"], label=0)]
    evaluator = BinaryClassificationEvaluator.from_input_examples(examples, name="dev")
    assert (evaluator.sentences1, evaluator.sentences2, evaluator.labels) == (["a", "a"], ["b", "c"], [1, 0])
    assert evaluator.name == "dev"


def test_thresholds_can_be_found_for_scores_alone():
    scores, labels = np.array([0.7, 0.6, 0.8, 0.7]), [1, 0, 1, 0]
    assert BinaryClassificationEvaluator.find_best_f1_and_threshold(scores, labels, True) == pytest.approx(
        peer.BinaryClassificationEvaluator.find_best_f1_and_threshold(scores, labels, True)
    )
    assert BinaryClassificationEvaluator.find_best_acc_and_threshold(-scores, labels, False) == pytest.approx(
        peer.BinaryClassificationEvaluator.find_best_acc_and_threshold(-scores, labels, False)
    )


def test_metrics_by_function_are_those_of_a_call():
    model, evaluator = of_scores([0.7, 0.6, 0.8, 0.7], [1, 0, 1, 0])
    metrics = evaluator.compute_metrics(model)["dot"]
    assert list(metrics) == METRICS
    assert {f"dot_{key}": value for key, value in metrics.items()} == evaluator(model)
