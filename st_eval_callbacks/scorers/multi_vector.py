"""Models with several vectors for an input, which are compared by late interaction."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from sentence_transformers.multi_vector_encoder import scoring
from sentence_transformers.util import similarity as st_similarity
from torch import Tensor

from ..kernels.maxsim import check_maxsim_name
from ..kernels.maxsim_pairs import maxsim_pairs
from ..kernels.maxsim_search import MaxSimSearch
from ..kernels.ragged_rows import RaggedRows
from .embedding import EmbeddingScorer

logger = logging.getLogger(__name__)

# Functions of sentence-transformers that have a faster twin here.
_KNOWN: dict[Any, str] = {
    st_similarity.maxsim: "maxsim",
    st_similarity.mean_maxsim: "meanmaxsim",
    st_similarity.maxsim_pairwise: "maxsim",
    st_similarity.mean_maxsim_pairwise: "meanmaxsim",
}
_XTR = (scoring.xtr_scores, scoring.xtr_kd_scores, scoring.xtr_scores_pairwise)


class MultiVectorScorer(EmbeddingScorer):
    """A MultiVectorEncoder as a scorer: a table is `RaggedRows`, and similarities are "maxsim" and "meanmaxsim".

    A similarity function takes what sentence-transformers' would: all queries, (Q, n, d) filled up with zeros, and a
    list of some documents, (n_i, d) each, in float32, and returns (Q, documents) scores.

    Args:
        model: The model.

    Raises:
        TypeError: When the model has no `encode`.
    """

    kind = "multi_vector"
    joins_streams = False  # the vectors of a corpus are many
    least_at_once = 256

    def _settled(self, similarity: Any) -> Any:
        similarity = known_similarity(similarity)
        if not callable(similarity):
            check_maxsim_name(similarity)
        return similarity

    def _score_pairs(
        self, names: Sequence[str], left: Any, right: Any, left_index: Tensor, right_index: Tensor
    ) -> dict[str, Tensor]:
        _warn_empty(_num_empty(left), _num_empty(right))
        return maxsim_pairs(names, left, right, left_index, right_index)

    def _new_search(
        self, queries: RaggedRows, k: int, similarity: Any, track_ties: bool, watch: tuple[Tensor, Tensor] | None
    ) -> MaxSimSearch:
        return MaxSimSearch(queries, k, similarity, track_ties=track_ties, watch=watch)

    def _rows_given(self, corpus: Any, queries: Any) -> RaggedRows | None:
        return corpus if isinstance(corpus, RaggedRows) else None

    def _noted(self, queries: RaggedRows, blocks: Iterable[RaggedRows]) -> Iterator[RaggedRows]:
        num_empty = 0
        for documents in blocks:
            num_empty += _num_empty(documents)
            yield documents
        _warn_empty(_num_empty(queries), num_empty)


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


def _num_empty(rows: RaggedRows) -> int:
    return int((rows.lengths == 0).sum())


def _warn_empty(num_queries: int, num_documents: int) -> None:
    """Say so when inputs have no vector left, perhaps because the model masks all their tokens."""
    for what, num in (("queries", num_queries), ("documents", num_documents)):
        if num:
            score = "a score of 0 with every document" if what == "queries" else "a score below all others"
            logger.warning("%d %s have no vector: the model masks all their tokens. They get %s.", num, what, score)
