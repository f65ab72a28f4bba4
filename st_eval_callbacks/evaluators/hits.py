"""What a retrieval evaluator does with hits: measure, filter, watch and write them."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..kernels.expected import expected_ranking_metrics
from ..kernels.ranking import ranking_metrics, relevance_of
from ..kernels.topk import Hits
from ..scorers import SearchResult
from ..writers.files import replace_file
from .judgements import Judgements

logger = logging.getLogger(__name__)


def measure(
    hits: Hits, result: SearchResult, judged: Judgements, wanted: Sequence[tuple[str, int | None]], *, ties: str
) -> dict[tuple[str, int | None], Tensor]:
    """Measure the hits of each query.

    Args:
        hits: (Q, k) hits.
        result: The search they are of; with ties="expected" it counted ties and watched all judged documents.
        judged: The relevance judgements.
        wanted: Measures and cutoffs.
        ties: "id" for the order of the hits, "expected" for the mean over all orders of tied documents.

    Returns:
        (Q,) float64 values by measure.
    """
    relevance = relevance_of(hits.positions.cpu(), judged.query, judged.position, judged.gains)
    if ties == "id":
        return ranking_metrics(relevance, judged.num_relevant, wanted, ideal_gains=judged.ideal_gains)
    assert result.num_tied is not None
    assert result.watched_scores is not None
    present = judged.position >= 0
    last = hits.scores[:, -1].cpu()
    tied = torch.zeros(len(present), dtype=torch.bool)
    tied[present] = result.watched_scores.cpu() == last[judged.query[present]]
    return expected_ranking_metrics(
        hits.scores.cpu(),
        relevance,
        judged.num_relevant,
        wanted,
        boundary_size=result.num_tied.cpu(),
        boundary_relevant=judged.per_query(tied).long(),
        boundary_gain=judged.per_query(tied * judged.gains),
        boundary_exponential_gain=judged.per_query(tied * (2.0**judged.gains - 1)),
        ideal_gains=judged.ideal_gains,
    )


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


def write_predictions(
    path: Path, query_ids: Sequence[Any], queries: Sequence[Any], document_ids: Sequence[Any], hits: Hits
) -> None:
    """Write hits as JSON lines: `query_id`, `query`, and `results` of `corpus_id` and `score`, best first.

    A query that JSON cannot hold, such as an image, is named by its class.
    """
    lines = []
    rows = zip(query_ids, queries, hits.positions.tolist(), hits.scores.tolist(), strict=True)
    for query_id, query, positions, scores in rows:
        found = [
            {"corpus_id": document_ids[position], "score": score}
            for position, score in zip(positions, scores, strict=True)
            if position >= 0
        ]
        lines.append(json.dumps({"query_id": query_id, "query": query, "results": found}, default=_named))
    replace_file(path, "\n".join(lines) + "\n")


def _named(one: Any) -> str:
    return f"<{type(one).__name__}>"
