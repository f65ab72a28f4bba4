"""Ranking measures of queries at every cutoff at once, from the few hits that are relevant."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .formulas import (
    GAIN_FNS,
    Totals,
    checked_cutoffs,
    checked_num_relevant,
    evaluate,
    ideal_gain_tables,
)
from .judged import JudgedHits, counts_at, preference_sums
from .sorting import FloatArray, IntArray


def relevance_of(
    positions: Tensor, relevant_query: Tensor, relevant_position: Tensor, gains: Tensor | None = None
) -> Tensor:
    """Look up the gain of every hit among the relevance judgements.

    Args:
        positions: Shape ``(Q, k)``, int64: positions of the hits in the corpus, -1 where there is none.
        relevant_query: Shape ``(R,)``, int64: row in ``positions`` of each judged pair.
        relevant_position: Shape ``(R,)``, int64: corpus position of each judged pair, in any order; pairs are
            distinct. -1 stands for a document that is not in the corpus and matches no hit.
        gains: Shape ``(R,)``; None gives every pair the gain 1.

    Returns:
        Shape ``(Q, k)``, float64, on the device of ``positions``: the gain of each hit, 0 where it is not judged.

    Raises:
        ValueError: If shapes don't fit.

    >>> hits = torch.tensor([[4, 0, 2], [1, 3, -1]])
    >>> relevance_of(hits, torch.tensor([0, 0, 1]), torch.tensor([2, 9, 1]), torch.tensor([3.0, 1.0, 2.0])).tolist()
    [[0.0, 0.0, 3.0], [2.0, 0.0, 0.0]]
    """
    if positions.ndim != 2 or relevant_query.ndim != 1 or relevant_query.shape != relevant_position.shape:
        raise ValueError("positions must be (Q, k); relevant_query and relevant_position must both be (R,).")
    if gains is not None and gains.shape != relevant_query.shape:
        raise ValueError(f"gains must have shape {tuple(relevant_query.shape)}, but has {tuple(gains.shape)}.")
    device = positions.device
    relevance = torch.zeros(positions.shape, dtype=torch.float64, device=device)
    present = (relevant_position >= 0).nonzero().flatten()
    if positions.numel() == 0 or present.numel() == 0:
        return relevance
    queries, documents = relevant_query[present].to(device), relevant_position[present].to(device)
    pair_gains = torch.ones(len(present), device=device) if gains is None else gains[present].to(device)

    # Most documents are relevant to no query at all: one look into a table leaves few hits to search for.
    # The table's last entry is False, and -1 reads it.
    stride = int(torch.maximum(documents.max(), positions.max())) + 2
    judged = torch.zeros(stride, dtype=torch.bool, device=device)
    judged[documents] = True
    hits = _nonzero(_take(judged, positions))
    keys, order = torch.sort(queries * stride + documents)
    wanted = torch.div(hits, positions.shape[1], rounding_mode="floor") * stride + positions.flatten()[hits]
    slots = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
    matches = keys[slots] == wanted
    relevance.view(-1)[hits[matches]] = pair_gains[order[slots[matches]]].double()
    return relevance


def ranking_metrics(
    relevance: Tensor,
    num_relevant: Tensor,
    measures: Sequence[tuple[str, int | None]],
    *,
    ideal_gains: Tensor | None = None,
    relevance_threshold: float | None = None,
    judged: JudgedHits | None = None,
) -> dict[tuple[str, int | None], Tensor]:
    """Compute ranking measures for every query.

    Definitions are those of sentence-transformers' InformationRetrievalEvaluator: precision@k divides by k also
    where fewer than k documents exist, MAP@k divides by min(k, num_relevant), nDCG discounts by log2(place + 1).
    ``formulas.MEASURES`` lists all measures with their definitions. Without a cutoff a measure reads the whole list,
    and MAP divides by num_relevant as trec_eval's does. The sums run on the host in a fixed order: the relevant hits
    are few, and sums by atomic additions on an accelerator would differ from call to call.

    Args:
        relevance: Shape ``(Q, depth)``: gain of the hits of each query, best hit first. A document is relevant if its
            gain is above 0.
        num_relevant: Shape ``(Q,)``: number of relevant documents of each query, retrieved or not, in the corpus or
            not.
        measures: Pairs of name and cutoff; cutoffs may exceed the depth.
        ideal_gains: Shape ``(Q, m)``: gains of all documents judged for the query, in descending order, padded with
            0. At least min(largest cutoff, number of gains above 0) columns. Without it nDCG is binary: every relevant
            document has the gain 1.
        relevance_threshold: For all measures but graded nDCG, a document is relevant if its gain is at least this.
            ``num_relevant`` must have been counted with the same threshold.
        judged: Which hits are judged; needed for bpref, judged and hole. Its documents judged not relevant must have
            been counted with the same threshold.

    Returns:
        One float64 tensor of shape ``(Q,)``, 0 to 1, on the device of ``relevance``, for each pair in ``measures``.
        Queries with ``num_relevant`` 0 have NaN for the measures that divide by it (recall, r_cap, map, ndcg, rprec,
        bpref).

    Raises:
        ValueError: If shapes don't fit, a measure is unknown, a query has more relevant hits than ``num_relevant``, or
            a measure needs ``judged`` and it is missing.

    >>> relevance = torch.tensor([[0.0, 1.0, 1.0, 0.0]])
    >>> values = ranking_metrics(relevance, torch.tensor([2]), [("precision", 2), ("mrr", 10), ("map", 4)])
    >>> [round(value.item(), 4) for value in values.values()]
    [0.5, 0.5, 0.5833]
    """
    if relevance.ndim != 2:
        raise ValueError(f"relevance must have shape (Q, depth), but has {tuple(relevance.shape)}.")
    cutoffs = checked_cutoffs(measures)
    counts = checked_num_relevant(num_relevant, len(relevance))
    query, place, gain = relevant_hits(relevance)
    gain_names = [name for name in GAIN_FNS if any(name == wanted for wanted, _ in measures)]
    gain_tables = _gain_tables(gain_names, query, place, gain, len(counts), cutoffs) if ideal_gains is not None else {}
    if relevance_threshold is not None:
        relevant = gain >= relevance_threshold
        query, place = query[relevant], place[relevant]
    if (np.bincount(query, minlength=len(counts)) > counts).any():
        raise ValueError("A query has more relevant hits than num_relevant says.")
    if ideal_gains is None:
        gain_tables = _gain_tables(gain_names, query, place, np.ones(len(query)), len(counts), cutoffs)

    table = _CutoffTable(query, place, len(counts), cutoffs)
    first = np.flatnonzero(np.diff(query, prepend=-1))
    hits_so_far = np.arange(1, len(query) + 1) - np.repeat(first, np.diff(first, append=len(query)))
    totals = Totals(
        cutoffs=cutoffs,
        num_relevant=counts,
        found=table.sum(np.ones(len(first)), first),
        num_hits=table.sum(np.ones(len(query))),
        reciprocal=table.sum(1.0 / (place[first] + 1), first),
        precision_sum=table.sum(hits_so_far / (place + 1)),
        gain=gain_tables,
        ideal_gain=ideal_gain_tables(gain_names, cutoffs, counts, ideal_gains),
        num_hits_at_r=np.bincount(query[place < counts[query]], minlength=len(counts)).astype(np.float64),
        num_judged=None if judged is None else counts_at(judged.judged, cutoffs),
        num_unknown=None if judged is None else counts_at(judged.unknown, cutoffs),
        num_ranked=None if judged is None else judged.num_hits.cpu().numpy().astype(np.float64),
        preference=None if judged is None else preference_sums(query, place, counts, judged),
    )
    return evaluate(totals, measures, relevance.device)


def relevant_hits(relevance: Tensor) -> tuple[IntArray, IntArray, FloatArray]:
    """Coordinates of the gains above 0, on the host.

    Args:
        relevance: Shape ``(Q, depth)``.

    Returns:
        Query, place (from 0) and gain of each such hit, all of shape ``(H,)``, ordered by query, then place.
    """
    hits = _nonzero(relevance > 0)
    gain = relevance.detach().flatten()[hits].double().cpu().numpy()
    query, place = np.divmod(hits.cpu().numpy(), max(relevance.shape[1], 1))
    return query, place, gain


class _CutoffTable:
    """Sums weights of hits per query at every cutoff: one bincount over (query, first cutoff that holds the hit)."""

    def __init__(self, query: IntArray, place: IntArray, num_queries: int, cutoffs: tuple[int, ...]) -> None:
        self.shape = (num_queries, len(cutoffs) + 1)
        self.cells = query * self.shape[1] + np.searchsorted(np.array(cutoffs, dtype=np.int64), place, side="right")

    def sum(self, weights: FloatArray, hits: NDArray[np.int64] | slice = slice(None)) -> FloatArray:
        """Sums of the weights of the chosen hits, shape ``(num_queries, num_cutoffs)``."""
        counts = np.bincount(self.cells[hits], weights, minlength=self.shape[0] * self.shape[1])
        sums: FloatArray = np.cumsum(counts.reshape(self.shape)[:, :-1], axis=1)
        return sums


def _gain_tables(
    names: Sequence[str],
    query: IntArray,
    place: IntArray,
    gain: FloatArray,
    num_queries: int,
    cutoffs: tuple[int, ...],
) -> dict[str, FloatArray]:
    """Discounted cumulative gain at every cutoff, by measure name."""
    table = _CutoffTable(query, place, num_queries, cutoffs)
    discounts = np.log2(place + 2.0)
    return {name: table.sum(GAIN_FNS[name](gain) / discounts) for name in names}


def _nonzero(mask: Tensor) -> Tensor:
    """Flat indices of the True entries; numpy finds few among many several times faster on a CPU."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.flatten().nonzero().flatten()


def _take(table: Tensor, positions: Tensor) -> Tensor:
    """``table[positions]``; numpy is several times faster on a CPU."""
    if positions.device.type == "cpu":
        return torch.from_numpy(table.numpy()[positions.numpy()])
    return table[positions]
