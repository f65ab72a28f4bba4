"""Exact streaming top-k over sparse documents, under the total order of the dense search."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .product import full_precision
from .search import Search
from .selection import Selection
from .similarity import check_similarity_name
from .sparse_product import SparseQueries
from .sparse_rows import SparseRows

Similarity = str | Callable[[Tensor, Tensor], Tensor]
"""A name of ``SIMILARITY_NAMES`` or a function of (Q, V) queries and (B, V) documents, both sparse COO tensors."""

_QUERY_ROWS, _DOCUMENT_ROWS = 512, 4096
# A function of the user may prepare its documents anew on every call, so it gets more queries at once.
_FUNCTION_QUERIES = 1024
_GROUP = 32


class SparseSearch(Search):
    """The k best documents for each query, over sparse documents that are added in portions.

    It works as ``StreamingSearch`` does: hits go by score descending, then position ascending, however the documents
    are portioned, and NaN scores are never hits.

    Args:
        queries: Q rows of width V.
        k: how many documents to keep for each query, at least 1.
        similarity: a name, or a function. The function gets queries and documents as coalesced COO tensors, not
            normalised, in float32 or float64, and returns (Q, B) scores in any layout.
        track_ties: also count the documents that share the k-th hit's score.
        watch: (query_index (W,), position (W,)), pairs whose scores are wanted whether or not they are hits.
        block_size: documents in a block; None chooses it.

    Raises:
        ValueError: for a k below 1, or an unknown similarity.

    Example:
        >>> import torch
        >>> search = SparseSearch(SparseRows.of(torch.tensor([[1.0, 0.0]])), 2, "dot")
        >>> search.add(SparseRows.of(torch.tensor([[1.0, 0.0], [3.0, 0.0]])))
        >>> search.add(SparseRows.of(torch.tensor([[3.0, 1.0]])))
        >>> search.result()
        Hits(scores=tensor([[3., 3.]]), positions=tensor([[1, 2]]))
    """

    def __init__(
        self,
        queries: SparseRows,
        k: int,
        similarity: Similarity,
        *,
        track_ties: bool = False,
        watch: tuple[Tensor, Tensor] | None = None,
        block_size: int | None = None,
    ) -> None:
        super().__init__(
            len(queries),
            k,
            queries.device,
            track_ties=track_ties,
            watch=watch,
            block_size=block_size or _DOCUMENT_ROWS,
        )
        if not callable(similarity):
            check_similarity_name(similarity)
        self._similarity = similarity
        self._queries = queries.widened()
        self._dtype = self._queries.values.dtype
        self._scorer: SparseQueries | None = None
        self._given: list[Tensor] = []
        size = _FUNCTION_QUERIES if callable(similarity) else _QUERY_ROWS
        starts = range(0, len(queries), size)
        self._rows = [slice(start, min(start + size, len(queries))) for start in starts] or [slice(0, 0)]
        self._selections: list[Selection] = []
        self._scores = torch.empty(0)
        self._pending: list[SparseRows] = []

    def add(self, documents: SparseRows) -> None:
        """Add documents, whose positions follow those of the documents added before.

        Args:
            documents: B rows of width V; B may be any number.

        Raises:
            ValueError: for documents of another width than the queries.
            RuntimeError: after ``result``.
        """
        self._refuse_if_over()
        if documents.width != self._queries.width:
            raise ValueError(f"documents must be (B, {self._queries.width}), got {documents.shape}")
        with full_precision(self._queries.device):
            start = 0
            while start < len(documents):
                part = documents.part(start, min(start + self._block_size - self._num_pending, len(documents)))
                self._pending.append(part)
                self._num_pending += len(part)
                start += len(part)
                if self._num_pending == self._block_size:
                    self._flush()

    def _finish(self) -> list[Selection]:
        if self._num_pending:
            self._flush()
        if not self._selections:
            self._start(self._dtype)
        selections, self._selections = self._selections, []
        self._given, self._scorer, self._scores = [], None, torch.empty(0)
        return selections

    def _start(self, dtype: torch.dtype) -> None:
        device = self._queries.device
        num_rows = [rows.stop - rows.start for rows in self._rows]
        self._selections = [self._selection(num, dtype) for num in num_rows]
        self._scores = torch.empty(num_rows[0] * (self._block_size + _GROUP), dtype=dtype, device=device)
        if self._watched is not None:
            self._watched.start(dtype, device)

    def _flush(self) -> None:
        """Score the pending documents."""
        documents = self._pending[0].joined(self._pending[1:]) if len(self._pending) > 1 else self._pending[0]
        self._pending, self._num_pending = [], 0
        if callable(self._similarity):
            self._score_by_function(self._similarity, documents.widened())
        else:
            self._score_by_name(self._similarity, documents)
        self._num_done += len(documents)

    def _score_by_name(self, name: str, documents: SparseRows) -> None:
        if self._scorer is None:
            # The first documents settle the precision.
            self._dtype = torch.promote_types(self._dtype, documents.widened().values.dtype)
            self._scorer = SparseQueries(name, self._queries, self._dtype)
            self._start(self._dtype)
        block = self._scorer.block(documents)
        for index, rows in enumerate(self._rows):
            num = rows.stop - rows.start
            out = self._scores[: num * block.num_columns].view(num, block.num_columns)
            self._select(index, self._scorer.scores(rows, block, out), block.num)

    def _score_by_function(self, function: Callable[[Tensor, Tensor], Tensor], documents: SparseRows) -> None:
        block, num = documents.as_tensor(), len(documents)
        wrong = documents.nonfinite()
        self._given = self._given or [self._queries.part(rows.start, rows.stop).as_tensor() for rows in self._rows]
        wrong_queries = self._queries.nonfinite()
        for index, (rows, queries) in enumerate(zip(self._rows, self._given, strict=True)):
            given = function(queries, block)
            shape = (rows.stop - rows.start, num)
            if not isinstance(given, Tensor) or given.shape != shape:
                found = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
                raise ValueError(f"the similarity function must return {shape} scores, got {found}")
            if not self._selections:
                self._start(torch.float64 if given.dtype == torch.float64 else torch.float32)
            # Copied, because the function may return what it keeps, and in any dtype, layout and device.
            num_columns = -(-num // _GROUP) * _GROUP
            scores = self._scores[: shape[0] * num_columns].view(shape[0], num_columns)
            scores[:, :num] = given.to_dense()
            scores[:, :num].masked_fill_(wrong | wrong_queries[rows, None], torch.nan)
            self._select(index, scores, num)

    def _select(self, index: int, scores: Tensor, num_documents: int) -> None:
        if self._watched is not None:
            self._watched.read(scores, self._rows[index], self._num_done, num_documents)
        self._selections[index].add(scores, self._num_done, num_documents)
