"""Models with one dense vector for an input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..kernels.pairwise import pairwise as pairwise_scores
from ..kernels.similarity import check_similarity_name
from ..kernels.topk import StreamingSearch
from .embedding import EmbeddingScorer


class DenseScorer(EmbeddingScorer):
    """A SentenceTransformer, or any object with its `encode`, as a scorer.

    Similarity functions are "cosine", "dot", "euclidean" and "manhattan", or functions of (Q, d) queries and (B, d)
    documents.

    Args:
        model: The model.

    Raises:
        TypeError: When the model has no `encode`.
    """

    kind = "dense"

    def _settled(self, similarity: Any) -> Any:
        if not callable(similarity):
            check_similarity_name(similarity)
        return similarity

    def _score_pairs(
        self, names: Sequence[str], left: Any, right: Any, left_index: Tensor, right_index: Tensor
    ) -> dict[str, Tensor]:
        return pairwise_scores(names, left, right, left_index, right_index)

    def _new_search(
        self, queries: Tensor, k: int, similarity: Any, track_ties: bool, watch: tuple[Tensor, Tensor] | None
    ) -> StreamingSearch:
        return StreamingSearch(queries, k, similarity, track_ties=track_ties, watch=watch)

    def _rows_given(self, corpus: Any, queries: Any) -> Tensor | None:
        return corpus if isinstance(corpus, Tensor) else None
