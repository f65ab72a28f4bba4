"""What a search found, alone or in the parts of a corpus that several processes searched."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..distributed import exchange, shares
from ..kernels.hits import Hits, merge_hits, merge_num_tied
from ..kernels.search import Search
from .scorer import SearchResult

Places = NDArray[np.int64]
Pairs = tuple[Tensor, Tensor]


def own_pairs(watch: Pairs | None, places: Places | None) -> Pairs | None:
    """Watched pairs whose document is in this process's part of the corpus, at its position there.

    Args:
        watch: (W,) query and (W,) position in the corpus of each pair.
        places: (N,) ascending positions of the part in the corpus; None for all of it.

    Returns:
        As many pairs as are in the part.
    """
    if watch is None or places is None:
        return watch
    query, position = watch[0], watch[1].cpu().numpy()
    is_own, own_position = _within(position, places)
    return query[torch.from_numpy(is_own)], torch.from_numpy(own_position[is_own])


def found_by_all(
    search: Search, k: int, places: Places | None, *, track_ties: bool, watch: Pairs | None
) -> SearchResult:
    """The result of a search, merged with those of other processes where each searched a part.

    Args:
        search: The search over this process's part.
        k: Hits to keep for each query.
        places: (N,) ascending positions of the part in the corpus; None for all of it.
        track_ties: Whether tied documents were counted.
        watch: The pairs whose scores are wanted, all of them.

    Returns:
        What was found in the whole corpus, the same on all processes.
    """
    hits, num_tied = search.result(), search.num_tied if track_ties else None
    watched = search.watched_scores if watch is not None else None
    if places is None:
        return SearchResult(hits, search.num_nonfinite, num_tied, watched)
    gather = shares().gather
    # The last entry stands for "no document", which has the position -1.
    positions = torch.from_numpy(np.append(places, -1)).to(hits.positions.device)[hits.positions]
    # Each process merges the hits of a range of the queries: what it receives does not grow with their number.
    each = [Hits(*pair) for pair in zip(exchange(hits.scores), exchange(positions), strict=True)]
    part = merge_hits(each, k)
    merged = Hits(torch.cat(gather(part.scores)), torch.cat(gather(part.positions)))
    nonfinite = torch.stack(gather(search.nonfinite)).any(dim=0)
    if num_tied is not None:
        num_tied = torch.cat(gather(merge_num_tied(each, exchange(num_tied), part)))
    if watch is not None and watched is not None:
        is_own, _ = _within(watch[1].cpu().numpy(), places)
        scores = watched.new_full((len(is_own),), float("nan"))
        scores[torch.from_numpy(is_own).to(scores.device)] = watched
        owns = torch.stack(gather(torch.from_numpy(is_own))).int().argmax(dim=0)
        watched = torch.stack(gather(scores)).gather(0, owns.to(scores.device)[None])[0]
    return SearchResult(merged, int(nonfinite.sum()), num_tied, watched)


def _within(position: Places, places: Places) -> tuple[NDArray[np.bool_], Places]:
    """Whether each position is among the places, and where."""
    where = np.searchsorted(places, position)
    inside = where < len(places)
    is_own = np.zeros(len(position), dtype=bool)
    is_own[inside] = places[where[inside]] == position[inside]
    return is_own, where
