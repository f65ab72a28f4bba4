from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from support.models import TEXTS, StubModel, tiny_model, tiny_router_model
from torch import Tensor

from st_eval_callbacks.encoding import EncodeOptions, Session, session
from st_eval_callbacks.kernels.similarity import SIMILARITY_NAMES, all_pairs
from st_eval_callbacks.scorers import DenseScorer, scorer_for

QUERIES = {"q1": [1.0, 0.2, 0.0], "q2": [0.0, 1.0, 0.3], "q3": [0.5, 0.5, -1.0]}
DOCUMENTS = {f"d{i}": [float(i % 4), float(i % 3) - 1, float(i % 5) / 2] for i in range(11)}
VECTORS = {**QUERIES, **DOCUMENTS}
CORPUS = [*DOCUMENTS, "d3"]


@pytest.fixture
def stub() -> StubModel:
    return StubModel(VECTORS)


def table(texts: Any) -> Tensor:
    return torch.tensor([VECTORS[text] for text in texts])


@pytest.mark.parametrize("make", [lambda: StubModel(VECTORS), tiny_model, tiny_router_model])
def test_models_that_encode_are_dense(make: Any) -> None:
    scorer = scorer_for(make())
    assert isinstance(scorer, DenseScorer)
    assert scorer.kind == "dense"


def test_objects_without_encode_are_refused_by_name() -> None:
    with pytest.raises(TypeError, match="object has no encode"):
        scorer_for(object())


@pytest.mark.parametrize("name", SIMILARITY_NAMES)
def test_the_similarity_function_is_the_models(name: Any) -> None:
    assert scorer_for(StubModel({}, similarity_fn_name=name)).similarity_fn_name == name
    assert scorer_for(tiny_model(similarity_fn_name=name)).similarity_fn_name == name


def test_the_similarity_function_follows_the_model() -> None:
    model = tiny_model()
    scorer = scorer_for(model)
    assert scorer.similarity_fn_name == "cosine"
    model.similarity_fn_name = "dot"
    assert scorer.similarity_fn_name == "dot"


def test_a_model_without_a_similarity_function_takes_cosine() -> None:
    class Plain:
        similarity_fn_name = None

        def encode(self, inputs: list[str]) -> Tensor:
            return torch.ones(len(inputs), 2)

    assert scorer_for(Plain()).similarity_fn_name == "cosine"
    del Plain.similarity_fn_name
    assert scorer_for(Plain()).similarity_fn_name == "cosine"


def test_pairs_have_the_scores_of_their_embeddings(stub: StubModel) -> None:
    left, right = ["q1", "q1", "q2", "d1"], ["d4", "d5", "d6", "d1"]
    scores = DenseScorer(stub).pairwise(left, right, SIMILARITY_NAMES)
    for name in SIMILARITY_NAMES:
        expected = all_pairs(name, table(left), table(right)).diagonal()
        torch.testing.assert_close(scores[name], expected, atol=1e-6, rtol=0)
    assert len(stub.calls) == 1
    assert sorted(stub.encoded) == ["d1", "d4", "d5", "d6", "q1", "q2"]


def test_sides_may_be_encoded_in_different_ways() -> None:
    model = tiny_router_model()
    query, document = EncodeOptions(task="query", truncate_dim=5), EncodeOptions(task="document", truncate_dim=5)
    scores = DenseScorer(model).pairwise(TEXTS[:4], TEXTS[4:8], ["dot"], query, document)["dot"]
    left = model.encode_query(TEXTS[:4], convert_to_tensor=True, truncate_dim=5)
    right = model.encode_document(TEXTS[4:8], convert_to_tensor=True, truncate_dim=5)
    torch.testing.assert_close(scores, (left * right).sum(dim=1), atol=1e-4, rtol=0)


def test_pairs_need_two_sides_of_one_length(stub: StubModel) -> None:
    with pytest.raises(ValueError, match="2 inputs on the left and 1 on the right"):
        DenseScorer(stub).pairwise(["q1", "q2"], ["d1"], ["cosine"])


def test_an_unknown_similarity_is_refused_before_anything_is_encoded(stub: StubModel) -> None:
    with pytest.raises(ValueError, match="'cosin'"):
        DenseScorer(stub).pairwise(["q1"], ["d1"], ["cosin"])
    with pytest.raises(ValueError, match="'cosin'"):
        DenseScorer(stub).search(["q1"], ["d1"], 1, {"cosin": "cosin"})
    assert stub.calls == []


@pytest.mark.parametrize("chunk_size", [1, 2, 5, 100])
def test_a_search_finds_the_best_of_all_pairs_under_every_function(
    stub: StubModel, chunk_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[Session.__module__], "_STREAM_CHUNK", 4)
    functions: dict[str, Any] = {name: name for name in SIMILARITY_NAMES}
    functions["doubled"] = lambda queries, documents: 2 * queries @ documents.T
    results = DenseScorer(stub).search(list(QUERIES), CORPUS, 4, functions, corpus_chunk_size=chunk_size)
    assert list(results) == list(functions)
    for name, result in results.items():
        scores = 2 * table(QUERIES) @ table(CORPUS).T
        if name != "doubled":
            scores = all_pairs(name, table(QUERIES), table(CORPUS))
        expected = torch.sort(scores, dim=1, descending=True, stable=True)
        torch.testing.assert_close(result.hits.scores, expected.values[:, :4], atol=1e-5, rtol=0)
        torch.testing.assert_close(scores.gather(1, result.hits.positions), result.hits.scores, atol=1e-5, rtol=0)
        assert result.num_nonfinite == 0
        assert result.num_tied is None
        assert result.watched_scores is None
    # The corpus passed once for all of them.
    assert sorted(stub.encoded) == sorted([*QUERIES, *DOCUMENTS])


def test_queries_and_documents_are_encoded_as_such(stub: StubModel) -> None:
    DenseScorer(stub).search(["q1"], CORPUS, 2, {"dot": "dot"})
    assert [method for method, _, _ in stub.calls] == ["encode_query", "encode_document"]
    stub.calls.clear()
    plain = EncodeOptions()
    DenseScorer(stub).search(["q1"], CORPUS, 2, {"dot": "dot"}, query_options=plain, corpus_options=plain)
    assert [method for method, _, _ in stub.calls] == ["encode", "encode"]


def test_ties_and_watched_pairs_are_told_when_asked_for(stub: StubModel) -> None:
    watch = (torch.tensor([0, 2]), torch.tensor([3, 7]))
    corpus = ["d3", "d0", "d3", "d3"]
    result = DenseScorer(stub).search(["q1"], corpus, 2, {"dot": "dot"}, track_ties=True)["dot"]
    assert result.hits.positions.tolist() == [[0, 2]]
    assert result.num_tied is not None
    assert result.num_tied.tolist() == [3]
    result = DenseScorer(stub).search(list(QUERIES), CORPUS, 2, {"dot": "dot"}, watch=watch)["dot"]
    assert result.watched_scores is not None
    expected = (table(QUERIES)[watch[0]] * table(CORPUS)[watch[1]]).sum(dim=1)
    torch.testing.assert_close(result.watched_scores, expected, atol=1e-6, rtol=0)


def test_a_corpus_shorter_than_k_fills_up_with_no_hit(stub: StubModel) -> None:
    hits = DenseScorer(stub).search(["q1"], ["d1"], 3, {"dot": "dot"})["dot"].hits
    assert hits.positions.tolist() == [[0, -1, -1]]


def test_queries_with_scores_that_are_no_numbers_are_counted() -> None:
    model = StubModel({"good": [1.0, 0.0], "bad": [float("nan"), 0.0], "d": [1.0, 1.0]})
    result = DenseScorer(model).search(["good", "bad"], ["d"], 1, {"cosine": "cosine"})["cosine"]
    assert result.num_nonfinite == 1


def test_scorers_share_the_session_that_is_open(stub: StubModel) -> None:
    plain = EncodeOptions()
    with session():
        for dim in (1, 2, 3):
            cut = EncodeOptions(truncate_dim=dim)
            scorer_for(stub).search(["q1"], CORPUS, 2, {"dot": "dot"}, query_options=cut, corpus_options=cut)
        scorer_for(stub).pairwise(["q1"], ["d1"], ["dot"], plain, plain)
        rows = scorer_for(stub).embed(["d2", "q1"]).rows()
    assert torch.equal(rows, table(["d2", "q1"]))
    assert [len(inputs) for _, inputs, _ in stub.calls] == [1, 11]


def test_a_corpus_may_come_as_embeddings_or_from_another_model(stub: StubModel) -> None:
    expected = DenseScorer(stub).search(list(QUERIES), CORPUS, 4, {"cosine": "cosine"})["cosine"]
    given = DenseScorer(stub).search(list(QUERIES), table(CORPUS), 4, {"cosine": "cosine"}, corpus_chunk_size=5)
    assert torch.equal(given["cosine"].hits.positions, expected.hits.positions)
    other = StubModel({text: vector[::-1] for text, vector in VECTORS.items()})
    flipped = DenseScorer(stub).search(list(QUERIES), CORPUS, 4, {"dot": "dot"}, corpus_model=other)["dot"]
    scores = table(QUERIES) @ table(CORPUS).flip(1).T
    torch.testing.assert_close(flipped.hits.scores, scores.sort(dim=1, descending=True).values[:, :4])
    assert other.encoded == list(DOCUMENTS)
