"""Reranking: sentence-transformers' values, ties, similarity functions, and the cases that must come out right."""

from __future__ import annotations

import math
import random
from itertools import permutations

import pytest
import torch
from sentence_transformers import util
from sentence_transformers.sentence_transformer import evaluation as peer
from sklearn.metrics import average_precision_score, ndcg_score
from support.models import StubModel, tiny_model, tiny_router_model
from support.parity import assert_equal_to_peer, sentences

from st_eval_callbacks.evaluators import RerankingEvaluator

KNOWN = [util.cos_sim, util.dot_score, util.euclidean_sim, util.manhattan_sim]


def reranking_samples(num=25, repeated=False):
    """Ragged lists; no document comes twice in a list unless asked for."""
    chooser = random.Random(3)
    pool = sentences(80, 4)
    pool = pool if repeated else list(dict.fromkeys(pool))
    queries = sentences(num, 5)
    samples = []
    for query in queries:
        chosen = chooser.choices(pool, k=12) if repeated else chooser.sample(pool, 12)
        num_positive, num_documents = chooser.randint(1, 3), chooser.randint(4, 12)
        samples.append(
            {"query": query, "positive": chosen[:num_positive], "negative": chosen[num_positive:num_documents]}
        )
    return samples


def of_scores(positive, negative, **kwargs):
    """A model and an evaluator of one sample whose documents have these scores."""
    vectors = {"q": [1.0]}
    names = {"positive": [], "negative": []}
    for side, scores in (("positive", positive), ("negative", negative)):
        for number, score in enumerate(scores):
            vectors[f"{side}{number}"] = [score]
            names[side].append(f"{side}{number}")
    kwargs = {"similarity_fct": util.dot_score, **kwargs}
    return StubModel(vectors, "dot"), RerankingEvaluator([{"query": "q", **names}], **kwargs)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"name": "dev", "at_k": 3},
        {"use_batched_encoding": False, "batch_size": 4},
        {"truncate_dim": 6, "similarity_fct": util.dot_score},
        {"similarity_fct": util.euclidean_sim, "at_k": 1},
        {"similarity_fct": util.manhattan_sim},
    ],
)
@pytest.mark.parametrize("as_dict", [False, True])
def test_it_is_equal_to_the_peer(settings, as_dict, tmp_path, caplog):
    samples = reranking_samples()
    given = {f"q{number}": sample for number, sample in enumerate(samples)} if as_dict else samples
    ours, theirs = RerankingEvaluator(given, **settings), peer.RerankingEvaluator(given, **settings)
    assert_equal_to_peer(ours, theirs, tiny_model(), tmp_path, caplog)


def test_queries_and_documents_are_encoded_as_such(tmp_path, caplog):
    prompted = tiny_model(prompts={"query": "find : ", "document": "passage : "})
    samples = reranking_samples()
    for number, model in enumerate([prompted, tiny_router_model()]):
        ours, theirs = RerankingEvaluator(samples), peer.RerankingEvaluator(samples)
        assert_equal_to_peer(ours, theirs, model, tmp_path / str(number), caplog)


def test_a_document_that_comes_twice_in_a_list_is_a_tie():
    # Not compared with the peer: its matrix product rounds equal rows differently, which parts equal documents.
    samples, model = reranking_samples(repeated=True), tiny_model()
    ap, ndcg = [], []
    for sample in samples:
        texts = list(dict.fromkeys([*sample["positive"], *sample["negative"]]))
        query = model.encode([sample["query"]] * len(texts), convert_to_tensor=True)
        by_text = dict(zip(texts, util.pairwise_cos_sim(query, model.encode(texts)).tolist(), strict=True))
        scores = [by_text[text] for text in [*sample["positive"], *sample["negative"]]]
        relevant = [1] * len(sample["positive"]) + [0] * len(sample["negative"])
        ap.append(average_precision_score(relevant, scores))
        ndcg.append(ndcg_score([relevant], [scores], k=10))
    result = RerankingEvaluator(samples)(model)
    assert result["map"] == pytest.approx(sum(ap) / len(ap), abs=1e-6)
    assert result["ndcg@10"] == pytest.approx(sum(ndcg) / len(ndcg), abs=1e-6)


def test_one_vector_for_all_texts_gives_the_values_of_a_random_order(caplog):
    model = StubModel({text: [1, 2] for text in "qpabc"})
    result = RerankingEvaluator([{"query": "q", "positive": ["p"], "negative": ["a", "b", "c"]}])(model)
    assert result == pytest.approx({"map": 0.25, "mrr@10": 0.5208, "ndcg@10": 0.6404}, abs=5e-5)
    assert len(caplog.records) == 1
    assert "RerankingEvaluator: all documents have the same score for 1 of 1 queries" in caplog.text


def test_no_metric_depends_on_the_order_of_the_documents():
    vectors = {"q": [1, 0], "p": [1, 1], "r": [1, 2], "a": [1, 1], "b": [1, 2], "c": [1, 0], "d": [1, 2]}
    results = []
    for negative in permutations("abcd"):
        for positive in permutations("pr"):
            sample = {"query": "q", "positive": list(positive), "negative": list(negative)}
            evaluator = RerankingEvaluator([sample], at_k=3, measures=["precision@2", "rprec", "recall@4"])
            results.append(evaluator(StubModel(vectors)))
    assert all(result == pytest.approx(results[0], abs=1e-15) for result in results)


def test_ties_count_with_the_mean_over_their_orders():
    model, evaluator = of_scores([0.5], [0.9, 0.5], measures=["accuracy@2", "precision@3", "mrr@1"])
    assert evaluator(model) == pytest.approx(
        {
            "map": 1 / 3,
            "mrr@10": (1 / 2 + 1 / 3) / 2,
            "ndcg@10": (1 / math.log2(3) + 1 / 2) / 2,
            "accuracy@2": 0.5,
            "precision@3": 1 / 3,
            "mrr@1": 0,
        }
    )


def test_more_measures_are_those_of_each_list_and_come_last_in_the_csv(tmp_path):
    model, evaluator = of_scores([0.9, 0.4], [0.5, 0.1], measures=["recall@1", "P@2", "map", "ndcg@10"], name="dev")
    result = evaluator(model, str(tmp_path))
    assert list(result) == ["dev_map", "dev_mrr@10", "dev_ndcg@10", "dev_recall@1", "dev_precision@2"]
    assert (result["dev_recall@1"], result["dev_precision@2"]) == (0.5, 0.5)
    header = (tmp_path / evaluator.csv_file).read_text().splitlines()[0]
    assert header == "epoch,steps,MAP,MRR@10,NDCG@10,recall@1,precision@2"


@pytest.mark.parametrize("function", [*KNOWN, util.pytorch_cos_sim])
@pytest.mark.parametrize("batched", [True, False])
def test_a_users_function_is_called_for_each_sample_as_the_peer_calls_it(function, batched):
    shapes = []

    def users(query, documents):
        shapes.append((query.ndim, documents.ndim))
        return function(query, documents)

    samples, model = reranking_samples(), tiny_model()
    settings = {"similarity_fct": users, "use_batched_encoding": batched}
    expected = peer.RerankingEvaluator(samples, **settings)(model)
    peer_shapes = shapes.copy()
    shapes.clear()
    assert RerankingEvaluator(samples, **settings)(model) == pytest.approx(expected, abs=1e-6)
    assert shapes == peer_shapes
    assert RerankingEvaluator(samples, similarity_fct=function)(model) == pytest.approx(expected, abs=1e-6)


def test_a_users_function_may_return_one_score_a_document_and_need_no_hash():
    class Product:
        __hash__ = None

        def __call__(self, query, documents):
            return documents @ query

    samples, model = reranking_samples(), tiny_model()
    expected = RerankingEvaluator(samples, similarity_fct="dot")(model)
    assert RerankingEvaluator(samples, similarity_fct=Product())(model) == pytest.approx(expected, abs=1e-6)


def test_a_users_function_that_returns_too_few_scores_is_named():
    model, evaluator = of_scores([1.0], [0.5], similarity_fct=lambda query, documents: torch.ones(1))
    with pytest.raises(ValueError, match=r"RerankingEvaluator: similarity_fct returned scores of shape \(1,\) for 2"):
        evaluator(model)


def test_it_scores_with_cosine_unless_told_otherwise_and_none_takes_the_models_own():
    sample = {"query": "q", "positive": ["p"], "negative": ["n"]}
    model = StubModel({"q": [1, 1], "p": [0.5, 0.5], "n": [10, 0]}, "dot")
    assert RerankingEvaluator([sample])(model)["mrr@10"] == 1
    assert RerankingEvaluator([sample], similarity_fct="dot")(model)["mrr@10"] == 0.5
    evaluator = RerankingEvaluator([sample], similarity_fct=None)
    assert evaluator(model)["mrr@10"] == 0.5
    model.similarity_fn_name = "cosine"
    assert evaluator(model)["mrr@10"] == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("function", [util.cos_sim, lambda query, documents: documents @ query])
def test_a_score_that_is_not_finite_makes_every_metric_nan_with_one_warning(bad, function, caplog):
    model, evaluator = of_scores([1.0], [bad], similarity_fct=function, name="dev", measures=["precision@1"])
    result = evaluator(model)
    assert len(result) == 4
    assert all(math.isnan(value) for value in result.values())
    assert len(caplog.records) == 1
    assert "RerankingEvaluator('dev'): 1 of 2 similarities" in caplog.text


@pytest.mark.parametrize("function", [util.dot_score, lambda query, documents: documents @ query])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_embeddings_are_scored_in_float32(function, dtype):
    # Their products are both infinite in float16 and tie in bfloat16.
    model = StubModel({"q": [300, 1], "p": [300, 1.0078125], "n": [300, 1]}, "dot", dtype)
    sample = {"query": "q", "positive": ["p"], "negative": ["n"]}
    assert RerankingEvaluator([sample], similarity_fct=function)(model)["map"] == 1


def test_samples_without_a_positive_or_a_negative_are_left_out_and_counted(caplog):
    good = {"query": "q", "positive": ["p"], "negative": ["n"], "source": "web"}
    samples = [{**good, "positive": []}, good, {**good, "negative": []}]
    evaluator = RerankingEvaluator(samples)
    assert evaluator.samples == [good]
    assert [record.getMessage() for record in caplog.records] == [
        "RerankingEvaluator: 2 of 3 samples have no positive or no negative document and are left out."
    ]


def test_a_single_document_stands_for_a_list_of_one():
    evaluator = RerankingEvaluator([{"query": "q", "positive": "p", "negative": "n"}])
    assert evaluator.samples == [{"query": "q", "positive": ["p"], "negative": ["n"]}]
    assert evaluator(StubModel({"q": [1, 0], "p": [1, 1], "n": [0, 1]})) == {"map": 1, "mrr@10": 1, "ndcg@10": 1}


def test_the_deprecated_cutoff_works_and_warns(caplog):
    evaluator = RerankingEvaluator(reranking_samples(2), mrr_at_k=3)
    assert (evaluator.at_k, evaluator.primary_metric) == (3, "ndcg@3")
    assert "mrr_at_k is deprecated, use at_k=3" in caplog.text


@pytest.mark.parametrize(
    ("samples", "settings", "message"),
    [
        ([], {}, "none of 0 samples"),
        ({}, {}, "none of 0 samples"),
        ([{"query": "q", "positive": [], "negative": ["n"]}], {}, "none of 1 samples"),
        ([{"query": "q", "positive": ["p"]}], {}, "sample 0 has no 'negative'"),
        (None, {"at_k": 0}, "at_k=0"),
        (None, {"similarity_fct": "cosin"}, "Did you mean 'cosine'"),
        (None, {"measures": ["ndgc@10"]}, "Did you mean 'ndcg@10'"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_at_construction(samples, settings, message):
    with pytest.raises(ValueError, match=message):
        RerankingEvaluator(reranking_samples(2) if samples is None else samples, **settings)


@pytest.mark.parametrize("function", [util.cos_sim, lambda query, documents: util.cos_sim(query, documents)])
def test_each_text_is_encoded_once(function):
    samples = [{"query": query, "positive": ["p"], "negative": ["n", "m"]} for query in ("q", "q", "r")]
    model = StubModel({text: [float(number), 1.0] for number, text in enumerate("qrpnm")})
    RerankingEvaluator(samples, similarity_fct=function)(model)
    assert sorted(model.encoded) == sorted("qrpnm")
