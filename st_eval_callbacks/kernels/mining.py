"""Mining of one list of embeddings for its most similar pairs, and the metrics of what was found."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .matching import Match, match_accuracy
from .product import full_precision
from .similarity import QueryScorer, widen
from .sorting import host_values

__all__ = ["Match", "MinedPairs", "match_accuracy", "mine_pairs", "mining_metrics"]

_BLOCK_ROWS, _BLOCK_COLUMNS = 512, 2048
_GROUP = 32
# How many pairs may wait beyond those kept: fewer means more sorting, more means a threshold that rises later.
_MIN_WAITING = 1 << 18


class MinedPairs(NamedTuple):
    """Pairs of rows by descending score; among equal scores by ascending left, then right.

    Attributes:
        scores: (M,) cosine similarities.
        left: (M,) int64 row, the smaller of the two.
        right: (M,) int64 row.
    """

    scores: Tensor
    left: Tensor
    right: Tensor


def mine_pairs(embeddings: Tensor, max_pairs: int = 500_000, top_k: int = 100) -> MinedPairs:
    """Find the pairs of rows with the highest cosine similarity.

    A pair is eligible if one of its rows is among the ``top_k`` most similar other rows of the other. Of the eligible
    pairs the ``max_pairs`` best are returned, each once. Without ties these are exactly the pairs of
    ``sentence_transformers.util.paraphrase_mining``, which leaves ties to chance: here equal scores are ordered by
    ascending left, then right row, in both limits. Pairs with a NaN score are never returned.

    Only half of the symmetric matrix is computed, in blocks. What is kept is bounded by the 2 * max_pairs best
    directed neighbours: the number of those above a score never falls, and they are at least max_pairs pairs.

    Args:
        embeddings: (N, d) embeddings; half precision is widened to float32.
        max_pairs: how many pairs to return at most.
        top_k: how many neighbours of each row count.

    Returns:
        At most ``max_pairs`` pairs.

    Raises:
        ValueError: for embeddings that are no matrix, or negative limits.

    Example:
        >>> import torch
        >>> mine_pairs(torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]]), max_pairs=2)
        MinedPairs(scores=tensor([1., 0.]), left=tensor([0, 0]), right=tensor([2, 1]))
    """
    if embeddings.ndim != 2:
        raise ValueError(f"embeddings must be (N, d), got {tuple(embeddings.shape)}")
    if max_pairs < 0 or top_k < 0:
        raise ValueError(f"max_pairs and top_k must not be negative, got {max_pairs} and {top_k}")
    with full_precision(embeddings.device):
        table = widen(embeddings)
        num_rows = len(table)
        pool = _Pool(num_rows, max_pairs, top_k, table.dtype)
        if num_rows < 2 or not max_pairs or not top_k:
            return pool.result(table.device)
        scorer = QueryScorer("cosine", table)
        block = table.new_zeros(_BLOCK_COLUMNS, table.shape[1])
        buffer = table.new_empty(_BLOCK_ROWS * _BLOCK_COLUMNS)
        for first_row in range(0, num_rows, _BLOCK_ROWS):
            rows = slice(first_row, min(first_row + _BLOCK_ROWS, num_rows))
            for first_column in range(first_row, num_rows, _BLOCK_COLUMNS):
                # Every block has the full shape: odd tails round differently on some kernels.
                part = scorer.queries[first_column : first_column + _BLOCK_COLUMNS]
                block[: len(part)] = part
                out = buffer[: (rows.stop - first_row) * _BLOCK_COLUMNS].view(-1, _BLOCK_COLUMNS)
                scores = scorer.score(rows, block, out)
                scores[:, len(part) :] = float("nan")
                if first_column < rows.stop:
                    lower = torch.ones_like(scores, dtype=torch.bool).tril_(first_row - first_column)
                    scores.masked_fill_(lower, float("nan"))
                pool.add(scores, first_row, first_column)
        return pool.result(table.device)


def mining_metrics(is_duplicate: Tensor, scores: Tensor, num_duplicates: int) -> dict[str, float]:
    """Score mined pairs as sentence-transformers' ``ParaphraseMiningEvaluator`` does.

    Precision and recall are taken at every distinct score, because pairs with equal scores share a threshold. Average
    precision sums precision times the gain in recall; F1, its precision, recall and threshold are those of the first
    highest F1. The threshold is halfway to the next lower score.

    Args:
        is_duplicate: (M,) bool, whether each pair is a known duplicate.
        scores: (M,) scores in descending order.
        num_duplicates: how many duplicates there are in all.

    Returns:
        ``average_precision``, ``f1``, ``precision``, ``recall`` and ``threshold``; all 0 if no duplicate was found,
        all NaN if a score is not finite.

    Raises:
        ValueError: for lists of different length or scores that rise.

    Example:
        >>> import torch
        >>> metrics = mining_metrics(torch.tensor([True, False, True]), torch.tensor([0.75, 0.5, 0.25]), 2)
        >>> metrics["f1"], metrics["precision"], metrics["recall"], metrics["threshold"]
        (0.8, 0.6666666666666666, 1.0, 0.25)
        >>> round(metrics["average_precision"], 4)
        0.8333
    """
    names = ("average_precision", "f1", "precision", "recall", "threshold")
    if is_duplicate.shape != scores.shape or scores.ndim != 1:
        raise ValueError("is_duplicate and scores must be two lists of equal length")
    values = host_values(scores).astype(np.float64)
    if not np.isfinite(values).all():
        return dict.fromkeys(names, float("nan"))
    if (values[1:] > values[:-1]).any():
        raise ValueError("scores must be in descending order")
    last_of_score = np.flatnonzero(np.append(values[1:] != values[:-1], True)) if len(values) else np.zeros(0, int)
    num_correct = np.cumsum(host_values(is_duplicate) != 0)[last_of_score]
    gained = np.diff(num_correct, prepend=0)
    at, num_correct, gained = last_of_score[gained > 0], num_correct[gained > 0], gained[gained > 0]
    if not len(at) or num_duplicates <= 0:
        return dict.fromkeys(names, 0.0)
    precision = num_correct / (at + 1)
    recall = num_correct / num_duplicates
    f1 = 2 * precision * recall / (precision + recall)
    best = int(f1.argmax())
    threshold = (values[at[best]] + values[min(at[best] + 1, len(values) - 1)]) / 2
    average_precision = float((precision * gained).sum() / num_duplicates)
    found = (average_precision, *(float(value) for value in (f1[best], precision[best], recall[best], threshold)))
    return dict(zip(names, found, strict=True))


class _Pool:
    """Eligible pairs while blocks pass, cut back to what can still be among the best."""

    def __init__(self, num_rows: int, max_pairs: int, top_k: int, dtype: torch.dtype) -> None:
        self._num_rows, self._max_pairs, self._top_k = num_rows, max_pairs, top_k
        # A pair's code orders equal scores: it ascends with left, then right.
        self._scores: list[NDArray[np.floating]] = [host_values(torch.empty(0, dtype=dtype))]
        self._codes: list[NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)]
        self._num_waiting = 0
        self._limit = max(4 * max_pairs, _MIN_WAITING)
        self._threshold = float("-inf")
        self._threshold_code = num_rows * num_rows

    def add(self, scores: Tensor, first_row: int, first_column: int) -> None:
        """Take the pairs of one block that can still be among the best; a NaN marks what is no pair."""
        groups = scores.view(-1, _GROUP)
        if self._threshold == float("-inf"):
            values, index = groups, None
        else:
            # NaN would hide the other scores of its group.
            maxima = groups.amax(dim=1)
            above = (maxima >= self._threshold) | maxima.isnan()
            index = above.nonzero().squeeze(1)
            values = groups.index_select(0, index)
        kept = (values >= self._threshold).view(-1).nonzero().squeeze(1)
        found = values.reshape(-1).index_select(0, kept)
        cell = kept if index is None else index.index_select(0, kept // _GROUP) * _GROUP + kept % _GROUP
        num_columns = scores.shape[1]
        codes = (cell // num_columns + first_row) * self._num_rows + (cell % num_columns + first_column)
        passing = (found > self._threshold) | (codes < self._threshold_code)
        if not passing.all():
            found, codes = found[passing], codes[passing]
        if len(found):
            self._scores.append(host_values(found).copy())
            self._codes.append(codes.cpu().numpy())
            self._num_waiting += len(found)
            if self._num_waiting > self._limit:
                self._prune()

    def result(self, device: torch.device) -> MinedPairs:
        """Return the best pairs."""
        scores, codes = self._prune()
        order = np.lexsort((codes, -scores))[: self._max_pairs]
        left, right = np.divmod(codes[order], max(self._num_rows, 1))
        found = (scores[order], left, right)
        return MinedPairs(*(torch.from_numpy(np.ascontiguousarray(values)).to(device) for values in found))

    def _prune(self) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
        """Drop pairs that no row has among its top_k, then those beyond the 2 * max_pairs best directed neighbours."""
        scores, codes = np.concatenate(self._scores), np.concatenate(self._codes)
        directions = self._num_directions(scores, codes)
        kept = directions > 0
        if int(directions.sum()) > 2 * self._max_pairs:
            kept &= self._is_before_cut(scores, codes, directions)
        scores, codes = scores[kept], codes[kept]
        self._scores, self._codes, self._num_waiting = [scores], [codes], 0
        return scores, codes

    def _num_directions(self, scores: NDArray[np.floating], codes: NDArray[np.int64]) -> NDArray[np.int8]:
        """For how many of its two rows each pair is among the top_k."""
        ends = np.divmod(codes, max(self._num_rows, 1))
        counts = np.bincount(ends[0], minlength=self._num_rows) + np.bincount(ends[1], minlength=self._num_rows)
        is_crowded = counts > self._top_k
        directions = np.full(len(codes), 2, dtype=np.int8)
        if not is_crowded.any():
            return directions
        pairs = np.concatenate([np.flatnonzero(is_crowded[end]) for end in ends])
        rows = np.concatenate([end[is_crowded[end]] for end in ends])
        order = np.lexsort((codes[pairs], -scores[pairs], rows))
        rows, pairs = rows[order], pairs[order]
        place = np.arange(len(rows)) - np.searchsorted(rows, rows)
        np.subtract.at(directions, pairs[place >= self._top_k], 1)
        return directions

    def _is_before_cut(
        self, scores: NDArray[np.floating], codes: NDArray[np.int64], directions: NDArray[np.int8]
    ) -> NDArray[np.bool_]:
        """Which pairs hold the 2 * max_pairs best directed neighbours; sets the threshold to the last of them."""
        order = np.argsort(-scores)
        total = np.cumsum(directions[order], dtype=np.int64)
        self._threshold = float(scores[order[np.searchsorted(total, 2 * self._max_pairs)]])
        before = scores > self._threshold
        missing = 2 * self._max_pairs - int(directions[before].sum())
        tied = np.flatnonzero(scores == self._threshold)
        tied = tied[codes[tied].argsort()]
        tied = tied[: 1 + np.searchsorted(np.cumsum(directions[tied], dtype=np.int64), missing)]
        before[tied] = True
        self._threshold_code = int(codes[tied[-1]])
        return before
