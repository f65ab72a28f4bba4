"""The adapter of multi-vector models: what it encodes, scores and finds."""

from __future__ import annotations

import functools
import sys
from typing import Any

import pytest
import torch
from sentence_transformers.multi_vector_encoder import scoring
from sentence_transformers.util import similarity as st_similarity
from support.models import TEXTS, tiny_multi_vector_model

from benchmarks.multi_vector import StubMultiVectorModel
from st_eval_callbacks.encoding import EncodeOptions, Session, encode_once, session
from st_eval_callbacks.encoding import multi_vector as encoding
from st_eval_callbacks.kernels.maxsim import all_maxsim
from st_eval_callbacks.kernels.ragged_rows import RaggedRows
from st_eval_callbacks.scorers import MultiVectorScorer, Wish, scorer_for
from st_eval_callbacks.scorers.multi_vector import check_no_xtr, known_similarity

QUERIES = {f"q{i}": torch.eye(3)[: 1 + i % 3] + i for i in range(4)}
DOCUMENTS = {f"d{i}": torch.tensor([[i % 4, i % 3 - 1, i % 5 / 2]]).repeat(1 + i % 2, 1) for i in range(11)}
VECTORS = {**QUERIES, **{text: rows.float() for text, rows in DOCUMENTS.items()}}
CORPUS = [*DOCUMENTS, "d3"]
QUERY, DOCUMENT = EncodeOptions(task="query"), EncodeOptions(task="document")


@pytest.fixture
def stub() -> StubMultiVectorModel:
    return StubMultiVectorModel(VECTORS)


def rows(texts: Any) -> RaggedRows:
    return RaggedRows.of([VECTORS[text] for text in texts])


# -- encoding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [None, 1, 3])
@pytest.mark.parametrize("call_size", [2, 4096])
def test_vectors_are_those_of_the_models_own_methods(
    batch_size: int | None, call_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "_CALL_SIZE", call_size)
    monkeypatch.setattr(encoding, "_DEFAULT_BATCH_SIZE", 2)
    model = tiny_multi_vector_model(prompts={"query": "find : ", "document": "passage : "})
    methods = {None: model.encode, "query": model.encode_query, "document": model.encode_document}
    for task, method in methods.items():
        for asked in ({}, {"prompt": "a "}, {"prompt_name": "query"}):
            found = encode_once(model, TEXTS, EncodeOptions(task=task, batch_size=batch_size, **asked))
            for one, other in zip(found.rows().split(), method(TEXTS, **asked), strict=True):
                torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_a_text_is_encoded_once_for_each_task(stub: StubMultiVectorModel) -> None:
    with session():
        scorer = scorer_for(stub)
        scorer.pairwise(["q0", "q0", "q1"], ["d1", "d2", "d1"], ["maxsim"], QUERY, DOCUMENT)
        scorer.search(["q1", "q2"], CORPUS, 3, {"maxsim": "maxsim"})
        scorer.embed(["d2", "d0"], DOCUMENT)
    asked = [(method, text) for method, texts in stub.calls for text in texts]
    assert len(asked) == len(set(asked)) == 3 + 11


@pytest.mark.parametrize(("num_wishes", "is_kept"), [(1, False), (2, True)])
def test_a_corpus_is_kept_only_when_it_is_wanted_twice(
    stub: StubMultiVectorModel, num_wishes: int, is_kept: bool
) -> None:
    scorer = scorer_for(stub)
    with session():
        scorer.prepare([Wish(["q1"], QUERY), *[Wish(CORPUS, DOCUMENT, streams=True)] * num_wishes])
        assert stub.calls == [("encode_query", ["q1"])]
        for _ in range(num_wishes):
            scorer.search(["q1"], CORPUS, 3, {"maxsim": "maxsim"})
        num_calls = len(stub.calls)
        scorer.embed(CORPUS, DOCUMENT)
    assert num_calls == 2
    assert (len(stub.calls) == num_calls) is is_kept


def test_a_long_corpus_is_encoded_in_blocks_of_the_size_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MultiVectorScorer, "least_at_once", 1)
    model = StubMultiVectorModel({f"{i}": torch.ones(1 + i % 3, 2) for i in range(50)})
    scorer_for(model).search(["0"], list(model.vectors), 3, {"maxsim": "maxsim"}, corpus_chunk_size=20)
    assert [len(texts) for method, texts in model.calls if method == "encode_document"] == [20, 20, 10]


def test_sizes_and_lengths_come_from_one_encoding(stub: StubMultiVectorModel) -> None:
    one = Session()
    for dim in (1, 2, 3):
        found = one.lookup(stub, ["d3", "d1", "d3"], EncodeOptions(task="document", truncate_dim=dim)).rows()
        assert torch.equal(found.vectors, rows(["d3", "d1", "d3"]).vectors[:, :dim])
    found = one.lookup(stub, ["d3"], EncodeOptions(task="document", normalize=True)).rows()
    assert torch.equal(found.vectors, torch.nn.functional.normalize(VECTORS["d3"], dim=1))
    assert len(stub.calls) == 1


def test_a_result_that_is_no_matrix_an_input_is_refused() -> None:
    with pytest.raises(ValueError, match="StubMultiVectorModel returned 1 embeddings of shape"):
        scorer_for(StubMultiVectorModel({"a": torch.zeros(3)})).embed(["a"])


# -- scores -----------------------------------------------------------------------------------------------------------


def test_multi_vector_models_have_an_adapter_of_their_kind() -> None:
    model = tiny_multi_vector_model()
    scorer = scorer_for(model)
    assert isinstance(scorer, MultiVectorScorer)
    assert (scorer.kind, scorer.similarity_fn_name) == ("multi_vector", "maxsim")
    model.similarity_fn_name = "meanmaxsim"
    assert scorer.similarity_fn_name == "meanmaxsim"


def test_pairs_have_the_scores_of_their_vectors(stub: StubMultiVectorModel) -> None:
    left, right = ["q0", "q1", "q1", "q3"], ["d4", "d5", "d6", "d1"]
    scores = scorer_for(stub).pairwise(left, right, ["meanmaxsim", "maxsim"])
    for name in ("maxsim", "meanmaxsim"):
        torch.testing.assert_close(scores[name], all_maxsim(name, rows(left), rows(right)).diagonal())
    repeats = torch.tensor([1, 2, 1])
    again = scorer_for(stub).pairwise(["q0", "q1", "q3"], right, ["maxsim"], repeats=repeats)
    assert torch.equal(again["maxsim"], scores["maxsim"])


@pytest.mark.parametrize("chunk_size", [1, 2, 5, 100])
def test_a_search_finds_the_best_of_all_pairs_under_every_function(
    stub: StubMultiVectorModel, chunk_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[Session.__module__], "_STREAM_CHUNK", 4)
    functions: dict[str, Any] = {
        "maxsim": "maxsim",
        "meanmaxsim": "meanmaxsim",
        "doubled": lambda queries, documents: 2 * st_similarity.maxsim(queries, documents),
    }
    watch = (torch.tensor([0, 2]), torch.tensor([3, 7]))
    results = scorer_for(stub).search(
        list(QUERIES), CORPUS, 4, functions, corpus_chunk_size=chunk_size, track_ties=True, watch=watch
    )
    for name, result in results.items():
        scores = all_maxsim("maxsim" if name == "doubled" else name, rows(QUERIES), rows(CORPUS))
        scores = 2 * scores if name == "doubled" else scores
        expected = scores.sort(dim=1, descending=True, stable=True)
        assert result.hits.positions.tolist() == expected.indices[:, :4].tolist()
        torch.testing.assert_close(result.hits.scores, expected.values[:, :4])
        assert result.num_nonfinite == 0
        assert result.num_tied.tolist() == (scores == expected.values[:, 3:4]).sum(dim=1).tolist()
        torch.testing.assert_close(result.watched_scores, scores[watch])


def test_a_corpus_may_come_as_vectors_or_from_another_model(stub: StubMultiVectorModel) -> None:
    scorer = scorer_for(stub)
    expected = scorer.search(list(QUERIES), CORPUS, 4, {"maxsim": "maxsim"})["maxsim"].hits
    given = scorer.search(list(QUERIES), rows(CORPUS), 4, {"maxsim": "maxsim"})["maxsim"].hits
    other = StubMultiVectorModel({text: one.flip(1) for text, one in VECTORS.items()})
    flipped = scorer.search(list(QUERIES), CORPUS, 4, {"maxsim": "maxsim"}, corpus_model=other)["maxsim"].hits
    turned = RaggedRows(rows(CORPUS).vectors.flip(1), rows(CORPUS).offsets)
    assert torch.equal(given.positions, expected.positions)
    assert torch.equal(flipped.scores, scorer.search(list(QUERIES), turned, 4, {"m": "maxsim"})["m"].hits.scores)


def test_inputs_without_vectors_are_counted_in_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    empty = StubMultiVectorModel({**VECTORS, "none": torch.empty(0, 3)})
    hits = scorer_for(empty).search(["q1"], ["none", "d1", "none"], 3, {"maxsim": "maxsim"})["maxsim"].hits
    assert hits.positions.tolist() == [[1, 0, 2]]
    assert [record.getMessage()[:26] for record in caplog.records] == ["2 documents have no vector"]
    caplog.clear()
    assert scorer_for(empty).pairwise(["none"], ["d1"], ["maxsim"])["maxsim"].tolist() == [0]
    assert "1 queries have no vector" in caplog.text


# -- what is refused --------------------------------------------------------------------------------------------------


def test_an_unknown_similarity_is_refused_before_anything_is_encoded(stub: StubMultiVectorModel) -> None:
    for name in ("cosine", "xtr"):
        with pytest.raises(ValueError, match=f"unknown similarity {name!r}"):
            scorer_for(stub).pairwise(["q1"], ["d1"], [name])
        with pytest.raises(ValueError, match=f"unknown similarity {name!r}"):
            scorer_for(stub).search(["q1"], ["d1"], 1, {name: name})
    with pytest.raises(ValueError, match="1 inputs on the left and 2 on the right"):
        scorer_for(stub).pairwise(["q1"], ["d1", "d2"], ["maxsim"])
    assert stub.calls == []


@pytest.mark.parametrize(
    "function",
    [
        "xtr",
        scoring.xtr_scores,
        scoring.xtr_kd_scores,
        scoring.xtr_scores_pairwise,
        scoring.XTRScores(),
        scoring.XTRKDScores(),
        functools.partial(scoring.xtr_scores, top_k=3),
        torch.compile(scoring.xtr_scores, backend="eager"),
    ],
)
def test_functions_of_xtr_are_refused_bound_or_compiled(function: Any) -> None:
    with pytest.raises(ValueError, match="mine: scores of XTR"):
        check_no_xtr("mine", function)


def test_other_functions_are_not_taken_for_xtr() -> None:
    for function in (None, "maxsim", scoring.colbert_scores, functools.partial(st_similarity.maxsim), max):
        check_no_xtr("mine", function)


def test_the_peers_functions_are_known_by_their_names() -> None:
    assert known_similarity(st_similarity.maxsim) == known_similarity("maxsim") == "maxsim"
    assert known_similarity(st_similarity.mean_maxsim_pairwise) == "meanmaxsim"
    assert known_similarity(max) is max
    assert known_similarity(None) is None
