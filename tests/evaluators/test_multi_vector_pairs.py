"""Triplets and reranking by multi-vector models: sentence-transformers' values, and what must come out right."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers.multi_vector_encoder import evaluation as peer
from sentence_transformers.multi_vector_encoder import scoring
from sentence_transformers.util import cos_sim
from sentence_transformers.util.similarity import maxsim, mean_maxsim
from support.models import tiny_model, tiny_multi_vector_model
from support.parity import assert_equal_to_peer, sentences

from benchmarks.multi_vector import StubMultiVectorModel
from st_eval_callbacks.encoding import session
from st_eval_callbacks.evaluators import MultiVectorRerankingEvaluator, MultiVectorTripletEvaluator

NAMES = ["maxsim", "meanmaxsim"]
TRIPLETS = ([*sentences(40, 1), "cat"], [*sentences(40, 2), "dog"], [*sentences(40, 3), "bird"])
SAMPLES = [
    {"query": query, "positive": sentences(1 + i % 3, 100 + i), "negative": sentences(2 + i % 4, 200 + i)}
    for i, query in enumerate([*sentences(12, 4), "fish"])
]
models = pytest.mark.parametrize("model", [{}, {"similarity_fn_name": "meanmaxsim", "prompts": {"query": "find : "}}])


# -- triplets ---------------------------------------------------------------------------------------------------------


@models
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"name": "dev", "main_similarity_function": "meanmaxsim", "batch_size": 5},
        {"similarity_fn_names": NAMES, "margin": {"maxsim": 0.5}},
        {"similarity_fn_names": NAMES[::-1], "main_similarity_function": "maxsim", "margin": 0.05},
    ],
)
def test_triplets_are_equal_to_the_peer(
    model: dict[str, Any], settings: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = (
        kind(*TRIPLETS, **settings) for kind in (MultiVectorTripletEvaluator, peer.MultiVectorTripletEvaluator)
    )
    assert_equal_to_peer(ours, theirs, tiny_multi_vector_model(**model), tmp_path, caplog)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_score_that_is_not_finite_makes_every_metric_nan(bad: float, caplog: pytest.LogCaptureFixture) -> None:
    model = StubMultiVectorModel({"a": torch.ones(2, 2), "p": torch.ones(1, 2), "n": torch.tensor([[bad, 1.0]])})
    evaluator = MultiVectorTripletEvaluator(["a"], ["p"], ["n"], similarity_fn_names=NAMES)
    assert all(math.isnan(value) for value in evaluator(model).values())
    assert len(caplog.records) == 1


def test_a_positive_tied_with_the_negative_counts_as_wrong() -> None:
    model = StubMultiVectorModel({"a": torch.rand(5, 8), "p": torch.ones(40, 8), "n": torch.ones(3, 8)})
    assert MultiVectorTripletEvaluator(["a"], ["p"], ["n"])(model) == {"maxsim_accuracy": 0}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"truncate_dim": 8}, "truncate_dim=8"),
        ({"similarity_fn_names": ["cosine"]}, "there is maxsim, meanmaxsim"),
        ({"margin": {"cosine": 1}}, "allowed are maxsim, meanmaxsim"),
    ],
)
def test_what_triplets_cannot_take_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiVectorTripletEvaluator(*TRIPLETS, **settings)


# -- reranking --------------------------------------------------------------------------------------------------------


@models
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"name": "dev", "at_k": 3, "batch_size": 5},
        {"use_batched_encoding": False},
        {"similarity_fct": lambda query, documents: mean_maxsim(query, documents)},
        {"similarity_fct": maxsim},
        {"similarity_fct": lambda query, documents: maxsim(query[0], documents), "use_batched_encoding": False},
    ],
)
def test_reranking_is_equal_to_the_peer(
    model: dict[str, Any], settings: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = (
        kind(SAMPLES, **settings) for kind in (MultiVectorRerankingEvaluator, peer.MultiVectorRerankingEvaluator)
    )
    assert_equal_to_peer(ours, theirs, tiny_multi_vector_model(**model), tmp_path, caplog)


def test_documents_with_the_same_vectors_tie_and_take_the_mean_over_their_orders() -> None:
    vectors = {"q": torch.rand(7, 16), **{text: torch.rand(50, 16) for text in "pn"}}
    vectors |= {text: vectors["p"] for text in ("x", "y", "z")}
    samples = [{"query": "q", "positive": ["p"], "negative": ["x", "y", "z"]}]
    result = MultiVectorRerankingEvaluator(samples)(StubMultiVectorModel(vectors))
    assert result["mrr@10"] == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    assert result["map"] == pytest.approx(1 / 4)


def test_reranking_takes_more_measures_and_the_models_similarity_anew() -> None:
    evaluator = MultiVectorRerankingEvaluator(SAMPLES, measures=["precision@1", "rprec"])
    found = [evaluator(tiny_multi_vector_model(similarity_fn_name=name)) for name in NAMES]
    assert found[0] == pytest.approx(found[1], abs=1e-9)
    assert list(found[0]) == ["map", "mrr@10", "ndcg@10", "precision@1", "rprec"]


def test_a_query_that_is_no_number_makes_every_metric_nan() -> None:
    model = StubMultiVectorModel({"q": torch.full((2, 2), math.nan), "p": torch.ones(1, 2), "n": torch.zeros(1, 2)})
    result = MultiVectorRerankingEvaluator([{"query": "q", "positive": "p", "negative": "n"}])(model)
    assert all(math.isnan(value) for value in result.values())


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("cosine", "there is maxsim, meanmaxsim"),
        (scoring.xtr_scores, "scores of XTR"),
        ("maxsin", "Did you mean 'maxsim'"),
    ],
)
def test_functions_that_do_not_fit_are_refused(function: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiVectorRerankingEvaluator(SAMPLES, similarity_fct=function)


def test_a_function_for_single_vectors_says_what_it_returned() -> None:
    evaluator = MultiVectorRerankingEvaluator(SAMPLES, similarity_fct=lambda query, documents: cos_sim(query, query))
    with pytest.raises(ValueError, match="scores for 3 documents"):
        evaluator(tiny_multi_vector_model())


def test_both_refuse_dense_models_by_name() -> None:
    for evaluator in (MultiVectorTripletEvaluator(*TRIPLETS), MultiVectorRerankingEvaluator(SAMPLES)):
        with pytest.raises(TypeError, match=f"{type(evaluator).__name__} does not fit SentenceTransformer"):
            evaluator.metric_names(tiny_model())


def test_a_session_encodes_each_text_once_for_both() -> None:
    documents = [text for one in SAMPLES for text in [*one["positive"], *one["negative"]]]
    queries = [one["query"] for one in SAMPLES]
    model = StubMultiVectorModel({text: torch.ones(len(text) % 5 + 1, 4) for text in [*queries, *documents]})
    with session():
        MultiVectorRerankingEvaluator(SAMPLES)(model)
        MultiVectorTripletEvaluator(queries, documents[:13], documents[13:26])(model)
    asked = [(method, text) for method, texts in model.calls for text in texts]
    assert len(asked) == len(set(asked)) == len(set(queries)) + len(set(documents))
