"""What a retrieval evaluator does with hits: measure, filter and watch them."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..kernels.expected import expected_ranking_metrics
from ..kernels.ranking import ranking_metrics, relevance_of
from ..kernels.topk import Hits
from ..scorers import SearchResult
from .conventions import Conventions, Wanted
from .judgements import JudgedPairs, Judgements

logger = logging.getLogger(__name__)


def measure(
    hits: Hits,
    result: SearchResult,
    judged: Judgements,
    wanted: Sequence[Wanted],
    conventions: Conventions,
    pairs: JudgedPairs | None = None,
) -> dict[Wanted, Tensor]:
    """Measure the hits of each query.

    Args:
        hits: (Q, k) hits.
        result: The search they are of; with ties="expected" it counted ties and watched all pairs of `judged`.
        judged: The relevance judgements.
        wanted: Measures and cutoffs.
        conventions: How hits are judged.
        pairs: All judgements; needed for measures that tell judged from unjudged.

    Returns:
        (Q,) float64 values by measure.
    """
    asked = {one: conventions.computed(one) for one in wanted}
    relevance = relevance_of(hits.positions.cpu(), judged.query, judged.position, judged.gains)
    settings: dict[str, Any] = {
        "ideal_gains": judged.ideal_gains,
        "relevance_threshold": judged.relevance_threshold,
    }
    measures = list(dict.fromkeys(asked.values()))
    if conventions.ties == "id":
        among = None if pairs is None else pairs.among(hits.positions)
        found = ranking_metrics(relevance, judged.num_relevant, measures, judged=among, **settings)
    else:
        settings.update(_boundary(hits, result, judged))
        found = expected_ranking_metrics(hits.scores.cpu(), relevance, judged.num_relevant, measures, **settings)
    return {one: found[computed] for one, computed in asked.items()}


def _boundary(hits: Hits, result: SearchResult, judged: Judgements) -> dict[str, Tensor]:
    """What is known of all documents tied with the last hit of each query."""
    assert result.num_tied is not None
    assert result.watched_scores is not None
    present = judged.position >= 0
    last = hits.scores[:, -1].cpu()
    tied = torch.zeros(len(present), dtype=torch.bool)
    tied[present] = result.watched_scores.cpu() == last[judged.query[present]]
    return {
        "boundary_size": result.num_tied.cpu(),
        "boundary_relevant": judged.per_query(tied & judged.is_relevant).long(),
        "boundary_gain": judged.per_query(tied * judged.gains),
        "boundary_exponential_gain": judged.per_query(tied * (2.0**judged.gains - 1)),
    }


def condensed(scores: Tensor, pairs: JudgedPairs, num_queries: int) -> Hits:
    """The ranking of a corpus without the documents that nobody judged for the query (Sakai, SIGIR 2007).

    Args:
        scores: (W,) scores of the pairs whose document is in the corpus, in their order.
        pairs: All judgements.
        num_queries: Q.

    Returns:
        (Q, m) hits, m the largest number of judged documents; ties stand in ascending position.
    """
    present = pairs.position >= 0
    query, position, score = pairs.query[present].numpy(), pairs.position[present].numpy(), scores.cpu().numpy()
    order = np.lexsort((position, -score, query))
    query = query[order]
    counts = np.bincount(query, minlength=num_queries)
    place = np.arange(len(query)) - np.repeat(np.cumsum(counts) - counts, counts)
    shape = (num_queries, max(int(counts.max(initial=0)), 1))
    positions, ranked = np.full(shape, -1, dtype=np.int64), np.full(shape, -np.inf, dtype=score.dtype)
    positions[query, place], ranked[query, place] = position[order], score[order]
    return Hits(torch.from_numpy(ranked), torch.from_numpy(positions))


def without_own(hits: Hits, own_positions: Tensor, depth: int) -> Hits:
    """Take one document out of each query's hits.

    Args:
        hits: (Q, depth + 1) hits.
        own_positions: (Q,) position of the document to take out; -2 for none.
        depth: How many hits to keep.

    Returns:
        (Q, depth) hits in the same order.
    """
    own = own_positions.to(hits.positions.device)[:, None]
    # A stable sort moves the document behind the others, which keep their order.
    order = (hits.positions == own).int().sort(dim=1, stable=True).indices
    positions, scores = hits.positions.gather(1, order), hits.scores.gather(1, order)
    is_own = positions == own
    positions = positions.masked_fill(is_own, -1)
    scores = scores.masked_fill(is_own, -math.inf)
    return Hits(scores[:, :depth], positions[:, :depth])


def warn_if_collapsed(label: str, hits: Hits, num_documents: int) -> None:
    """Say so when most queries find several documents with the same best score."""
    if hits.scores.shape[1] < 2 or num_documents < 2:
        return
    tied, num_queries = int((hits.scores[:, 0] == hits.scores[:, 1]).sum()), len(hits.scores)
    if tied * 2 > num_queries:
        logger.warning(
            "%s: the best score is shared by several documents for %d of %d queries: the model has collapsed, or "
            "the corpus repeats itself. Metrics then depend on the order of ids (ties='expected' does not).",
            label,
            tied,
            num_queries,
        )
