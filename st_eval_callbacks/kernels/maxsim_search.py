"""Exact streaming top-k of rows with several vectors: documents come in any portions, each query keeps its k best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .maxsim import MaxSimScorer, check_maxsim_name
from .product import full_precision
from .ragged_rows import RaggedRows
from .search import Search
from .selection import Selection
from .similarity import scoring_dtype, widen

RaggedSimilarity = str | Callable[[Any, Any], Tensor]
"""A name of ``MAXSIM_NAMES``, or a function of (Q, n, d) queries, filled up with zeros, and B documents (n_i, d) in a
list that returns (Q, B) scores."""

# Scores that wait until the best of them are selected, and the fewest documents worth a product of their own.
_MOST_SCORES, _MOST_DOCUMENTS, _FEWEST_DOCUMENTS = 2**22, 4096, 256
_GROUP = 32


class MaxSimSearch(Search):
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
        fitting = min(_MOST_SCORES // max(len(queries), 1), _MOST_DOCUMENTS) // _GROUP * _GROUP
        super().__init__(
            len(queries),
            k,
            queries.device,
            track_ties=track_ties,
            watch=watch,
            block_size=block_size or max(fitting, _FEWEST_DOCUMENTS),
        )
        if not callable(similarity):
            check_maxsim_name(similarity)
        self._queries, self._similarity = queries, similarity
        self._score: Callable[[RaggedRows], Tensor] | None = None
        self._only: Selection | None = None
        self._scores = torch.empty(0)
        self._waiting: list[RaggedRows] = []

    def add(self, documents: RaggedRows) -> None:
        """Add documents, whose positions follow those of the documents added before.

        Args:
            documents: B rows; B may be any number.

        Raises:
            ValueError: for documents of another width than the queries.
            RuntimeError: after ``result``.
        """
        self._refuse_if_over()
        if documents.dim != self._queries.dim:
            raise ValueError(f"documents must have {self._queries.dim} dimensions, got {documents.dim}")
        self._waiting.append(documents)
        if sum(map(len, self._waiting)) >= _FEWEST_DOCUMENTS:
            self._score_waiting()

    def _finish(self) -> list[Selection]:
        self._score_waiting()
        if self._num_pending:
            self._flush()
        selection = self._only or self._start(scoring_dtype(self._queries.vectors, self._queries.vectors))
        self._only, self._scores = None, torch.empty(0)
        return [selection]

    def _score_waiting(self) -> None:
        if not self._waiting:
            return
        first, *others = self._waiting
        documents, self._waiting = first.joined(others) if others else first, []
        start = 0
        while start < len(documents):
            num = min(len(documents) - start, self._block_size - self._num_pending)
            found = self._scores_of(documents.part(start, start + num))
            with full_precision(self._queries.device):
                if self._only is None:
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
        self._only = self._selection(num_queries, dtype)
        self._scores = torch.empty(num_queries, self._block_size, dtype=dtype, device=device)
        if self._watched is not None:
            self._watched.start(dtype, device)
        return self._only

    def _flush(self) -> None:
        """Select the best of the scores that wait."""
        assert self._only is not None
        if self._watched is not None:
            self._watched.read(self._scores, slice(0, len(self._queries)), self._num_done, self._num_pending)
        self._only.add(self._scores, self._num_done, self._num_pending)
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
