"""The hits of a search, and their merging under one total order: score descending, then position ascending."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .sorting import code_floats, float_codes

_LOW_HALF = np.int64(0xFFFFFFFF)
_NEGATIVE_INFINITY = float("-inf")


class Hits(NamedTuple):
    """The best documents of each query, by descending score and, among equal scores, ascending position.

    Attributes:
        scores: (Q, k) scores; -inf where there are fewer than k documents.
        positions: (Q, k) int64 positions of the documents in the corpus; -1 where there are fewer than k documents.
    """

    scores: Tensor
    positions: Tensor


def best_of(scores: Tensor, positions: Tensor, k: int) -> Hits:
    """Return the k best entries of each row.

    Args:
        scores: (Q, m) scores without NaN.
        positions: (Q, m) positions, ascending among equal scores of a row; -1 for an empty entry.
        k: how many to keep.

    Returns:
        (Q, k) hits, filled up with empty entries; a document with score -inf comes before them.
    """
    if scores.shape[1] < k:
        missing = (0, k - scores.shape[1])
        scores = torch.nn.functional.pad(scores, missing, value=_NEGATIVE_INFINITY)
        positions = torch.nn.functional.pad(positions, missing, value=-1)
    if scores.device.type == "cpu" and scores.dtype == torch.float32 and _fit(positions):
        return _best_packed(scores, positions, k)
    # A stable sort keeps the ascending positions of equal scores.
    best, order = scores.sort(dim=1, descending=True, stable=True)
    if best[:, k - 1].isneginf().any():
        is_empty, empty_last = (positions < 0).to(torch.uint8).sort(dim=1, stable=True)
        best, order = (
            scores.gather(1, empty_last)
            .masked_fill_(is_empty.bool(), _NEGATIVE_INFINITY)
            .sort(dim=1, descending=True, stable=True)
        )
        order = empty_last.gather(1, order)
    return Hits(best[:, :k], positions.gather(1, order[:, :k]))


def _fit(positions: Tensor) -> bool:
    return not positions.numel() or int(positions.max()) < 2**31


def _best_packed(scores: Tensor, positions: Tensor, k: int) -> Hits:
    """The k best by one sort of integers, a fraction of the time that scores with their places take on a CPU.

    Score and position make one int64 that ascends as the order of hits does; an empty entry comes last.
    """
    keys = ~float_codes(scores.detach().numpy()).astype(np.int64)
    keys <<= 32
    keys |= positions.numpy() & _LOW_HALF
    keys.sort(axis=1)
    keys = keys[:, :k]
    best = code_floats(~(keys >> 32).astype(np.int32))
    return Hits(torch.from_numpy(best), torch.from_numpy((keys & _LOW_HALF).astype(np.int32).astype(np.int64)))


def merge_hits(hits: Sequence[Hits], k: int) -> Hits:
    """Merge the hits of several parts of a corpus.

    Args:
        hits: one ``Hits`` for each part, with the positions of the whole corpus; the widths may differ.
        k: how many documents to keep for each query.

    Returns:
        (Q, k) hits, as one search over the whole corpus gives them if every part kept at least k.

    Raises:
        ValueError: for no parts.

    Example:
        >>> import torch
        >>> first = Hits(torch.tensor([[3.0, 1.0]]), torch.tensor([[4, 0]]))
        >>> second = Hits(torch.tensor([[3.0, 2.0]]), torch.tensor([[1, 3]]))
        >>> merge_hits([first, second], 3)
        Hits(scores=tensor([[3., 3., 2.]]), positions=tensor([[1, 4, 3]]))
    """
    if not hits:
        raise ValueError("no hits to merge")
    scores = torch.cat([part.scores for part in hits], dim=1)
    positions = torch.cat([part.positions for part in hits], dim=1)
    positions, order = positions.sort(dim=1)
    return best_of(scores.gather(1, order), positions, k)


def merge_num_tied(hits: Sequence[Hits], num_tied: Sequence[Tensor], merged: Hits) -> Tensor:
    """Merge ``StreamingSearch.num_tied`` of several parts of a corpus.

    Args:
        hits: the hits of each part, all with as many columns as ``merged``.
        num_tied: the (Q,) counts of each part.
        merged: what ``merge_hits`` made of the hits.

    Returns:
        (Q,) int64: how many of all documents have the k-th merged hit's score; 0 with fewer than k documents.
    """
    last = merged.scores[:, -1]
    total = torch.zeros(len(last), dtype=torch.int64, device=last.device)
    for part, count in zip(hits, num_tied, strict=True):
        among_hits = ((part.scores == last[:, None]) & (part.positions >= 0)).sum(dim=1)
        has_boundary = (part.positions[:, -1] >= 0) & (part.scores[:, -1] == last)
        total += torch.where(has_boundary, count, among_hits)
    return total * (merged.positions[:, -1] >= 0)
