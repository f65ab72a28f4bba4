"""Models with one dense vector for an input."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..distributed import shares
from ..encoding import Embeddings, EncodeOptions, Session, session
from ..kernels.similarity import check_similarity_name
from ..kernels.tables import pairwise as pairwise_scores
from ..kernels.topk import StreamingSearch
from .found import found_by_all, own_pairs
from .scorer import SearchResult, Similarity, Wish


class DenseScorer:
    """A SentenceTransformer, or any object with its `encode`, as a scorer.

    Encoding goes through the session that is open; without one, each call opens its own.

    Args:
        model: The model.

    Raises:
        TypeError: When the model has no `encode`.
    """

    kind = "dense"

    def __init__(self, model: Any) -> None:
        """Check that the model can encode."""
        if not callable(getattr(model, "encode", None)):
            raise TypeError(f"{type(model).__name__} has no encode(inputs, ...), so it cannot embed texts.")
        self.model = model

    @property
    def similarity_fn_name(self) -> str:
        """The model's own similarity function; "cosine" when it names none.

        Raises:
            ValueError: When the model names a function that does not exist.
        """
        name = getattr(self.model, "similarity_fn_name", None)
        name = "cosine" if name is None else str(getattr(name, "value", name))
        check_similarity_name(name)
        return name

    def prepare(self, wishes: Sequence[Wish]) -> None:
        """Encode together what tasks will ask for; without an open session nothing would keep it.

        Args:
            wishes: What they will ask for.
        """
        with session() as current:
            current.prefetch(
                self.model,
                [(wish.inputs, wish.options) for wish in wishes if not wish.streams],
                [(wish.inputs, wish.options) for wish in wishes if wish.streams],
            )

    def embed(self, inputs: Sequence[Any], options: EncodeOptions | None = None) -> Embeddings:
        """Embeddings of P inputs.

        Args:
            inputs: The inputs.
            options: How they are encoded.

        Returns:
            The table of distinct inputs and the row of each input.
        """
        with session() as current:
            return current.lookup(self.model, inputs, options)

    def pairwise(
        self,
        left: Sequence[Any],
        right: Sequence[Any],
        names: Sequence[str],
        left_options: EncodeOptions | None = None,
        right_options: EncodeOptions | None = None,
        repeats: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Similarity of each pair under several functions.

        Args:
            left: P inputs, or fewer when they repeat.
            right: P inputs.
            names: Any of "cosine", "dot", "euclidean", "manhattan".
            left_options: How the left side is encoded.
            right_options: How the right side is encoded.
            repeats: (len(left),) int64, how many inputs on the right, one after another, are paired with each on the
                left; None for one.

        Returns:
            (P,) scores by name, float32 or float64; distances are negated.

        Raises:
            ValueError: When the sides differ in length or a name is unknown.
        """
        for name in names:
            check_similarity_name(name)
        num_left = len(left) if repeats is None else int(repeats.sum())
        if num_left != len(right):
            raise ValueError(f"{num_left} inputs on the left and {len(right)} on the right do not make pairs.")
        with session() as current:
            # Both sides in one go where they can be: batches of more even length, and one table.
            current.prefetch(self.model, [(left, left_options), (right, right_options)])
            first = current.lookup(self.model, left, left_options)
            second = current.lookup(self.model, right, right_options)
        index = first.index if repeats is None else first.index.repeat_interleave(repeats.to(first.index.device))
        shared = shares()
        own = shared.part(len(index))
        scores = pairwise_scores(names, first.table, second.table, index[own], second.index[own])
        return {name: torch.cat(shared.gather(part)) for name, part in scores.items()}

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
            corpus: N documents, or their (N, d) embeddings; ties go to the one that stands first.
            k: Hits to keep for each query, at least 1.
            similarities: Similarity functions by the name of their result.
            query_options: How queries are encoded; None encodes them as queries.
            corpus_options: How documents are encoded; None encodes them as documents.
            corpus_chunk_size: Most documents scored at once. The result does not depend on it.
            track_ties: Whether to count the documents tied with the k-th hit.
            watch: (W,) query and (W,) position in the corpus of pairs whose scores are wanted.
            corpus_model: Another model that encodes the corpus.

        Returns:
            What was found, by name.

        Raises:
            ValueError: When a similarity function is unknown or `k` is below 1.
        """
        for similarity in similarities.values():
            if isinstance(similarity, str):
                check_similarity_name(similarity)
        query_options = query_options or EncodeOptions(task="query")
        corpus_options = corpus_options or EncodeOptions(task="document")
        with session() as current:
            query_rows = current.lookup(self.model, queries, query_options).rows()
            places, corpus = _own_part(current, corpus)
            searches = {
                name: StreamingSearch(query_rows, k, similarity, track_ties=track_ties, watch=own_pairs(watch, places))
                for name, similarity in similarities.items()
            }
            model = self.model if corpus_model is None else corpus_model
            blocks: Iterable[Tensor] = (
                torch.split(corpus, corpus_chunk_size)
                if isinstance(corpus, Tensor)
                else current.stream(model, corpus, corpus_options, corpus_chunk_size, places)
            )
            for documents in blocks:
                for search in searches.values():
                    search.add(documents)
        return {
            name: found_by_all(search, k, places, track_ties=track_ties, watch=watch)
            for name, search in searches.items()
        }

    def predict(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: a model that embeds texts has no outputs for pairs.

        Raises:
            TypeError: Always.
        """
        raise TypeError(f"{type(self.model).__name__} (a {self.kind} model) embeds texts; it does not score pairs.")


def _own_part(
    current: Session, corpus: Sequence[Any] | Tensor
) -> tuple[NDArray[np.int64] | None, Sequence[Any] | Tensor]:
    """Which documents this process searches, None for all; and the embeddings of those where they are given."""
    shared = shares()
    if not isinstance(corpus, Tensor):
        return current.own_places(corpus), corpus
    if shared.num == 1:
        return None, corpus
    own = shared.part(len(corpus))
    return np.arange(own.start, own.stop), corpus[own]
