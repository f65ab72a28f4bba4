"""Models with several vectors an input: retrieval and reranking by late interaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.multi_vector_encoder import evaluation as st
from torch import Tensor
from torch.nn.functional import normalize

from st_eval_callbacks import evaluators as ours

from .compare import PEER, Bars, Case, Row, Settings, compare
from .report import Section
from .stubs import CardStub, generator, integers, names

_DIM, _QUERY_TOKENS, _FEWEST_TOKENS, _MOST_TOKENS = 128, 32, 30, 180
_NUM_RELEVANT = 3


class StubMultiVectorModel(MultiVectorEncoder):
    """A multi-vector model whose `encode` looks vectors up, so that only scoring and metrics take time.

    Args:
        vectors: The (tokens, d) vectors of each text.
        similarity_fn_name: The model's own similarity.

    Attributes:
        calls: Method and texts of every call, in order.
    """

    def __init__(self, vectors: Mapping[str, Tensor], similarity_fn_name: str = "maxsim") -> None:
        torch.nn.Module.__init__(self)
        self.vectors = vectors
        self.prompts: dict[str, str] = {}
        self.model_card_data: Any = CardStub()
        self.similarity_fn_name = similarity_fn_name
        self.calls: list[tuple[str, list[str]]] = []

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    def encode(self, inputs: Sequence[str], **kwargs: Any) -> Any:
        """Vectors as `MultiVectorEncoder.encode` returns them, without a copy."""
        return self._look_up("encode", inputs)

    def encode_query(self, inputs: Sequence[str], **kwargs: Any) -> Any:
        """Vectors of queries."""
        return self._look_up("encode_query", inputs)

    def encode_document(self, inputs: Sequence[str], **kwargs: Any) -> Any:
        """Vectors of documents."""
        return self._look_up("encode_document", inputs)

    def _look_up(self, method: str, inputs: Sequence[str]) -> list[Tensor]:
        self.calls.append((method, list(inputs)))
        return [self.vectors[text] for text in inputs]


def _model(num_queries: int, num_documents: int) -> tuple[StubMultiVectorModel, Tensor]:
    """A model, and for each query the document near which some of its vectors are."""
    lengths = _FEWEST_TOKENS + integers(_MOST_TOKENS - _FEWEST_TOKENS + 1, num_documents, seed=1)
    random = generator(2)
    table = normalize(torch.randn(int(lengths.sum()), _DIM, generator=random))
    documents = torch.split(table, lengths.tolist())
    source = integers(num_documents, num_queries, seed=3)
    noise = torch.randn(num_queries, _QUERY_TOKENS, _DIM, generator=random).mul_(_DIM**-0.5)
    near = torch.stack([documents[place][torch.arange(_QUERY_TOKENS) % lengths[place]] for place in source.tolist()])
    queries = normalize(0.25 * near + noise, dim=2)
    texts = [*names("q", num_queries), *names("d", num_documents)]
    return StubMultiVectorModel(dict(zip(texts, [*queries, *documents], strict=True))), source


def retrieval(num_queries: int, num_documents: int) -> Case:
    """Queries near one document each, and two more that are called relevant."""
    model, source = _model(num_queries, num_documents)
    queries, documents = names("q", num_queries), names("d", num_documents)
    relevant = {
        query: {documents[(place + step) % num_documents] for step in range(_NUM_RELEVANT)}
        for query, place in zip(queries, source.tolist(), strict=True)
    }
    given = (dict(zip(queries, queries, strict=True)), dict(zip(documents, documents, strict=True)), relevant)
    size = f"{num_queries:,} x {num_documents:,}, {_QUERY_TOKENS} x {_FEWEST_TOKENS}-{_MOST_TOKENS} x {_DIM}, k 100"
    return _case("MultiVectorInformationRetrievalEvaluator", size, model, *given)


def reranking(num_queries: int, num_documents: int) -> Case:
    """Queries with as many documents each, of which the one that they are near is relevant."""
    model, source = _model(num_queries, 10 * num_documents)
    documents = names("d", 10 * num_documents)
    samples = []
    for query, place in zip(names("q", num_queries), source.tolist(), strict=True):
        others = [documents[(place + 1 + step) % len(documents)] for step in range(num_documents - 1)]
        samples.append({"query": query, "positive": [documents[place]], "negative": others})
    size = f"{num_queries:,} x {num_documents}, {_QUERY_TOKENS} x {_FEWEST_TOKENS}-{_MOST_TOKENS} x {_DIM}"
    return _case("MultiVectorRerankingEvaluator", size, model, samples)


def _case(kind: str, size: str, model: StubMultiVectorModel, *given: Any) -> Case:
    ours_one, st_one = getattr(ours, kind)(*given), getattr(st, kind)(*given)
    return Case(size=size, ours=lambda: ours_one(model), peers={PEER: lambda: st_one(model)})


ROWS = (
    Row(
        "multi-vector retrieval",
        retrieval,
        full={"num_queries": 100, "num_documents": 2_000},
        quick={"num_queries": 20, "num_documents": 400},
        smallest={"num_queries": 3, "num_documents": 20},
        bars=Bars(3.2),
    ),
    Row(
        "multi-vector reranking",
        reranking,
        full={"num_queries": 100, "num_documents": 20},
        quick={"num_queries": 20, "num_documents": 20},
        smallest={"num_queries": 3, "num_documents": 5},
        bars=Bars(4.3),
    ),
)


def run(settings: Settings) -> list[Section]:
    """The table."""
    return [compare("Multi-vector models", ROWS, settings)]
