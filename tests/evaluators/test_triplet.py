"""Triplets: sentence-transformers' values, margins, and the cases that must come out right."""

from __future__ import annotations

import math

import pytest
import torch
from sentence_transformers.sentence_transformer import evaluation as peer
from sentence_transformers.sentence_transformer.readers import InputExample
from sentence_transformers.util.similarity import SimilarityFunction
from support.models import StubModel, tiny_model, tiny_router_model
from support.parity import assert_equal_to_peer, sentences

from st_eval_callbacks.evaluators import TripletEvaluator

ALL = ["cosine", "dot", "euclidean", "manhattan"]
ONE = (["a"], ["p"], ["n"])


def triplets(num=60):
    return sentences(num, 1), sentences(num, 2), sentences(num, 3)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"name": "dev", "main_similarity_function": "dot"},
        {"similarity_fn_names": ALL, "margin": {"dot": 2.0, "cosine": 0.1}, "name": "all"},
        {"similarity_fn_names": ["manhattan", "cosine"], "main_similarity_function": "manhattan", "margin": 0.05},
        {"truncate_dim": 6, "batch_size": 5},
    ],
)
def test_it_is_equal_to_the_peer(settings, tmp_path, caplog):
    data = triplets()
    ours, theirs = TripletEvaluator(*data, **settings), peer.TripletEvaluator(*data, **settings)
    assert_equal_to_peer(ours, theirs, tiny_model(), tmp_path, caplog)


@pytest.mark.parametrize("name", ALL)
def test_anchors_are_encoded_as_queries_and_the_others_as_documents(name, tmp_path, caplog):
    prompts = {"query": "find : ", "document": "passage : "}
    data = triplets(30)
    for number, model in enumerate([tiny_model(similarity_fn_name=name, prompts=prompts), tiny_router_model()]):
        ours, theirs = TripletEvaluator(*data), peer.TripletEvaluator(*data)
        assert_equal_to_peer(ours, theirs, model, tmp_path / str(number), caplog)


def test_a_model_with_methods_for_queries_and_documents_gets_each_side_once():
    model = StubModel({"a": [1, 0], "p": [1, 0], "n": [0, 1]})
    TripletEvaluator(*ONE)(model)
    assert [(method, inputs) for method, inputs, _ in model.calls] == [
        ("encode_query", ["a"]),
        ("encode_document", ["p", "n"]),
    ]


@pytest.mark.parametrize(
    ("margin", "accuracy"), [(None, 1), (0.5, 1), (1, 0), (2, 0), ({"dot": 0.5}, 1), ({"dot": 1}, 0)]
)
def test_the_positive_must_be_closer_by_more_than_the_margin(margin, accuracy):
    model = StubModel({"a": [1], "p": [3], "n": [2]}, "dot")
    assert TripletEvaluator(*ONE, margin=margin)(model) == {"dot_accuracy": accuracy}


def test_a_margin_for_one_function_leaves_the_others_at_zero():
    model = StubModel({"a": [1, 0], "p": [3, 0], "n": [2, 1]})
    result = TripletEvaluator(*ONE, margin={"dot": 5}, similarity_fn_names=["cosine", "dot"])(model)
    assert result == {"cosine_accuracy": 1, "dot_accuracy": 0, "max_accuracy": 1}


@pytest.mark.parametrize("name", ALL)
def test_a_positive_tied_with_the_negative_counts_as_wrong(name):
    model = StubModel({"a": [1, 2], "p": [3, 1], "n": [3, 1]}, name)
    assert TripletEvaluator(*ONE)(model) == {f"{name}_accuracy": 0}


def test_the_mean_is_taken_in_float64():
    model = StubModel({"a": [1], "p": [3], "n": [2]}, "dot")
    result = TripletEvaluator(["a"] * 3, ["p", "p", "n"], ["n", "n", "p"])(model)
    assert result["dot_accuracy"] == 2 / 3


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("side", ["a", "p", "n"])
@pytest.mark.parametrize("names", [["cosine", "dot"], ["dot", "cosine"]])
def test_a_score_that_is_not_finite_makes_every_metric_nan_with_one_warning(bad, side, names, caplog):
    model = StubModel({"a": [1, 0], "p": [1, 1], "n": [0, 1], side: [bad, 1], "b": [1, 0]})
    evaluator = TripletEvaluator(["a", "b"], ["p", "b"], ["n", "b"], similarity_fn_names=names, name="dev")
    assert all(math.isnan(value) for value in evaluator(model).values())
    assert len(caplog.records) == 1
    assert "TripletEvaluator('dev'): 1 of 2 triplets" in caplog.text


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_embeddings_are_scored_in_float32(dtype):
    # Their products are both infinite in float16 and tie in bfloat16.
    model = StubModel({"a": [300, 1], "p": [300, 1.0078125], "n": [300, 1]}, "dot", dtype)
    assert TripletEvaluator(*ONE)(model) == {"dot_accuracy": 1}


def test_the_similarity_is_the_models_own_on_every_call():
    vectors = {"a": [1, 1], "p": [0.5, 0.5], "n": [10, 0]}
    evaluator = TripletEvaluator(*ONE)
    assert evaluator(StubModel(vectors, "cosine")) == {"cosine_accuracy": 1}
    assert evaluator(StubModel(vectors, "dot")) == {"dot_accuracy": 0}
    assert evaluator.primary_metric == "dot_accuracy"


def test_a_main_similarity_that_is_not_measured_does_not_become_the_primary_metric():
    model = StubModel({"a": [1], "p": [3], "n": [2]})
    evaluator = TripletEvaluator(*ONE, main_similarity_function="dot", similarity_fn_names=["cosine"])
    assert evaluator.primary_metric in {**evaluator(model), None: 0}
    assert evaluator.primary_metric == "cosine_accuracy"


def test_the_deprecated_name_of_the_main_similarity_works_and_warns(caplog):
    evaluator = TripletEvaluator(*ONE, main_distance_function=SimilarityFunction.DOT_PRODUCT)
    assert evaluator.main_similarity_function is SimilarityFunction.DOT_PRODUCT
    assert "main_distance_function is deprecated" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        (([], [], []), {}, "nothing to evaluate"),
        ((["a"], ["p"], ["n", "m"]), {}, "1 anchors, 1 positives, 2 negatives"),
        (ONE, {"margin": {"cosien": 0.5}}, r"unexpected keys \['cosien'\]"),
        (ONE, {"margin": "wide"}, "margin='wide'"),
        (ONE, {"margin": math.nan}, "must be finite"),
        (ONE, {"similarity_fn_names": ["cosin"]}, "Did you mean 'cosine'"),
        (ONE, {"main_similarity_function": "cosin"}, "cosin"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_at_construction(arguments, settings, message):
    with pytest.raises(ValueError, match=message):
        TripletEvaluator(*arguments, **settings)


def test_input_examples_make_an_evaluator():
    evaluator = TripletEvaluator.from_input_examples([InputExample(texts=["a", "p", "n"])], margin=0.5)
    assert (evaluator.anchors, evaluator.positives, evaluator.negatives) == ONE
    assert set(evaluator.margin.values()) == {0.5}
