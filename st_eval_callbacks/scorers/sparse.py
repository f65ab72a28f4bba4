"""Models with one sparse vector for an input."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from sentence_transformers import SparseEncoder, util
from torch import Tensor

from ..distributed import shares
from ..encoding import Embeddings, EncodeOptions, session
from ..kernels.similarity import check_similarity_name
from ..kernels.sparse_rows import SparseRows
from ..kernels.sparse_search import SparseSearch
from ..kernels.sparsity import Usage
from .dense import DenseScorer
from .found import found_by_all, own_pairs
from .scorer import SearchResult, Similarity

# More documents at once would only take memory: those of a search are scored in smaller blocks.
_MAX_CHUNK = 8192
# sentence-transformers' functions turn a product of sparse tensors dense; these have a faster twin.
_KNOWN: Mapping[Callable[..., Tensor], str] = {
    util.cos_sim: "cosine",
    util.pytorch_cos_sim: "cosine",
    util.dot_score: "dot",
    util.euclidean_sim: "euclidean",
    util.manhattan_sim: "manhattan",
}


class SparseScorer(DenseScorer):
    """A SparseEncoder as a scorer; embeddings are `SparseRows`, and no dense matrix of them is made.

    Args:
        model: The model.

    Attributes:
        searched: How the queries and the documents of the last search use the vocabulary; None before one.

    Raises:
        TypeError: When the model has no `encode`.
    """

    kind = "sparse"

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

    def search(
        self,
        queries: Sequence[Any],
        corpus: Sequence[Any] | Tensor,
        k: int,
        similarities: Mapping[str, Similarity],
        *,
        query_options: EncodeOptions | None = None,
        corpus_options: EncodeOptions | None = None,
        corpus_chunk_size: int = 50000,
        track_ties: bool = False,
        watch: tuple[Tensor, Tensor] | None = None,
        corpus_model: Any = None,
    ) -> dict[str, SearchResult]:
        """The k best documents for each query, the corpus passing once for all similarity functions.

        Args:
            queries: Q queries.
            corpus: N documents, or their (N, V) embeddings, sparse or dense; ties go to the one that stands first.
            k: Hits to keep for each query, at least 1.
            similarities: Similarity functions by the name of their result. A function gets (Q, V) and (B, V) sparse
                COO tensors.
            query_options: How queries are encoded; None encodes them as queries.
            corpus_options: How documents are encoded; None encodes them as documents.
            corpus_chunk_size: Most documents encoded at once. The result does not depend on it.
            track_ties: Whether to count the documents tied with the k-th hit.
            watch: (W,) query and (W,) position in the corpus of pairs whose scores are wanted.
            corpus_model: Another model that encodes the corpus.

        Returns:
            What was found, by name.

        Raises:
            ValueError: When a similarity function is unknown or `k` is below 1.
        """
        named = {name: self._named(similarity) for name, similarity in similarities.items()}
        query_options = query_options or EncodeOptions(task="query")
        corpus_options = corpus_options or EncodeOptions(task="document")
        with session() as current:
            query_rows: SparseRows = current.lookup(self.model, queries, query_options).rows()
            blocks: Iterable[SparseRows]
            if isinstance(corpus, Tensor):
                given = SparseRows.of(corpus).to(query_rows.device)
                own = shares().part(len(given))
                places = None if shares().num == 1 else np.arange(own.start, own.stop)
                blocks = [given.part(own.start, own.stop)]
            else:
                places = current.own_places(corpus)
                model = self.model if corpus_model is None else corpus_model
                blocks = current.stream(model, corpus, corpus_options, min(corpus_chunk_size, _MAX_CHUNK), places)
            searches = {
                name: SparseSearch(query_rows, k, similarity, track_ties=track_ties, watch=own_pairs(watch, places))
                for name, similarity in named.items()
            }
            usage = Usage.none(query_rows.width)
            for documents in blocks:
                usage = usage + Usage.of(documents)
                for search in searches.values():
                    search.add(documents)
        self.searched = Usage.of(query_rows), usage if places is None else usage.gathered(shares().gather)
        return {
            name: found_by_all(search, k, places, track_ties=track_ties, watch=watch)
            for name, search in searches.items()
        }

    def _named(self, similarity: Similarity) -> Similarity:
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
