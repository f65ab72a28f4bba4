"""What all searches have in common: hits, and what is known of them, once all documents were added."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .hits import Hits
from .product import full_precision
from .selection import Selection
from .watch import Watch


class Search:
    """The k best documents for each query, over documents that are added in portions.

    A kind of search adds documents, and finishes: `_finish` scores what waits and gives the selections of ranges of
    queries, in order.

    Args:
        num_queries: Q.
        k: how many documents to keep for each query, at least 1.
        device: where scores are.
        track_ties: also count the documents that share the k-th hit's score.
        watch: (query_index (W,), position (W,)), pairs whose scores are wanted whether or not they are hits.
        block_size: documents in a block; every block but the last is full.

    Raises:
        ValueError: for a k below 1.
    """

    def __init__(
        self,
        num_queries: int,
        k: int,
        device: torch.device,
        *,
        track_ties: bool,
        watch: tuple[Tensor, Tensor] | None,
        block_size: int,
    ) -> None:
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        self._k = k
        self._device = device
        self._track_ties = track_ties
        self._block_size = block_size
        self._num_pending = self._num_done = 0
        self._hits: Hits | None = None
        self._watched = None if watch is None else Watch(*watch, num_queries, block_size)

    def add(self, documents: Any) -> None:
        """Add documents, whose positions follow those of the documents added before; not after ``result``."""
        raise NotImplementedError

    def _finish(self) -> list[Selection]:
        """Score what waits, let go of buffers, and give the selections."""
        raise NotImplementedError

    def _refuse_if_over(self) -> None:
        if self._hits is not None:
            raise RuntimeError("documents cannot be added after result()")

    def _selection(self, num_queries: int, dtype: torch.dtype) -> Selection:
        return Selection(num_queries, self._k, dtype, self._device, track_ties=self._track_ties)

    def result(self) -> Hits:
        """Return the hits over all documents added; no more can be added then.

        Returns:
            (Q, k) scores and positions.
        """
        if self._hits is None:
            with full_precision(self._device):
                selections = self._finish()
                parts = [selection.finish() for selection in selections]
                scores = torch.cat([part.scores for part in parts])
                positions = torch.cat([part.positions for part in parts])
                self._hits = Hits(scores, positions)
                self._nonfinite = torch.cat([selection.nonfinite for selection in selections])
                self._nonfinite |= (scores.isinf() & (positions >= 0)).any(dim=1)
                self._num_tied = torch.cat([selection.num_tied for selection in selections])
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
        return self._watched.scores.to(self._device)
