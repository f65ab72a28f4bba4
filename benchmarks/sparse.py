"""Sparse models: the tasks over embeddings of which most components are 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SparseEncoder
from sentence_transformers.sparse_encoder import evaluation as st
from torch import Tensor

from st_eval_callbacks import evaluators as ours

from .compare import PEER, Bars, Case, Row, Settings, compare
from .report import Section
from .stubs import CardStub, names

VOCABULARY = 30_522
_QUERY_DIMS, _DOCUMENT_DIMS = 40, 150
# Some words are in many texts: the frequency of a column falls with its place as that of words does.
_HEAD = 50
_FUNCTIONS = ["cosine", "dot", "euclidean", "manhattan"]


class SparseStub(SparseEncoder):
    """A model whose `encode` looks sparse embeddings up, so that only scoring and metrics take time.

    Args:
        texts: The texts it knows.
        table: (len(texts), V) CSR tensor of their embeddings.
        similarity_fn_name: The model's own similarity.
    """

    def __init__(self, texts: Sequence[str], table: Tensor, similarity_fn_name: str = "dot") -> None:
        torch.nn.Module.__init__(self)
        self.rows = {text: row for row, text in enumerate(texts)}
        self.offsets, self.columns, self.values = table.crow_indices(), table.col_indices(), table.values()
        self.width = table.shape[1]
        self.max_active_dims = None
        self.similarity_fn_name = similarity_fn_name
        self.__dict__["model_card_data"] = CardStub()

    def encode(
        self,
        inputs: Sequence[str],
        *,
        convert_to_tensor: bool = True,
        convert_to_sparse_tensor: bool = True,
        **kwargs: Any,
    ) -> Any:
        """Embeddings as `SparseEncoder.encode` returns them."""
        rows = torch.tensor([self.rows[text] for text in inputs])
        counts = (self.offsets[1:] - self.offsets[:-1])[rows]
        ends = counts.cumsum(0)
        row = torch.arange(len(rows)).repeat_interleave(counts)
        places = torch.arange(len(row)) + (self.offsets[rows] - ends + counts)[row]
        found = torch.sparse_coo_tensor(
            torch.stack([row, self.columns[places]]),
            self.values[places],
            (len(rows), self.width),
            is_coalesced=True,
            check_invariants=False,
        )
        if not convert_to_sparse_tensor:
            found = found.to_dense()
        return found if convert_to_tensor else list(found)

    encode_query = encode
    encode_document = encode


def sparse(num: int, *, seed: int, dims: int, like: Tensor | None = None, share: float = 0.5) -> Tensor:
    """(num, V) CSR embeddings with about so many components each.

    Args:
        num: Rows.
        seed: Seed of the random numbers.
        dims: Components drawn for a row; those drawn twice count once.
        like: (num, V) embeddings whose columns a share of the components is drawn from.
        share: That share.
    """
    random = np.random.default_rng(seed)
    frequency = 1 / (np.arange(VOCABULARY) + _HEAD)
    drawn = np.searchsorted(np.cumsum(frequency / frequency.sum()), random.random((num, dims))).clip(
        max=VOCABULARY - 1
    )
    if like is not None:
        bounds, columns = like.crow_indices().numpy(), like.col_indices().numpy()
        counts = np.diff(bounds)
        taken = int(dims * share)
        places = bounds[:-1, None] + (random.random((num, taken)) * counts[:, None]).astype(np.int64)
        drawn[:, :taken] = columns[places]
    return _csr(np.sort(drawn, axis=1), random)


def _csr(drawn: NDArray[np.int64], random: np.random.Generator) -> Tensor:
    is_new = np.ones(drawn.shape, dtype=bool)
    is_new[:, 1:] = drawn[:, 1:] != drawn[:, :-1]
    columns = drawn[is_new]
    values = np.log1p(random.exponential(1.0, len(columns))).astype(np.float32) + np.float32(1e-3)
    offsets = np.concatenate([[0], is_new.sum(axis=1).cumsum()])
    size = (len(drawn), VOCABULARY)
    return torch.sparse_csr_tensor(
        torch.from_numpy(offsets), torch.from_numpy(columns), torch.from_numpy(values), size
    )


def _stacked(*tables: Tensor) -> Tensor:
    starts = np.cumsum([0, *(len(table.values()) for table in tables)])
    offsets = [table.crow_indices()[:-1] + int(start) for table, start in zip(tables, starts, strict=False)]
    return torch.sparse_csr_tensor(
        torch.cat([*offsets, torch.tensor([int(starts[-1])])]),
        torch.cat([table.col_indices() for table in tables]),
        torch.cat([table.values() for table in tables]),
        (sum(len(table.crow_indices()) - 1 for table in tables), VOCABULARY),
    )


def _picked(table: Tensor, rows: NDArray[np.int64]) -> Tensor:
    bounds = table.crow_indices().numpy()
    counts = np.diff(bounds)[rows]
    offsets = np.concatenate([[0], counts.cumsum()])
    places = np.arange(offsets[-1]) + np.repeat(bounds[rows] - offsets[:-1], counts)
    size = (len(rows), VOCABULARY)
    return torch.sparse_csr_tensor(
        torch.from_numpy(offsets), table.col_indices()[places], table.values()[places], size
    )


def _case(kind: str, size: str, model: SparseStub, arguments: dict[str, Any]) -> Case:
    ours_one, st_one = getattr(ours, kind)(**arguments), getattr(st, kind)(**arguments)
    return Case(size=size, ours=lambda: ours_one(model), peers={PEER: lambda: st_one(model)})


def retrieval(num_queries: int, num_documents: int) -> Case:
    """Queries each of which shares half of its components with a document; two more are relevant by chance."""
    random = np.random.default_rng(1)
    documents = sparse(num_documents, seed=2, dims=_DOCUMENT_DIMS)
    source = random.integers(num_documents, size=num_queries)
    queries = sparse(num_queries, seed=3, dims=_QUERY_DIMS, like=_picked(documents, source))
    query_texts, texts = names("q", num_queries), names("d", num_documents)
    others = random.integers(num_documents, size=(num_queries, 2))
    relevant = [{texts[one] for one in row} for row in np.column_stack([source, others]).tolist()]
    return _case(
        "SparseInformationRetrievalEvaluator",
        f"{num_queries:,} x {num_documents:,} x {VOCABULARY:,}, dot, k 100",
        SparseStub([*query_texts, *texts], _stacked(queries, documents)),
        {
            "queries": dict(zip(query_texts, query_texts, strict=True)),
            "corpus": dict(zip(texts, texts, strict=True)),
            "relevant_docs": dict(zip(query_texts, relevant, strict=True)),
        },
    )


def similarity(num_pairs: int) -> Case:
    """Pairs that share half of their components, more or less, with scores by chance."""
    left = sparse(num_pairs, seed=1, dims=_DOCUMENT_DIMS)
    texts = names("t", 2 * num_pairs)
    return _case(
        "SparseEmbeddingSimilarityEvaluator",
        f"{num_pairs:,} pairs, 4 functions",
        SparseStub(texts, _stacked(left, sparse(num_pairs, seed=2, dims=_DOCUMENT_DIMS, like=left))),
        {
            "sentences1": texts[:num_pairs],
            "sentences2": texts[num_pairs:],
            "scores": np.random.default_rng(3).random(num_pairs).tolist(),
            "similarity_fn_names": _FUNCTIONS,
        },
    )


def binary(num_pairs: int) -> Case:
    """The same pairs, labelled by chance."""
    left = sparse(num_pairs, seed=1, dims=_DOCUMENT_DIMS)
    texts = names("t", 2 * num_pairs)
    return _case(
        "SparseBinaryClassificationEvaluator",
        f"{num_pairs:,} pairs, 4 functions",
        SparseStub(texts, _stacked(left, sparse(num_pairs, seed=2, dims=_DOCUMENT_DIMS, like=left))),
        {
            "sentences1": texts[:num_pairs],
            "sentences2": texts[num_pairs:],
            "labels": np.random.default_rng(3).integers(2, size=num_pairs).tolist(),
            "similarity_fn_names": _FUNCTIONS,
        },
    )


def triplets(num_triplets: int) -> Case:
    """Positives share a little more with the anchor than negatives do."""
    anchors = sparse(num_triplets, seed=1, dims=_DOCUMENT_DIMS)
    others = [
        sparse(num_triplets, seed=2 + place, dims=_DOCUMENT_DIMS, like=anchors, share=share)
        for place, share in enumerate((0.32, 0.3))
    ]
    texts = names("t", 3 * num_triplets)
    return _case(
        "SparseTripletEvaluator",
        f"{num_triplets:,} triplets, 2 functions",
        SparseStub(texts, _stacked(anchors, *others)),
        {
            "anchors": texts[:num_triplets],
            "positives": texts[num_triplets : 2 * num_triplets],
            "negatives": texts[2 * num_triplets :],
            "similarity_fn_names": ["cosine", "dot"],
        },
    )


def reranking(num_queries: int, num_documents: int) -> Case:
    """As many documents for each query, of which the first five share something with it."""
    queries = sparse(num_queries, seed=1, dims=_QUERY_DIMS)
    near = np.repeat(np.arange(num_queries), 5)
    positives = sparse(len(near), seed=2, dims=_DOCUMENT_DIMS, like=_picked(queries, near), share=0.05)
    negatives = sparse(num_queries * (num_documents - 5), seed=3, dims=_DOCUMENT_DIMS)
    query_texts, good, bad = (
        names("q", num_queries),
        names("p", len(near)),
        names("n", num_queries * (num_documents - 5)),
    )
    samples = [
        {
            "query": query,
            "positive": good[5 * place : 5 * place + 5],
            "negative": bad[(num_documents - 5) * place : (num_documents - 5) * (place + 1)],
        }
        for place, query in enumerate(query_texts)
    ]
    model = SparseStub([*query_texts, *good, *bad], _stacked(queries, positives, negatives))
    size = f"{num_queries:,} queries x {num_documents} documents"
    return _case("SparseRerankingEvaluator", size, model, {"samples": samples})


def translation(num_texts: int) -> Case:
    """Translations that share a tenth of their components."""
    source = sparse(num_texts, seed=1, dims=_DOCUMENT_DIMS)
    target = sparse(num_texts, seed=2, dims=_DOCUMENT_DIMS, like=source, share=0.1)
    texts = names("t", 2 * num_texts)
    return _case(
        "SparseTranslationEvaluator",
        f"{num_texts:,} x {num_texts:,}",
        SparseStub(texts, _stacked(source, target)),
        {"source_sentences": texts[:num_texts], "target_sentences": texts[num_texts:]},
    )


def distillation(num_texts: int) -> Case:
    """A student that shares half of its teacher's components."""
    table = sparse(num_texts, seed=1, dims=_DOCUMENT_DIMS)
    texts = names("t", num_texts)
    arguments = {"source_sentences": texts, "target_sentences": texts, "teacher_model": SparseStub(texts, table)}
    student = SparseStub(texts, sparse(num_texts, seed=2, dims=_DOCUMENT_DIMS, like=table))
    return _case("SparseMSEEvaluator", f"{num_texts:,} texts", student, arguments)


def _sizes(*each: dict[str, int]) -> dict[str, dict[str, int]]:
    return dict(zip(("full", "quick", "smallest"), each, strict=True))


_SMALL = {"num_queries": 5, "num_documents": 200}

ROWS = (
    Row(
        "sparse retrieval",
        retrieval,
        **_sizes(
            {"num_queries": 1_000, "num_documents": 20_000}, {"num_queries": 100, "num_documents": 2_000}, _SMALL
        ),
        bars=Bars(5.5, 256),
    ),
    Row(
        "sparse retrieval",
        retrieval,
        **_sizes(
            {"num_queries": 1_000, "num_documents": 100_000}, {"num_queries": 100, "num_documents": 5_000}, _SMALL
        ),
        bars=Bars(peak_mib=256),
    ),
    Row(
        "sparse embedding similarity",
        similarity,
        **_sizes({"num_pairs": 10_000}, {"num_pairs": 1_000}, {"num_pairs": 40}),
        bars=Bars(5.3),
    ),
    Row(
        "sparse binary classification",
        binary,
        **_sizes({"num_pairs": 10_000}, {"num_pairs": 1_000}, {"num_pairs": 40}),
    ),
    Row(
        "sparse triplet",
        triplets,
        **_sizes({"num_triplets": 10_000}, {"num_triplets": 1_000}, {"num_triplets": 40}),
        bars=Bars(3.2),
    ),
    Row(
        "sparse reranking",
        reranking,
        **_sizes(
            {"num_queries": 200, "num_documents": 50},
            {"num_queries": 50, "num_documents": 20},
            {"num_queries": 4, "num_documents": 10},
        ),
        bars=Bars(16),
    ),
    Row(
        "sparse translation",
        translation,
        **_sizes({"num_texts": 2_000}, {"num_texts": 500}, {"num_texts": 40}),
        bars=Bars(12),
    ),
    Row(
        "sparse MSE",
        distillation,
        **_sizes({"num_texts": 5_000}, {"num_texts": 500}, {"num_texts": 40}),
        bars=Bars(58),
    ),
)


def run(settings: Settings) -> list[Section]:
    """The table."""
    return [compare("Sparse models", ROWS, settings)]
