"""Exact streaming top-k of rows with several vectors: documents come in any portions, each query keeps its k best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .hits import Hits
from .maxsim import MaxSimScorer, check_maxsim_name
from .product import full_precision
from .ragged_rows import RaggedRows
from .selection import Selection
from .similarity import scoring_dtype, widen
from .watch import Watch

RaggedSimilarity = str | Callable[[Any, Any], Tensor]
"""A name of ``MAXSIM_NAMES``, or a function of (Q, n, d) queries, filled up with zeros, and B documents (n_i, d) in a
list that returns (Q, B) scores."""

# Scores that wait until the best of them are selected, and the fewest documents worth a product of their own.
_MOST_SCORES, _MOST_DOCUMENTS, _FEWEST_DOCUMENTS = 2**22, 4096, 256
_GROUP = 32


class MaxSimSearch:
    """The k best documents for each query, over documents that are added in portions.

    Hits are ordered by score descending, then position ascending, and do not depend on the portions. NaN scores are
    never hits.

    Args:
        queries: Q rows.
        k: how many documents to keep for each query, at least 1.
        similarity: a name, or a function, which gets vectors widened to float32.
        track_ties: also count the documents that share the k-th hit's score.
        watch: (query_index (W,), position (W,)), pairs whose scores are wanted whether or not they are hits.
        block_size: documents that are scored before the best are selected; None chooses it.

    Raises:
        ValueError: for a k below 1 or an unknown similarity.

    Example:
        >>> import torch
        >>> search = MaxSimSearch(RaggedRows.of([torch.eye(2)]), 1, "maxsim")
        >>> search.add(RaggedRows.of([torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])]))
        >>> search.result()
        Hits(scores=tensor([[2.]]), positions=tensor([[1]]))
    """

    def __init__(
        self,
        queries: RaggedRows,
        k: int,
        similarity: RaggedSimilarity,
        *,
        track_ties: bool = False,
        watch: tuple[Tensor, Tensor] | None = None,
        block_size: int | None = None,
    ) -> None:
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        if not callable(similarity):
            check_maxsim_name(similarity)
        self._queries, self._k, self._similarity, self._track_ties = queries, k, similarity, track_ties
        fitting = min(_MOST_SCORES // max(len(queries), 1), _MOST_DOCUMENTS) // _GROUP * _GROUP
        self._block_size = block_size or max(fitting, _FEWEST_DOCUMENTS)
        self._score: Callable[[RaggedRows], Tensor] | None = None
        self._selection: Selection | None = None
        self._scores = torch.empty(0)
        self._waiting: list[RaggedRows] = []
        self._num_pending = 0
        self._num_done = 0
        self._hits: Hits | None = None
        self._watched = None if watch is None else Watch(*watch, len(queries), self._block_size)

    def add(self, documents: RaggedRows) -> None:
        """Add documents, whose positions follow those of the documents added before.

        Args:
            documents: B rows; B may be any number.

        Raises:
            ValueError: for documents of another width than the queries.
            RuntimeError: after ``result``.
        """
        if self._hits is not None:
            raise RuntimeError("documents cannot be added after result()")
        if documents.dim != self._queries.dim:
            raise ValueError(f"documents must have {self._queries.dim} dimensions, got {documents.dim}")
        self._waiting.append(documents)
        if sum(map(len, self._waiting)) >= _FEWEST_DOCUMENTS:
            self._score_waiting()

    def result(self) -> Hits:
        """Return the hits over all documents added; no more can be added then.

        Returns:
            (Q, k) scores and positions.
        """
        if self._hits is None:
            self._score_waiting()
            with full_precision(self._queries.device):
                if self._num_pending:
                    self._flush()
                selection = self._selection or self._start(scoring_dtype(self._queries.vectors, self._queries.vectors))
                hits = selection.finish()
                self._nonfinite = selection.nonfinite | (hits.scores.isinf() & (hits.positions >= 0)).any(dim=1)
                self._num_tied = selection.num_tied
                self._hits = Hits(hits.scores.clone(), hits.positions.clone())
            self._selection, self._scores = None, torch.empty(0)
        return self._hits

    @property
    def nonfinite(self) -> Tensor:
        """(Q,) bool: which queries met a NaN score or have an infinite score among their hits."""
        self.result()
        return self._nonfinite

    @property
    def num_nonfinite(self) -> int:
        """How many queries met a NaN score or have an infinite score among their hits; their metrics are undefined."""
        return int(self.nonfinite.sum())

    @property
    def num_tied(self) -> Tensor:
        """(Q,) int64: how many of all documents have the k-th hit's score; 0 with fewer than k documents."""
        if not self._track_ties:
            raise RuntimeError("num_tied needs track_ties=True")
        self.result()
        return self._num_tied

    @property
    def watched_scores(self) -> Tensor:
        """(W,) scores of the watched pairs; NaN for positions that were never added."""
        if self._watched is None:
            raise RuntimeError("watched_scores needs watch=(query_index, position)")
        self.result()
        return self._watched.scores.to(self._queries.device)

    def _score_waiting(self) -> None:
        if not self._waiting:
            return
        documents, self._waiting = (
            self._waiting[0].joined(self._waiting[1:]) if self._waiting[1:] else self._waiting[0],
            [],
        )
        start = 0
        while start < len(documents):
            num = min(len(documents) - start, self._block_size - self._num_pending)
            found = self._scores_of(documents.part(start, start + num))
            with full_precision(self._queries.device):
                if self._selection is None:
                    self._start(found.dtype)
                self._scores[:, self._num_pending : self._num_pending + num] = found
                self._num_pending += num
                if self._num_pending == self._block_size:
                    self._flush()
            start += num

    def _scores_of(self, documents: RaggedRows) -> Tensor:
        if self._score is None:
            if isinstance(self._similarity, str):
                dtype = scoring_dtype(self._queries.vectors, documents.vectors)
                self._score = MaxSimScorer(self._similarity, self._queries, dtype).score
            else:
                self._score = _Function(self._similarity, self._queries).score
        return self._score(documents)

    def _start(self, dtype: torch.dtype) -> Selection:
        num_queries, device = len(self._queries), self._queries.device
        dtype = torch.float64 if dtype == torch.float64 else torch.float32
        self._selection = Selection(num_queries, self._k, dtype, device, track_ties=self._track_ties)
        self._scores = torch.empty(num_queries, self._block_size, dtype=dtype, device=device)
        if self._watched is not None:
            self._watched.start(dtype, device)
        return self._selection

    def _flush(self) -> None:
        """Select the best of the scores that wait."""
        assert self._selection is not None
        if self._watched is not None:
            self._watched.read(self._scores, slice(0, len(self._queries)), self._num_done, self._num_pending)
        self._selection.add(self._scores, self._num_done, self._num_pending)
        self._num_done += self._num_pending
        self._num_pending = 0


class _Function:
    """A function of the user, called with the queries and portions of documents."""

    def __init__(self, function: Callable[[Any, Any], Tensor], queries: RaggedRows) -> None:
        self._function = function
        self._queries = widen(queries.padded())

    def score(self, documents: RaggedRows) -> Tensor:
        rows: Sequence[Tensor] = RaggedRows(widen(documents.vectors), documents.offsets).split()
        given = self._function(self._queries, rows)
        shape = (len(self._queries), len(documents))
        if not isinstance(given, Tensor) or given.shape != shape:
            found = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
            raise ValueError(f"the similarity function must return {shape} scores, got {found}")
        return given
