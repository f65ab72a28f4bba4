"""Models that return ready embeddings or cost little, and seeded data for them.

Embeddings come in clusters, so that metrics are neither 0 nor 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from sentence_transformers.util.similarity import SimilarityFunction
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import Tensor
from torch.nn.functional import normalize

DIM = 384
_CHUNK = 50_000
_NUM_PROBES = 64


class CardStub:
    """Takes the metrics that evaluators store for a model card."""

    eval_results_dict: dict[Any, Any] = {}

    def set_evaluation_metrics(self, *args: Any, **kwargs: Any) -> None:
        """Forget them."""


class StubModel:
    """A model whose `encode` looks embeddings up, so that only scoring and metrics take time.

    Texts that stand in the order of the table get a view of it: encoding then costs neither time nor memory.

    Args:
        texts: The texts it knows.
        table: (len(texts), d) their embeddings.
        similarity_fn_name: The model's own similarity.
    """

    def __init__(self, texts: Sequence[str], table: Tensor, similarity_fn_name: str = "cosine") -> None:
        self.rows = {text: row for row, text in enumerate(texts)}
        self.table = table
        self.similarity_fn_name = similarity_fn_name
        self.model_card_data = CardStub()
        self.similarity = SimilarityFunction.to_similarity_fn(similarity_fn_name)
        self.similarity_pairwise = SimilarityFunction.to_similarity_pairwise_fn(similarity_fn_name)

    def encode(
        self,
        inputs: Sequence[str],
        *,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        truncate_dim: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Embeddings as `SentenceTransformer.encode` returns them."""
        embeddings = self._lookup(inputs)[:, :truncate_dim]
        if convert_to_tensor:
            return embeddings
        return embeddings.numpy() if convert_to_numpy else list(embeddings)

    encode_query = encode
    encode_document = encode

    def truncate_sentence_embeddings(self, truncate_dim: int | None) -> Any:
        """Nothing to do: every encode says what it wants."""
        return nullcontext()

    def _lookup(self, inputs: Sequence[str]) -> Tensor:
        num, first = len(inputs), self.rows[inputs[0]]
        # Texts are distinct: a shuffled list passes for an ordered one only if all probes stand right by chance.
        probes = {num * probe // _NUM_PROBES for probe in range(_NUM_PROBES)} | {num - 1}
        if all(self.rows[inputs[place]] == first + place for place in probes):
            return self.table[first : first + num]
        rows = np.fromiter(map(self.rows.__getitem__, inputs), dtype=np.int64, count=num)
        return self.table.index_select(0, torch.from_numpy(rows))


def static_model(words: Sequence[str], dim: int) -> SentenceTransformer:
    """A real model whose steps take little: the mean of one vector for each word."""
    tokenizer = Tokenizer(WordLevel({word: row for row, word in enumerate(["[UNK]", *words])}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    weights = torch.randn(len(words) + 1, dim, generator=generator(0))
    return SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=weights)], device="cpu")


def names(prefix: str, num: int) -> list[str]:
    """Distinct texts in ascending order, which serve as ids as well."""
    return [f"{prefix}{place:08d}" for place in range(num)]


def generator(seed: int) -> torch.Generator:
    """Random numbers that are the same in every run."""
    return torch.Generator().manual_seed(seed)


def clustered(num: int, *, seed: int, per_cluster: int = 50, noise: float = 1.0, dim: int = DIM) -> Tensor:
    """(num, dim) embeddings of about length 1; row i belongs to cluster `i % num_clusters`."""
    random = generator(seed)
    centers = normalize(torch.randn(num_clusters(num, per_cluster), dim, generator=random))
    table = torch.empty(num, dim)
    for start in range(0, num, _CHUNK):
        part = table[start : start + _CHUNK]
        torch.randn(part.shape, generator=random, out=part)
        part.mul_(noise / dim**0.5).add_(centers[torch.arange(start, start + len(part)) % len(centers)])
    return table


def num_clusters(num: int, per_cluster: int = 50) -> int:
    """How many clusters `clustered` makes."""
    return max(num // per_cluster, 1)


def near(rows: Tensor, *, seed: int, noise: float) -> Tensor:
    """Embeddings beside others: each with noise of its own, of about this length."""
    return torch.randn(rows.shape, generator=generator(seed)).mul_(noise / rows.shape[1] ** 0.5).add_(rows)


def integers(high: int, num: int, *, seed: int) -> Tensor:
    """(num,) int64 numbers from 0 to `high` - 1."""
    return torch.randint(high, (num,), generator=generator(seed))
