"""Models with several vectors for an input, which are compared by late interaction."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers.multi_vector_encoder import scoring
from sentence_transformers.util import similarity as st_similarity
from torch import Tensor

from ..distributed import shares
from ..encoding import EncodeOptions, Session, session
from ..kernels.maxsim import check_maxsim_name
from ..kernels.maxsim_pairs import maxsim_pairs
from ..kernels.maxsim_search import MaxSimSearch, RaggedSimilarity
from ..kernels.ragged_rows import RaggedRows
from .dense import DenseScorer
from .found import found_by_all, own_pairs
from .scorer import SearchResult, Wish

logger = logging.getLogger(__name__)

# Functions of sentence-transformers that have a faster twin here.
_KNOWN: dict[Any, str] = {
    st_similarity.maxsim: "maxsim",
    st_similarity.mean_maxsim: "meanmaxsim",
    st_similarity.maxsim_pairwise: "maxsim",
    st_similarity.mean_maxsim_pairwise: "meanmaxsim",
}
# Documents that are encoded at a time even where a block has fewer.
_LEAST = 256
_XTR = (scoring.xtr_scores, scoring.xtr_kd_scores, scoring.xtr_scores_pairwise)


class MultiVectorScorer(DenseScorer):
    """A MultiVectorEncoder as a scorer: a table is `RaggedRows`, and similarities are "maxsim" and "meanmaxsim".

    Args:
        model: The model.

    Raises:
        TypeError: When the model has no `encode`.
    """

    kind = "multi_vector"

    @property
    def similarity_fn_name(self) -> str:
        """The model's own similarity function.

        Raises:
            ValueError: When the model names a function that does not exist.
        """
        name = str(self.model.similarity_fn_name)
        check_maxsim_name(name)
        return name

    def prepare(self, wishes: Sequence[Wish]) -> None:
        """Encode together what tasks will ask for; a corpus passes by itself, for its vectors are many.

        Args:
            wishes: What they will ask for.
        """
        with session() as current:
            current.prefetch(
                self.model,
                [(wish.inputs, wish.options) for wish in wishes if not wish.streams],
                [(wish.inputs, wish.options) for wish in wishes if wish.streams],
                join_streams=False,
            )

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
            left: P queries, or fewer when they repeat.
            right: P documents.
            names: Any of "maxsim", "meanmaxsim".
            left_options: How the left side is encoded.
            right_options: How the right side is encoded.
            repeats: (len(left),) int64, how many inputs on the right, one after another, are paired with each on the
                left; None for one.

        Returns:
            (P,) scores by name, float32 or float64.

        Raises:
            ValueError: When the sides differ in length or a name is unknown.
        """
        for name in names:
            check_maxsim_name(name)
        num_left = len(left) if repeats is None else int(repeats.sum())
        if num_left != len(right):
            raise ValueError(f"{num_left} inputs on the left and {len(right)} on the right do not make pairs.")
        with session() as current:
            current.prefetch(self.model, [(left, left_options), (right, right_options)])
            first = current.lookup(self.model, left, left_options)
            second = current.lookup(self.model, right, right_options)
        index = first.index if repeats is None else first.index.repeat_interleave(repeats.to(first.index.device))
        _warn_empty([first.table], [second.table])
        shared = shares()
        own = shared.part(len(index))
        scores = maxsim_pairs(names, first.table, second.table, index[own], second.index[own])
        return {name: torch.cat(shared.gather(part)) for name, part in scores.items()}

    def search(
        self,
        queries: Sequence[Any],
        corpus: Sequence[Any] | RaggedRows,  # type: ignore[override]
        k: int,
        similarities: Mapping[str, RaggedSimilarity],
        *,
        query_options: EncodeOptions | None = None,
        corpus_options: EncodeOptions | None = None,
        corpus_chunk_size: int = 5000,
        track_ties: bool = False,
        watch: tuple[Tensor, Tensor] | None = None,
        corpus_model: Any = None,
    ) -> dict[str, SearchResult]:
        """The k best documents for each query, the corpus passing once for all similarity functions.

        Args:
            queries: Q queries.
            corpus: N documents, or their vectors; ties go to the one that stands first.
            k: Hits to keep for each query, at least 1.
            similarities: "maxsim", "meanmaxsim" or functions, by the name of their result. A function takes what
                sentence-transformers' would: all queries, (Q, n, d) filled up with zeros, and a list of some
                documents, (n_i, d) each, in float32, and returns (Q, documents) scores.
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
        functions = {name: known_similarity(similarity) for name, similarity in similarities.items()}
        for similarity in functions.values():
            if isinstance(similarity, str):
                check_maxsim_name(similarity)
        query_options = query_options or EncodeOptions(task="query")
        corpus_options = corpus_options or EncodeOptions(task="document")
        with session() as current:
            query_rows = current.lookup(self.model, queries, query_options).rows()
            places, corpus = _own_part(current, corpus)
            searches = {
                name: MaxSimSearch(query_rows, k, similarity, track_ties=track_ties, watch=own_pairs(watch, places))
                for name, similarity in functions.items()
            }
            model = self.model if corpus_model is None else corpus_model
            blocks: Iterable[RaggedRows] = (
                [corpus]
                if isinstance(corpus, RaggedRows)
                else current.stream(model, corpus, corpus_options, corpus_chunk_size, places, least=_LEAST)
            )
            num_empty = 0
            for documents in blocks:
                num_empty += int((documents.lengths == 0).sum())
                for search in searches.values():
                    search.add(documents)
        _warn_empty([query_rows], [], num_empty)
        return {
            name: found_by_all(search, k, places, track_ties=track_ties, watch=watch)
            for name, search in searches.items()
        }


def known_similarity(similarity: Any) -> Any:
    """The name of a function of sentence-transformers that has a faster twin here; else what was given.

    Args:
        similarity: A name or a function.

    Returns:
        A name, or the function.
    """
    return _KNOWN.get(similarity, similarity) if callable(similarity) else similarity


def check_no_xtr(label: str, function: Any) -> None:
    """Refuse scoring by XTR, which takes the best tokens over all documents of a batch.

    Args:
        label: How messages name the evaluator.
        function: A name or a function, perhaps bound or compiled.

    Raises:
        ValueError: When it is one of XTR's.
    """
    function = function.func if isinstance(function, partial) else function
    # What torch.compile was given.
    function = getattr(function, "_torchdynamo_orig_callable", function)
    if function == "xtr" or function in _XTR or isinstance(function, scoring.XTRScores):
        raise ValueError(
            f"{label}: scores of XTR depend on the documents that are scored together, so they measure no single "
            "document; it is a function for training. Evaluate with 'maxsim' or 'meanmaxsim'."
        )


def _own_part(
    current: Session, corpus: Sequence[Any] | RaggedRows
) -> tuple[NDArray[np.int64] | None, Sequence[Any] | RaggedRows]:
    """Which documents this process searches, None for all; and the vectors of those where they are given."""
    shared = shares()
    if not isinstance(corpus, RaggedRows):
        return current.own_places(corpus), corpus
    if shared.num == 1:
        return None, corpus
    own = shared.part(len(corpus))
    return np.arange(own.start, own.stop), corpus.part(own.start, own.stop)


def _warn_empty(queries: Sequence[Any], documents: Sequence[Any], num_documents: int = 0) -> None:
    """Say so when inputs have no vector left, perhaps because the model masks all their tokens."""
    counts = {
        "queries": sum(int((rows.lengths == 0).sum()) for rows in queries),
        "documents": num_documents + sum(int((rows.lengths == 0).sum()) for rows in documents),
    }
    for what, num in counts.items():
        if num:
            score = "a score of 0 with every document" if what == "queries" else "a score below all others"
            logger.warning("%d %s have no vector: the model masks all their tokens. They get %s.", num, what, score)
