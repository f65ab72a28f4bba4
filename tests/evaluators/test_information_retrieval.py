"""Retrieval: the peer's values, ties, gaps in the judgements, and the cases that must come out right."""

from __future__ import annotations

import json
import math
import random
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import util
from sentence_transformers.sentence_transformer import evaluation as peer
from support.models import StubModel, tiny_model, tiny_router_model
from support.parity import assert_equal_to_peer, sentences

from st_eval_callbacks.evaluators import InformationRetrievalEvaluator

NAN = float("nan")


def collection(
    num_queries: int = 12, num_documents: int = 70
) -> tuple[dict[str, str], dict[str, str], dict[str, Any]]:
    chooser = random.Random(1)
    texts = list(dict.fromkeys(sentences(num_queries + num_documents + 30, 2)))
    queries = {f"q{i}": text for i, text in enumerate(texts[:num_queries])}
    documents = texts[num_queries : num_queries + num_documents]
    names = [f"d{i}" for i in range(len(documents))]
    chooser.shuffle(names)
    corpus = dict(zip(names, documents, strict=True))
    relevant = {query: set(chooser.sample(names, chooser.randint(1, 4))) for query in queries}
    return queries, corpus, relevant


def small(vectors: dict[str, list[float]], relevant: Any, similarity: str = "dot", **kwargs: Any) -> tuple[Any, Any]:
    """A model and an evaluator of query "q" and one document for every other text, whose id is the text."""
    corpus = {text: text for text in vectors if text != "q"}
    kwargs = {"mrr_at_k": [10], "map_at_k": [100], **kwargs}
    return StubModel(vectors, similarity), InformationRetrievalEvaluator({"q": "q"}, corpus, {"q": relevant}, **kwargs)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {
            "name": "dev",
            "ndcg_at_k": [3, 10],
            "accuracy_at_k": [2],
            "precision_recall_at_k": [4, 2],
            "map_at_k": [5, 100],
        },
        {"truncate_dim": 5, "name": "small"},
        {"corpus_chunk_size": 7, "batch_size": 3},
        {"score_functions": {"dot": util.dot_score, "cosine": util.cos_sim, "euclidean": util.euclidean_sim}},
        {"score_functions": {"mine": lambda a, b: (a @ b.T) * 2}, "main_score_function": None},
        {"query_prompt": "query : ", "corpus_prompt": "passage : "},
    ],
)
def test_it_is_equal_to_the_peer(settings: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = collection()
    ours, theirs = (
        InformationRetrievalEvaluator(*data, **settings),
        peer.InformationRetrievalEvaluator(*data, **settings),
    )
    assert_equal_to_peer(ours, theirs, tiny_model(), tmp_path, caplog)


def test_queries_and_documents_are_encoded_as_such(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = collection()
    prompted = tiny_model(prompts={"query": "find : ", "document": "passage : "})
    for number, model in enumerate([prompted, tiny_router_model()]):
        ours, theirs = InformationRetrievalEvaluator(*data), peer.InformationRetrievalEvaluator(*data)
        assert_equal_to_peer(ours, theirs, model, tmp_path / str(number), caplog)


def test_predictions_are_those_of_the_peer(tmp_path: Path) -> None:
    data, model = collection(), tiny_model()
    settings = {"write_predictions": True, "name": "dev", "map_at_k": [10]}
    InformationRetrievalEvaluator(*data, **settings)(model, str(tmp_path / "ours"))
    peer.InformationRetrievalEvaluator(*data, **settings)(model, str(tmp_path / "theirs"))
    name = "Information-Retrieval_evaluation_dev_predictions_cosine.jsonl"
    ours, theirs = (
        [json.loads(line) for line in (tmp_path / side / name).read_text().splitlines()] for side in ("ours", "theirs")
    )
    for one, other in zip(ours, theirs, strict=True):
        assert (one["query_id"], one["query"]) == (other["query_id"], other["query"])
        assert [hit["corpus_id"] for hit in one["results"]] == [hit["corpus_id"] for hit in other["results"]]
        scores = [[hit["score"] for hit in side["results"]] for side in (one, other)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-5)


@pytest.mark.parametrize("ties", ["id", "expected"])
def test_metrics_do_not_depend_on_the_chunk_size_even_with_ties(ties: str) -> None:
    vectors = {f"d{i}": [float(i % 3), 1.0] for i in range(11)} | {"q": [1.0, 0.0]}
    results = []
    for size in (1, 2, 3, 50):
        model, evaluator = small(vectors, {"d4", "d7", "d8"}, corpus_chunk_size=size, ties=ties, ndcg_at_k=[3, 10])
        results.append(evaluator(model))
    assert all(result == results[0] for result in results)


def test_nan_embeddings_give_nan_and_one_warning_that_counts(caplog: pytest.LogCaptureFixture) -> None:
    model, evaluator = small({text: [NAN, NAN] for text in ["q", "a", "b", "c", "d", "e"]}, {"a"})
    result = evaluator(model)
    assert all(math.isnan(value) for value in result.values())
    assert len(caplog.records) == 1
    assert "InformationRetrievalEvaluator: 1 of 1 queries' scores are not finite" in caplog.text


def test_tied_documents_stand_by_id_or_count_as_the_mean_of_all_orders(caplog: pytest.LogCaptureFixture) -> None:
    one = [1.0, 2.0]
    model, evaluator = small({"q": one, "d1": one, "d2": one, "d3": one}, {"d3"}, "cosine")
    assert evaluator(model)["cosine_map@100"] == pytest.approx(1 / 3)
    assert "collapsed" in caplog.text
    for names in permutations(["d1", "d2", "d3"]):
        model, evaluator = small({"q": one, **dict.fromkeys(names, one)}, {names[0]}, "cosine", ties="expected")
        result = evaluator(model)
        wanted = {"cosine_mrr@10": 0.6111, "cosine_map@100": 0.6111, "cosine_ndcg@10": 0.7103}
        assert {key: result[key] for key in wanted} == pytest.approx(wanted, abs=5e-5)


@pytest.mark.parametrize(
    ("dtype", "vectors", "relevant"),
    [
        (torch.bfloat16, {"q": [1, 1], "a": [1, 1], "b": [1, 1.0078125]}, "b"),
        (torch.float16, {"q": [300, 0], "a": [250, 0], "b": [300, 0]}, "b"),
    ],
)
def test_half_precision_is_scored_in_float32(dtype: torch.dtype, vectors: Any, relevant: str) -> None:
    evaluator = InformationRetrievalEvaluator({"q": "q"}, {"a": "a", "b": "b"}, {"q": {relevant}})
    assert evaluator(StubModel(vectors, "dot", dtype=dtype))["dot_mrr@10"] == 1


def test_one_evaluator_follows_the_similarity_of_each_model() -> None:
    vectors = {"q": [1, 1], "a": [10, 0], "b": [0.5, 0.5]}
    evaluator = InformationRetrievalEvaluator({"q": "q"}, {"a": "a", "b": "b"}, {"q": {"b"}})
    assert evaluator(StubModel(vectors, "cosine"))["cosine_mrr@10"] == 1
    result = evaluator(StubModel(vectors, "dot"))
    assert set(result) == set(evaluator.metric_names(StubModel(vectors, "dot")))
    assert (result["dot_mrr@10"], round(result["dot_ndcg@10"], 4)) == (0.5, 0.6309)
    assert evaluator.primary_metric == "dot_ndcg@10"


@pytest.mark.parametrize(("ignore", "accuracy"), [(False, 0), (True, 1)])
def test_a_document_with_the_querys_own_id_can_be_left_out(ignore: bool, accuracy: float) -> None:
    model = StubModel({"same": [1, 0], "b": [0.5, 0.5]}, "dot")
    evaluator = InformationRetrievalEvaluator(
        {"a": "same"}, {"a": "same", "b": "b"}, {"a": {"b"}}, ignore_identical_ids=ignore
    )
    result = evaluator(model)
    assert result["dot_accuracy@1"] == accuracy
    assert result["dot_mrr@10"] == (1 if ignore else 0.5)


def test_a_gain_of_zero_is_not_relevant_and_ndcg_is_graded() -> None:
    vectors = {"q": [1, 0], "d0": [2, 0], "d1": [1, 0]}
    model, evaluator = small(vectors, {"d0": 0, "d1": 3})
    result = evaluator(model)
    assert (result["dot_accuracy@1"], result["dot_mrr@10"]) == (0, 0.5)
    assert result["dot_ndcg@10"] == pytest.approx(0.6309, abs=5e-5)
    model, evaluator = small({**vectors, "d2": [3, 0]}, {"d0": 1, "d1": 3})
    ideal = 3 + 1 / math.log2(3)
    assert evaluator(model)["dot_ndcg@10"] == pytest.approx((1 / math.log2(3) + 3 / 2) / ideal)


def test_queries_without_relevant_documents_are_left_out_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    vectors = {text: [float(i), 1.0] for i, text in enumerate(["q1", "q2", "q3", "d1", "d2", "d3"])}
    queries, corpus = {f"q{i}": f"q{i}" for i in (1, 2, 3)}, {f"d{i}": f"d{i}" for i in (1, 2, 3)}
    judged = {"q1": {"d1": 0, "d2": 1, "d3": 0}, "q2": {}, "q3": {"d2": 1, "d3": 1}}
    whole = InformationRetrievalEvaluator(queries, corpus, judged)
    assert "1 of 3 queries have no relevant document" in caplog.text
    without = InformationRetrievalEvaluator({q: q for q in ("q1", "q3")}, corpus, {q: judged[q] for q in ("q1", "q3")})
    model = StubModel(vectors, "dot")
    assert whole(model) == without(model)


def test_map_divides_by_the_smaller_of_cutoff_and_relevant_documents() -> None:
    vectors = {f"d{i}": [10.0 - i] for i in range(10)} | {"q": [1.0]}
    model, evaluator = small(vectors, {f"d{i}" for i in range(10)}, map_at_k=[5])
    assert evaluator(model)["dot_map@5"] == 1


@pytest.mark.parametrize(("ignore", "recall"), [(False, 0.5), (True, 1.0)])
def test_missing_relevant_documents_are_said_and_can_be_left_out(
    ignore: bool, recall: float, caplog: pytest.LogCaptureFixture
) -> None:
    model, evaluator = small({"q": [1], "d0": [2], "d1": [1]}, {"d0", "GONE"}, ignore_missing_docs=ignore)
    assert evaluator(model)["dot_recall@10"] == recall
    assert "1 of 2 relevant documents are not in the corpus" in caplog.text


def test_a_corpus_smaller_than_the_cutoff_is_no_trouble() -> None:
    model, evaluator = small({"q": [1], "d0": [2], "d1": [1]}, {"d0"})
    result = evaluator(model)
    assert (result["dot_precision@10"], result["dot_ndcg@10"]) == (0.1, 1)


@pytest.mark.parametrize("name", ["cosine", "a/../../b", "x: y\n", "ü" * 200])
def test_the_primary_metric_is_a_key_and_files_stay_inside_whatever_the_name(name: str, tmp_path: Path) -> None:
    model, evaluator = small({"q": [1], "d0": [2], "d1": [1]}, {"d0"}, name=name, write_predictions=True)
    result = evaluator(model, str(tmp_path / "inner"), 1, 1)
    assert evaluator.primary_metric in result
    assert len(list((tmp_path / "inner").iterdir())) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["inner"]


def test_measures_can_be_asked_for_by_name() -> None:
    vectors = {f"d{i}": [10.0 - i] for i in range(10)} | {"q": [1.0]}
    model, evaluator = small(vectors, {"d0", "d2", "d9"}, measures=["r_cap@2", "rprec", "map"])
    result = evaluator(model)
    assert evaluator.metric_names(model) == list(result)
    assert (result["dot_r_cap@2"], result["dot_rprec"]) == (0.5, pytest.approx(2 / 3))
    assert result["dot_map"] == pytest.approx((1 + 2 / 3 + 3 / 10) / 3)


def test_given_corpus_embeddings_and_another_corpus_model_are_used() -> None:
    data, model = collection(), tiny_model()
    evaluator = InformationRetrievalEvaluator(*data)
    expected = evaluator(model)
    embeddings = model.encode_document(list(data[1].values()), convert_to_tensor=True)
    assert evaluator(model, corpus_embeddings=embeddings) == pytest.approx(expected, abs=1e-6)
    other = tiny_model(seed=5)
    theirs = peer.InformationRetrievalEvaluator(*data)(model, corpus_model=other)
    assert evaluator(model, corpus_model=other) == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (({"q": "q"}, {"d": "d"}, {"q": set()}), "none of the 1 queries has a relevant document"),
        (({1: "q"}, {"d": "d"}, {"1": {"d"}}), "same type"),
        (({"q": "q"}, {}, {"q": {"d"}}), "corpus is empty"),
    ],
)
def test_nothing_to_evaluate_is_refused_at_construction(arguments: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        InformationRetrievalEvaluator(*arguments)


def test_integer_ids_work_and_two_calls_are_equal() -> None:
    model = StubModel({"q": [1, 0], "a": [1, 0], "b": [0, 1]}, "dot")
    evaluator = InformationRetrievalEvaluator({1: "q"}, {2: "a", 10: "b"}, {1: [2]})
    assert evaluator(model) == evaluator(model)
    assert evaluator(model)["dot_accuracy@1"] == 1
