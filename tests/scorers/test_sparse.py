"""Sparse models behind the interface of scorers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SparseEncoder, util
from support.models import TEXTS, tiny_sparse_model
from support.parity import sentences
from torch import Tensor

from st_eval_callbacks.encoding import EncodeOptions, Session, encode_once, session
from st_eval_callbacks.kernels import sparse_search
from st_eval_callbacks.kernels.similarity import SIMILARITY_NAMES, all_pairs
from st_eval_callbacks.kernels.sparse_rows import SparseRows
from st_eval_callbacks.scorers import SparseScorer, scorer_for

pytestmark = pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled")

QUERIES = list(dict.fromkeys(sentences(9, 1)))
CORPUS = sentences(40, 2)


class Counting(SparseEncoder):
    """A sparse model of a user: counts what it encodes, and returns what is asked for or a list of vectors."""

    def __init__(self, returns: str = "sparse") -> None:
        torch.nn.Module.__init__(self)
        self.__dict__["inner"] = tiny_sparse_model()
        self.similarity_fn_name = "dot"
        self.returns = returns
        self.calls: list[tuple[list[Any], dict[str, Any]]] = []

    def encode(self, inputs: Any, **kwargs: Any) -> Any:
        """Encode and count."""
        self.calls.append((list(inputs), kwargs))
        found = self.inner.encode(inputs, **{**kwargs, "convert_to_sparse_tensor": self.returns != "dense"})
        return [found[place] for place in range(len(inputs))] if self.returns == "list" else found

    encode_query = encode
    encode_document = encode

    @property
    def texts(self) -> list[Any]:
        """All that was encoded."""
        return [text for inputs, _ in self.calls for text in inputs]


def embedded(texts: Sequence[str], **settings: Any) -> Tensor:
    found: Tensor = tiny_sparse_model().encode(list(texts), convert_to_sparse_tensor=False, **settings)
    return found


def test_sparse_models_have_a_scorer_that_follows_their_similarity() -> None:
    scorer = scorer_for(tiny_sparse_model())
    assert isinstance(scorer, SparseScorer)
    assert (scorer.kind, scorer.similarity_fn_name) == ("sparse", "dot")
    assert scorer_for(tiny_sparse_model(similarity_fn_name="cosine")).similarity_fn_name == "cosine"


@pytest.mark.parametrize("returns", ["sparse", "dense", "list"])
def test_embeddings_are_those_of_the_model_whatever_it_returns(returns: str) -> None:
    model = Counting(returns)
    rows = scorer_for(model).embed(TEXTS).rows()
    assert isinstance(rows, SparseRows)
    torch.testing.assert_close(rows.dense(), embedded(TEXTS), atol=1e-5, rtol=1e-5)
    assert sorted(model.texts) == sorted(set(TEXTS))
    lengths = [len(text) for text in model.calls[0][0]]
    assert lengths == sorted(lengths, reverse=True)


@pytest.mark.parametrize(
    "options",
    [
        {"max_active_dims": 3},
        {"prompt": "query : "},
        {"prompt_name": "find"},
        {"task": "query"},
        {"task": "document", "batch_size": 2},
    ],
)
def test_options_reach_the_model(options: dict[str, Any]) -> None:
    model = tiny_sparse_model(prompts={"find": "find : ", "query": "query : ", "document": "passage : "})
    found = encode_once(model, TEXTS, EncodeOptions(**options)).rows()
    task = options.pop("task", None)
    method = model.encode if task is None else getattr(model, f"encode_{task}")
    torch.testing.assert_close(found.dense(), method(TEXTS, **options).to_dense(), atol=1e-5, rtol=1e-5)


def test_truncation_and_length_are_those_of_one_encoding() -> None:
    model = Counting()
    with session():
        for options in ({"truncate_dim": 20}, {"normalize": True}, {"truncate_dim": 20, "normalize": True}):
            found = scorer_for(model).embed(TEXTS, EncodeOptions(**options)).rows()
            wanted = embedded(TEXTS)[:, : options.get("truncate_dim")]
            wanted = torch.nn.functional.normalize(wanted, dim=1) if "normalize" in options else wanted
            torch.testing.assert_close(found.dense(), wanted, atol=1e-5, rtol=1e-5)
        assert sorted(model.texts) == sorted(set(TEXTS))
        scorer_for(model).embed(TEXTS, EncodeOptions(max_active_dims=3))
    assert len(model.texts) == 2 * len(set(TEXTS))


def test_a_model_that_returns_too_few_embeddings_is_named() -> None:
    class Short(Counting):
        def encode(self, inputs: Any, **kwargs: Any) -> Any:
            return self.inner.encode(inputs[:1], **kwargs)

    with pytest.raises(ValueError, match="Short returned 1 embeddings for 8 inputs"):
        encode_once(Short(), TEXTS)


@pytest.mark.parametrize("repeats", [None, [2, 0, 3]])
def test_pairs_have_the_scores_of_their_embeddings(repeats: list[int] | None) -> None:
    left, right = (QUERIES[:3], CORPUS[:5]) if repeats else (QUERIES[:5], CORPUS[:5])
    times = None if repeats is None else torch.tensor(repeats)
    scores = scorer_for(tiny_sparse_model()).pairwise(left, right, SIMILARITY_NAMES, repeats=times)
    first = embedded(left) if times is None else embedded(left).repeat_interleave(times, dim=0)
    for name in SIMILARITY_NAMES:
        wanted = all_pairs(name, first, embedded(right)).diagonal()
        torch.testing.assert_close(scores[name], wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("chunk_size", [1, 7, 100])
def test_a_search_finds_the_best_of_all_pairs_while_the_corpus_passes_once(
    chunk_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[Session.__module__], "_STREAM_CHUNK", 4)
    monkeypatch.setattr(sparse_search, "_DOCUMENT_ROWS", 16)
    functions: dict[str, Any] = {name: name for name in SIMILARITY_NAMES}
    functions["tripled"] = lambda a, b: 3 * torch.mm(a, b.t()).to_dense()
    model = Counting()
    scorer = scorer_for(model)
    results = scorer.search(QUERIES, CORPUS, 4, functions, corpus_chunk_size=chunk_size)
    queries, documents = embedded(QUERIES), embedded(CORPUS)
    for name, result in results.items():
        scores = 3 * queries @ documents.T if name == "tripled" else all_pairs(name, queries, documents)
        torch.testing.assert_close(result.hits.scores, scores.topk(4).values, atol=1e-3, rtol=1e-4)
        torch.testing.assert_close(scores.gather(1, result.hits.positions), result.hits.scores, atol=1e-3, rtol=1e-4)
    assert sorted(model.texts) == sorted([*QUERIES, *dict.fromkeys(CORPUS)])
    assert scorer.searched is not None
    used = [(table != 0).sum(dim=0) for table in (queries, documents)]
    assert [torch.equal(usage.counts, counts) for usage, counts in zip(scorer.searched, used, strict=True)] == [
        True
    ] * 2


@pytest.mark.parametrize("layout", ["dense", "sparse", "own model"])
def test_a_corpus_may_be_given_as_embeddings_or_be_another_models(layout: str) -> None:
    other = tiny_sparse_model(seed=3)
    table = other.encode_document(CORPUS, convert_to_sparse_tensor=layout == "sparse")
    scorer = scorer_for(tiny_sparse_model())
    settings: Any = {"corpus_model": other} if layout == "own model" else {}
    found = scorer.search(QUERIES, CORPUS if settings else table, 3, {"dot": "dot"}, **settings)["dot"]
    wanted = (embedded(QUERIES) @ other.encode_document(CORPUS, convert_to_sparse_tensor=False).T).topk(3)
    torch.testing.assert_close(found.hits.scores, wanted.values, atol=1e-4, rtol=1e-4)


def test_sentence_transformers_own_functions_and_the_models_take_the_fast_way() -> None:
    class Overridden(Counting):
        def similarity(self, a: Any, b: Any) -> Any:
            return 2 * util.dot_score(a, b)

    model, own = tiny_sparse_model(similarity_fn_name="euclidean"), Overridden()
    known = {name: getattr(util, f"{name}_sim") for name in ("euclidean", "manhattan")}
    known |= {"cosine": util.cos_sim, "dot": util.dot_score}
    scorer = SparseScorer(model)
    assert {name: scorer._settled(function) for name, function in known.items()} == {name: name for name in known}
    assert scorer._settled(model.similarity) == "euclidean"
    assert callable(scorer._settled(tiny_sparse_model().similarity))
    assert SparseScorer(own)._settled(own.similarity) == own.similarity
    with pytest.raises(ValueError, match="Did you mean 'dot'"):
        scorer.search(QUERIES, CORPUS, 1, {"dott": "dott"})


def test_active_dimensions_are_counted_for_each_input() -> None:
    counts, width = SparseScorer(tiny_sparse_model()).active_dims(TEXTS)
    table = embedded(TEXTS)
    assert counts.tolist() == (table != 0).sum(dim=1).tolist()
    assert width == table.shape[1]


def test_numpy_scores_of_a_search_do_not_depend_on_earlier_searches() -> None:
    scorer = scorer_for(tiny_sparse_model())
    first, second = (scorer.search(QUERIES, CORPUS, 5, {"dot": "dot"})["dot"].hits for _ in "ab")
    assert np.array_equal(first.scores.numpy(), second.scores.numpy())
    assert torch.equal(first.positions, second.positions)
