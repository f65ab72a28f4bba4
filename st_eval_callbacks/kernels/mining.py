"""Mining of one list of embeddings for its most similar pairs, and the metrics of what was found."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .hits import best_of
from .matching import Match, match_accuracy
from .product import full_precision
from .selection import Selection
from .shares import ALONE, Shares
from .similarity import QueryScorer, widen
from .sorting import IntArray, RealArray, float_codes, host_values, sort_codes

__all__ = ["Match", "MinedPairs", "match_accuracy", "mine_pairs", "mining_metrics"]

_BLOCK = 1024


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


def mine_pairs(embeddings: Tensor, max_pairs: int = 500_000, top_k: int = 100, shares: Shares = ALONE) -> MinedPairs:
    """Find the pairs of rows with the highest cosine similarity.

    A pair is eligible if one of its rows is among the ``top_k`` most similar other rows of the other. Of the eligible
    pairs the ``max_pairs`` best are returned, each once. Without ties these are exactly the pairs of
    ``sentence_transformers.util.paraphrase_mining``, which leaves ties to chance: here equal scores are ordered by
    ascending left, then right row, in both limits. Pairs with a NaN score are never returned.

    Only half of the symmetric matrix is computed, in blocks, and a bound on all pairs rises on the way; memory grows
    with N * top_k.

    Args:
        embeddings: (N, d) embeddings; half precision is widened to float32.
        max_pairs: how many pairs to return at most.
        top_k: how many neighbours of each row count.
        shares: who else computes blocks of the matrix; all have the same embeddings and get the same pairs.

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
    num_rows = len(embeddings)
    with full_precision(embeddings.device):
        table = widen(embeddings)
        num_neighbours = min(top_k, num_rows - 1)
        if num_neighbours < 1 or not max_pairs:
            empty = torch.empty(0, dtype=torch.int64, device=table.device)
            return MinedPairs(table.new_empty(0), empty, empty)
        parts = [selection.finish() for selection in _neighbours(table, num_neighbours, max_pairs, shares)]
        scores, others = (torch.cat(values) for values in zip(*parts, strict=True))
        if shares.num > 1:
            scores, others = _merged(scores, others, max_pairs, shares)
    found = _best_pairs(host_values(scores), others.cpu().numpy(), max_pairs)
    return MinedPairs(*(torch.from_numpy(values).to(table.device) for values in found))


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
    score, next_score = values[at[best]], values[min(at[best] + 1, len(values) - 1)]
    halfway = (score + next_score) / 2
    # Between neighbouring floats the mean rounds to one of them, and the lower one would take more pairs.
    threshold = halfway if halfway > next_score else score
    average_precision = float((precision * gained).sum() / num_duplicates)
    found = (average_precision, *(float(value) for value in (f1[best], precision[best], recall[best], threshold)))
    return dict(zip(names, found, strict=True))


def _neighbours(table: Tensor, num_neighbours: int, max_pairs: int, shares: Shares) -> list[Selection]:
    """Select the nearest other rows of every row, each product serving both of its sides.

    Neighbours too far to be in one of the best pairs may be missing.
    """
    num_rows = len(table)
    scorer = QueryScorer("cosine", table)
    strips = [slice(start, min(start + _BLOCK, num_rows)) for start in range(0, num_rows, _BLOCK)]
    selections = [Selection(rows.stop - rows.start, num_neighbours, table.dtype, table.device) for rows in strips]
    block = table.new_zeros(_BLOCK, table.shape[1])
    buffer = table.new_empty(_BLOCK * _BLOCK)
    turn = 0
    for index, rows in enumerate(strips):
        shares.pause()
        out = buffer[: (rows.stop - rows.start) * _BLOCK].view(-1, _BLOCK)
        for other_index, columns in enumerate(strips[index:], start=index):
            turn += 1
            if turn % shares.num != shares.index:
                continue
            width = columns.stop - columns.start
            # Every block has the full shape: odd tails round differently on some kernels.
            block[:width] = scorer.queries[columns]
            scores = scorer.score(rows, block, out)
            if other_index > index:
                # Earlier strips of rows come first, so every row meets the others in ascending order.
                selections[other_index].add(scores[:, :width].T.contiguous(), rows.start)
            else:
                # One score for both directions of a pair, and NaN, which is never selected, for a row with itself.
                upper = scores[:, :width].triu(1)
                scores[:, :width] = (upper + upper.T).fill_diagonal_(float("nan"))
            selections[index].add(scores, columns.start, width)
        if num_rows * num_neighbours > 2 * max_pairs and (index & (index + 1)) == 0:
            _raise_floors(selections, max_pairs)
    return selections


def _merged(scores: Tensor, others: Tensor, max_pairs: int, shares: Shares) -> tuple[Tensor, Tensor]:
    """The nearest of the neighbours that all have found, (N, k) again.

    What is below the 2 * max_pairs-th best of one is not sent: as many neighbours of the whole are at least as near.
    """
    num_rows, num_neighbours = scores.shape
    is_near = others >= 0
    if scores.numel() > 2 * max_pairs:
        is_near &= scores >= _lowest_of_best(host_values(scores), max_pairs)
    rows, _ = is_near.nonzero(as_tuple=True)
    sent = (rows, scores[is_near], others[is_near])
    rows, scores, others = (torch.cat(shares.gather(one)) for one in sent)
    order = torch.from_numpy(np.lexsort((others.cpu().numpy(), rows.cpu().numpy()))).to(rows.device)
    rows, scores, others = rows[order], scores[order], others[order]
    counts = torch.bincount(rows, minlength=num_rows)
    places = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
    width = max(int(counts.max()), num_neighbours)
    table = scores.new_full((num_rows, width), float("-inf"))
    positions = others.new_full((num_rows, width), -1)
    table[rows, places], positions[rows, places] = scores, others
    best = best_of(table, positions, num_neighbours)
    return best.scores, best.positions


def _raise_floors(selections: list[Selection], max_pairs: int) -> None:
    """Leave out what is below the best neighbours found so far, whose scores can only rise."""
    scores = np.concatenate([host_values(selection.merged_scores).reshape(-1) for selection in selections])
    lowest = _lowest_of_best(scores, max_pairs)
    if np.isfinite(lowest):
        # Neighbours that are tied with the lowest may still be needed.
        floor = np.nextafter(lowest, -np.inf, dtype=scores.dtype)
        for selection in selections:
            selection.raise_floor(float(floor))


def _lowest_of_best(scores: RealArray, max_pairs: int) -> float:
    """The 2 * max_pairs-th best score: at most two neighbours are one pair, so as many hold max_pairs pairs."""
    return float(np.partition(scores, -2 * max_pairs, axis=None)[-2 * max_pairs])


def _best_pairs(scores: RealArray, others: IntArray, max_pairs: int) -> tuple[RealArray, IntArray, IntArray]:
    """Best distinct pairs of each row (N, k) and its neighbours; a neighbour of -1 is none."""
    num_rows = len(scores)
    is_near = others >= 0
    if scores.size > 2 * max_pairs:
        is_near &= scores >= _lowest_of_best(scores, max_pairs)
    rows, _ = np.nonzero(is_near)
    neighbours, values = others[is_near], scores[is_near]
    # A pair's code orders equal scores: it ascends with left, then right.
    codes = np.minimum(rows, neighbours) * num_rows + np.maximum(rows, neighbours)
    codes, first = np.unique(codes, return_index=True)
    values = values[first]
    is_packed = values.dtype == np.float32
    order = sort_codes(float_codes(-values))[0] if is_packed else np.argsort(-values, kind="stable")
    order = order[:max_pairs]
    left, right = np.divmod(codes[order], num_rows)
    return values[order], left, right
