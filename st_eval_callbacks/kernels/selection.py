"""The k best of scores that arrive in blocks, exactly, under one total order.

Most blocks hold few scores above the k-th best so far. Maxima of small groups of neighbouring documents find them,
only those groups are read, and what passes goes to a small buffer for each query that is sorted when it is full.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .hits import Hits, best_of

_GROUP = 32
_SPARE = 128
_NEGATIVE_INFINITY = float("-inf")


class Selection:
    """Keeps the k best documents of some queries while blocks of scores pass.

    NaN scores are never hits; ``nonfinite`` marks the queries that had one.

    Args:
        num_queries: Q, how many rows every block has.
        k: how many documents to keep for each query, at least 1.
        dtype: dtype of the scores.
        device: device of the scores.
        track_ties: also count the documents whose score equals the k-th best.
    """

    def __init__(
        self, num_queries: int, k: int, dtype: torch.dtype, device: torch.device, *, track_ties: bool = False
    ) -> None:
        self._k = k
        self._capacity = 2 * k + _SPARE
        self._scores = torch.full((num_queries, self._capacity), _NEGATIVE_INFINITY, dtype=dtype, device=device)
        self._positions = torch.full((num_queries, self._capacity), -1, dtype=torch.int64, device=device)
        self._fill = torch.zeros(num_queries, dtype=torch.int64, device=device)
        self._max_fill = 0
        self._threshold = torch.full((num_queries,), _NEGATIVE_INFINITY, dtype=dtype, device=device)
        self._has_k = torch.zeros(num_queries, dtype=torch.bool, device=device)
        self._all_have_threshold = False
        self._floor = _NEGATIVE_INFINITY
        self._track_ties = track_ties
        self.num_tied = torch.zeros(num_queries, dtype=torch.int64, device=device)
        self.nonfinite = torch.zeros(num_queries, dtype=torch.bool, device=device)

    def add(self, scores: Tensor, first_position: int, num_documents: int | None = None) -> None:
        """Take one block of scores.

        Args:
            scores: (Q, B) scores of documents in ascending position, above all earlier ones; may be overwritten.
            first_position: position of the first column's document.
            num_documents: how many leading columns count; None for all.
        """
        num_columns = scores.shape[1]
        num_documents = num_columns if num_documents is None else num_documents
        if num_columns % _GROUP:
            scores = torch.nn.functional.pad(scores, (0, -num_columns % _GROUP))
        scores[:, num_documents:] = _NEGATIVE_INFINITY
        maxima = scores.view(len(scores), -1, _GROUP).amax(dim=2)
        is_nan = None
        if maxima.isnan().any():
            is_nan = scores.isnan()
            self.nonfinite |= is_nan.any(dim=1)
            scores = scores.masked_fill_(is_nan, _NEGATIVE_INFINITY)
            maxima = scores.view(len(scores), -1, _GROUP).amax(dim=2)
        if self._all_have_threshold:
            if not self._append_groups(scores, maxima, first_position):
                self._merge_best_of(scores[:, :num_documents], is_nan, first_position)
        elif not self._add_first(scores, maxima, first_position):
            self._add_dense(scores[:, :num_documents], is_nan, first_position)

    def finish(self) -> Hits:
        """Return the hits; more blocks may follow.

        Returns:
            The k best documents of each query so far.
        """
        if self._max_fill > self._k or not self._all_have_threshold:
            self._merge()
        return Hits(self._scores[:, : self._k], self._positions[:, : self._k])

    @property
    def merged_scores(self) -> Tensor:
        """(Q, k) scores of the hits as of the last merge, -inf for none; a view."""
        return self._scores[:, : self._k]

    def raise_floor(self, floor: float) -> None:
        """Leave out later documents that do not score above a floor, even where a query has fewer than k.

        Not for use with ``track_ties``, which counts documents at a threshold that is a hit's score.

        Args:
            floor: a finite score; documents at or below it may be hits or not.
        """
        if not self._all_have_threshold:
            self._merge()
        self._floor = max(floor, self._floor)
        self._threshold.clamp_(min=self._floor)
        self._all_have_threshold = self._all_have_threshold or self._floor > _NEGATIVE_INFINITY

    def _add_first(self, scores: Tensor, maxima: Tensor, first_position: int) -> bool:
        """Take a first block through a bound: k groups have a maximum of at least the k-th largest maximum."""
        if self._max_fill or maxima.shape[1] <= self._k:
            return False
        bound = maxima.topk(self._k, dim=1, sorted=False).values.amin(dim=1)
        if bound.isneginf().any():
            return False
        # Documents equal to the bound may be among the best, so the test "above" needs the next lower value.
        self._threshold = torch.nextafter(bound, torch.full_like(bound, _NEGATIVE_INFINITY))
        taken = self._append_groups(scores, maxima, first_position)
        if taken:
            self._merge()
        return taken

    def _append_groups(self, scores: Tensor, maxima: Tensor, first_position: int) -> bool:
        """Append what is above the threshold, reading only groups that hold some; False if it is too much."""
        count_ties = self._track_ties and self._all_have_threshold
        threshold = self._threshold[:, None]
        passing = maxima >= threshold if count_ties else maxima > threshold
        groups = _places(passing.view(-1))
        if not len(groups):
            return True
        rows = groups // maxima.shape[1]
        values = scores.view(-1, _GROUP).index_select(0, groups)
        limits = self._threshold.index_select(0, rows)[:, None]
        above = values > limits
        if int(above.count_nonzero()) > len(scores) * (self._capacity - self._k * self._all_have_threshold):
            return False
        kept = _places(above.view(-1))
        kept_groups = kept // _GROUP
        kept_rows = rows.index_select(0, kept_groups)
        counts = torch.bincount(kept_rows, minlength=len(scores))
        if int((self._fill + counts).max()) > self._capacity:
            # Merging what waits in the buffer raises the threshold and makes room.
            if self._max_fill <= self._k:
                return False
            self._merge()
            return self._append_groups(scores, maxima, first_position)
        if count_ties:
            self.num_tied.index_add_(0, rows, (values == limits).sum(dim=1))
        first_of_group = (groups % maxima.shape[1]) * _GROUP + first_position
        positions = first_of_group.index_select(0, kept_groups) + kept % _GROUP
        self._append(kept_rows, values.view(-1).index_select(0, kept), positions, counts)
        return True

    def _append(self, rows: Tensor, scores: Tensor, positions: Tensor, counts: Tensor) -> None:
        first = counts.cumsum(0) - counts
        slots = (self._fill - first).index_select(0, rows)
        slots += torch.arange(len(rows), device=rows.device)
        slots += rows * self._capacity
        self._scores.view(-1)[slots] = scores
        self._positions.view(-1)[slots] = positions
        self._fill += counts
        self._max_fill = int(self._fill.max())

    def _add_dense(self, scores: Tensor, is_nan: Tensor | None, first_position: int) -> None:
        """Take a block while some query has fewer than k documents."""
        num_documents = scores.shape[1]
        if num_documents > self._k:
            self._merge_best_of(scores, is_nan, first_position)
            return
        if self._max_fill + num_documents > self._capacity:
            self._merge()
        if self._track_ties:
            self.num_tied += (scores == self._threshold[:, None]).sum(dim=1) * self._has_k
        columns = slice(self._max_fill, self._max_fill + num_documents)
        positions = torch.arange(first_position, first_position + num_documents, device=scores.device)
        self._scores[:, columns] = scores
        self._positions[:, columns] = positions if is_nan is None else positions.where(~is_nan[:, :num_documents], -1)
        self._max_fill += num_documents
        self._fill.fill_(self._max_fill)
        if self._max_fill >= self._k:
            self._merge()

    def _merge_best_of(self, scores: Tensor, is_nan: Tensor | None, first_position: int) -> None:
        """Merge the buffer with the k best of a whole block."""
        columns = _best_columns(scores, min(self._k, scores.shape[1]))
        positions = columns + first_position
        if is_nan is not None:
            positions.masked_fill_(is_nan.gather(1, columns), -1)
        self._merge(scores.gather(1, columns), positions, scores)

    def _merge(
        self, scores: Tensor | None = None, positions: Tensor | None = None, block: Tensor | None = None
    ) -> None:
        """Reduce the buffer, and the best of a block if one is given, to the k best."""
        k = self._k
        old_scores, old_positions = self._scores[:, : self._max_fill], self._positions[:, : self._max_fill]
        all_scores, all_positions = old_scores, old_positions
        if scores is not None and positions is not None:
            all_scores = torch.cat([old_scores, scores], dim=1)
            all_positions = torch.cat([old_positions, positions], dim=1)
        hits = best_of(all_scores, all_positions, k)
        threshold = hits.scores[:, -1]
        has_k = hits.positions[:, -1] >= 0
        if self._track_ties:
            # Documents equal to a new k-th score were above every earlier threshold, so all are in the buffer or the
            # block; those equal to an unchanged one were counted as they passed.
            num_equal = (old_scores == threshold[:, None]).logical_and_(old_positions >= 0).sum(dim=1)
            is_unchanged = self._has_k & (threshold == self._threshold)
            num_equal = torch.where(is_unchanged, self.num_tied, num_equal)
            if block is not None:
                num_equal = num_equal + (block == threshold[:, None]).sum(dim=1)
            self.num_tied = num_equal * has_k
        self._scores.fill_(_NEGATIVE_INFINITY)
        self._positions.fill_(-1)
        self._scores[:, :k] = hits.scores
        self._positions[:, :k] = hits.positions
        self._threshold = threshold.clamp_min(self._floor)
        self._has_k = has_k
        self._all_have_threshold = self._floor > _NEGATIVE_INFINITY or bool(has_k.all())
        self._max_fill = k
        self._fill.fill_(k)


def _places(mask: Tensor) -> Tensor:
    """Where a (T,) mask is true; on a CPU numpy finds these several times faster."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.nonzero().squeeze(1)


def _best_columns(scores: Tensor, k: int) -> Tensor:
    """Columns of the k best of each row, ascending; of scores equal to the k-th, the first columns."""
    if k == scores.shape[1]:
        return torch.arange(k, device=scores.device).expand(len(scores), k).contiguous()
    best = scores.topk(k + 1, dim=1)
    columns = best.indices[:, :k].sort(dim=1).values
    tied = (best.values[:, k - 1] == best.values[:, k]).nonzero().squeeze(1)
    if len(tied):
        rows = scores.index_select(0, tied)
        limit = best.values[:, k - 1].index_select(0, tied)[:, None]
        above, equal = rows > limit, rows == limit
        room = k - above.sum(dim=1, keepdim=True, dtype=torch.int32)
        chosen = above | (equal & (equal.cumsum(dim=1, dtype=torch.int32) <= room))
        columns[tied] = chosen.nonzero()[:, 1].view(len(tied), k)
    return columns
