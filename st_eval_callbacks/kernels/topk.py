"""Exact streaming top-k: documents come in any portions, each query keeps its k best under one total order.

Hits are ordered by score descending, then position ascending, so they are a function of the scores alone: neither the
portions nor the blocks the work is cut into have an influence.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .hits import Hits, merge_hits, merge_num_tied
from .product import full_precision
from .search import Search
from .selection import Selection
from .similarity import QueryScorer, widen

__all__ = ["Hits", "Similarity", "StreamingSearch", "merge_hits", "merge_num_tied"]

Similarity = str | Callable[[Tensor, Tensor], Tensor]
"""A name of ``SIMILARITY_NAMES`` or a function of (Q, d) queries and (B, d) documents that returns (Q, B) scores."""

# A CPU is fastest while a block of scores stays in its cache; a GPU needs work enough to hide the launches.
_CPU_BLOCK, _GPU_BLOCK = (512, 4096), (2048, 16384)
# A function of the user may prepare its documents anew on every call, so it gets more queries at once.
_FUNCTION_QUERIES = 1024
_MAX_BLOCK_ELEMENTS = 4096 * 1024
# Product kernels treat whole tiles alike and odd tails differently.
_TILE = 512


class StreamingSearch(Search):
    """The k best documents for each query, over documents that are added in portions.

    A document has the same score wherever it stands and however the documents are portioned: they are gathered into
    blocks of one shape, whose last one is padded. NaN scores are never hits. In a query that has some, documents with
    score -inf may be missing from the hits.

    Args:
        queries: (Q, d) embeddings.
        k: how many documents to keep for each query, at least 1.
        similarity: a name, or a function. The function gets queries and documents as they were given (not normalised),
            widened to float32; it must not keep or change them.
        track_ties: also count the documents that share the k-th hit's score.
        watch: (query_index (W,), position (W,)), pairs whose scores are wanted whether or not they are hits.
        block_size: documents in a block; None chooses it.

    Raises:
        ValueError: for a k below 1, queries that are no matrix, or an unknown similarity.

    Example:
        >>> import torch
        >>> search = StreamingSearch(torch.tensor([[1.0, 0.0]]), 2, "dot")
        >>> search.add(torch.tensor([[1.0, 0.0], [3.0, 0.0]]))
        >>> search.add(torch.tensor([[3.0, 1.0]]))
        >>> search.result()
        Hits(scores=tensor([[3., 3.]]), positions=tensor([[1, 2]]))
    """

    def __init__(
        self,
        queries: Tensor,
        k: int,
        similarity: Similarity,
        *,
        track_ties: bool = False,
        watch: tuple[Tensor, Tensor] | None = None,
        block_size: int | None = None,
    ) -> None:
        if queries.ndim != 2:
            raise ValueError(f"queries must be (Q, d), got {tuple(queries.shape)}")
        query_rows, document_rows = _CPU_BLOCK if queries.device.type == "cpu" else _GPU_BLOCK
        fitting_rows = max(_MAX_BLOCK_ELEMENTS // max(queries.shape[1], 1) // _TILE, 1) * _TILE
        super().__init__(
            len(queries),
            k,
            queries.device,
            track_ties=track_ties,
            watch=watch,
            block_size=block_size or min(document_rows, fitting_rows),
        )
        with full_precision(queries.device):
            self._queries = widen(queries)
        self._similarity = similarity
        self._scorer = None if callable(similarity) else QueryScorer(similarity, self._queries)
        if self._scorer is None:
            query_rows = max(query_rows, _FUNCTION_QUERIES)
        starts = range(0, len(queries), query_rows)
        self._rows = [slice(start, min(start + query_rows, len(queries))) for start in starts]
        self._selections: list[Selection] = []
        self._block: Tensor | None = None
        self._scores: Tensor | None = None

    def add(self, documents: Tensor) -> None:
        """Add documents, whose positions follow those of the documents added before.

        Args:
            documents: (B, d) embeddings; B may be any number.

        Raises:
            ValueError: for documents of another width than the queries.
            RuntimeError: after ``result``.
        """
        self._refuse_if_over()
        if documents.ndim != 2 or documents.shape[1] != self._queries.shape[1]:
            raise ValueError(f"documents must be (B, {self._queries.shape[1]}), got {tuple(documents.shape)}")
        with full_precision(self._queries.device):
            documents = documents.detach()
            if self._block is None:
                self._allocate(documents.dtype)
            assert self._block is not None
            start = 0
            while start < len(documents):
                part = documents[start : start + self._block_size - self._num_pending]
                # Always copied: a product's rounding may depend on how its inputs are aligned in memory.
                self._block[self._num_pending : self._num_pending + len(part), : documents.shape[1]] = part
                self._num_pending += len(part)
                start += len(part)
                if self._num_pending == self._block_size:
                    self._flush()

    def _finish(self) -> list[Selection]:
        if self._block is None:
            self._allocate(self._queries.dtype)
        if self._num_pending:
            self._flush()
        if not self._selections:
            self._start_selections(self._queries.dtype)
        selections, self._selections = self._selections, []
        self._block = self._scores = None
        return selections

    def _allocate(self, dtype: torch.dtype) -> None:
        """Settle the precision with the first documents, and make the buffers."""
        if dtype == torch.float64 and self._queries.dtype != dtype:
            self._queries = self._queries.to(dtype)
            if self._scorer is not None:
                self._scorer = QueryScorer(str(self._similarity), self._queries)
        width = self._queries.shape[1] if self._scorer is None else self._scorer.width
        self._block = self._queries.new_zeros(self._block_size, width)

    def _start_selections(self, dtype: torch.dtype) -> None:
        device = self._queries.device
        num_rows = [rows.stop - rows.start for rows in self._rows] or [0]
        self._selections = [self._selection(num, dtype) for num in num_rows]
        self._scores = torch.empty(num_rows[0] * self._num_columns(self._block_size), dtype=dtype, device=device)
        if self._watched is not None:
            self._watched.start(dtype, device)

    def _num_columns(self, num_documents: int) -> int:
        return -(-num_documents // _TILE) * _TILE

    def _flush(self) -> None:
        """Score the pending documents and start a new block."""
        assert self._block is not None
        num_documents = self._num_pending
        block = self._block[: self._padded_rows(num_documents)]
        if self._scorer is not None:
            block[num_documents:] = 0
            self._scorer.prepare(block)
        else:
            block[num_documents:] = block[num_documents - 1]
        for index, rows in enumerate(self._rows):
            scores = self._score(rows, block, num_documents)
            if self._watched is not None:
                self._watched.read(scores, rows, self._num_done, num_documents)
            self._selections[index].add(scores, self._num_done, num_documents)
        self._num_done += num_documents
        self._num_pending = 0

    def _padded_rows(self, num_documents: int) -> int:
        """All blocks of a search have one shape; a lone one is padded to whole tiles, or not at all for functions."""
        if self._num_done:
            return self._block_size
        if self._scorer is None:
            return num_documents
        return min(self._num_columns(num_documents), self._block_size)

    def _score(self, rows: slice, block: Tensor, num_documents: int) -> Tensor:
        num_rows = rows.stop - rows.start
        if self._scorer is not None:
            if not self._selections:
                self._start_selections(self._queries.dtype)
            assert self._scores is not None
            out = self._scores[: num_rows * len(block)].view(num_rows, len(block))
            return self._scorer.score(rows, block, out)
        assert callable(self._similarity)
        given = self._similarity(self._queries[rows], block)
        if not isinstance(given, Tensor) or given.shape != (num_rows, len(block)):
            shape = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
            raise ValueError(f"the similarity function must return ({num_rows}, {len(block)}) scores, got {shape}")
        if not self._selections:
            self._start_selections(torch.float64 if given.dtype == torch.float64 else torch.float32)
        assert self._scores is not None
        # Copied, because the function may return what it keeps, and in any dtype, layout and device.
        num_columns = self._num_columns(num_documents)
        scores = self._scores[: num_rows * num_columns].view(num_rows, num_columns)
        scores[:, :num_documents] = given[:, :num_documents]
        return scores
