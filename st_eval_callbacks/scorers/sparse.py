"""Models with one sparse vector for an input."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sentence_transformers import SparseEncoder, util
from torch import Tensor

from ..distributed import shares
from ..encoding import Embeddings, EncodeOptions
from ..kernels.similarity import check_similarity_name
from ..kernels.sparse_pairwise import sparse_pairwise
from ..kernels.sparse_rows import SparseRows
from ..kernels.sparse_search import SparseSearch
from ..kernels.sparsity import Usage
from .embedding import EmbeddingScorer

# sentence-transformers' functions turn a product of sparse tensors dense; these have a faster twin.
_KNOWN: Mapping[Callable[..., Tensor], str] = {
    util.cos_sim: "cosine",
    util.pytorch_cos_sim: "cosine",
    util.dot_score: "dot",
    util.euclidean_sim: "euclidean",
    util.manhattan_sim: "manhattan",
}


class SparseScorer(EmbeddingScorer):
    """A SparseEncoder as a scorer; embeddings are `SparseRows`, and no dense matrix of them is made.

    Similarity functions are those of a dense model, or functions of (Q, V) queries and (B, V) documents, both sparse
    COO tensors. A corpus may be given as (N, V) embeddings, sparse or dense.

    Args:
        model: The model.

    Attributes:
        searched: How the queries and the documents of the last search use the vocabulary; None before one.

    Raises:
        TypeError: When the model has no `encode`.
    """

    kind = "sparse"
    most_at_once = 8192  # more would only take memory: a search scores smaller blocks

    def __init__(self, model: Any) -> None:
        """Check that the model can encode."""
        super().__init__(model)
        self.searched: tuple[Usage, Usage] | None = None

    def active_dims(self, inputs: Sequence[Any], options: EncodeOptions | None = None) -> tuple[Tensor, int]:
        """How many components of each input's embedding are not 0.

        Args:
            inputs: P inputs.
            options: How they are encoded.

        Returns:
            (P,) int64 counts, and the number of all components.
        """
        found: Embeddings = self.embed(inputs, options)
        rows: SparseRows = found.table
        return rows.counts[found.index].cpu(), rows.width

    def _score_pairs(
        self, names: Sequence[str], left: Any, right: Any, left_index: Tensor, right_index: Tensor
    ) -> dict[str, Tensor]:
        return sparse_pairwise(names, left, right, left_index, right_index)

    def _new_search(
        self, queries: SparseRows, k: int, similarity: Any, track_ties: bool, watch: tuple[Tensor, Tensor] | None
    ) -> SparseSearch:
        return SparseSearch(queries, k, similarity, track_ties=track_ties, watch=watch)

    def _rows_given(self, corpus: Any, queries: SparseRows) -> SparseRows | None:
        return SparseRows.of(corpus).to(queries.device) if isinstance(corpus, Tensor) else None

    def _noted(self, queries: SparseRows, blocks: Iterable[SparseRows]) -> Iterator[SparseRows]:
        usage = Usage.none(queries.width)
        for documents in blocks:
            usage = usage + Usage.of(documents)
            yield documents
        self.searched = Usage.of(queries), usage.gathered(shares().gather)

    def _settled(self, similarity: Any) -> Any:
        if isinstance(similarity, str):
            check_similarity_name(similarity)
            return similarity
        is_own = getattr(similarity, "__func__", None) is SparseEncoder.similarity
        if is_own and getattr(similarity, "__self__", None) is self.model:
            return self.similarity_fn_name
        try:
            return _KNOWN.get(similarity, similarity)
        except TypeError:
            # It cannot be hashed.
            return similarity
