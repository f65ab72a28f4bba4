"""Ranking measures as their mean over all orders of tied documents, in closed form.

The formulas follow from drawing an order of each group of tied documents at random (McSherry and Najork, "Computing
Information Retrieval Performance Measures Efficiently in the Presence of Tied Scores", ECIR 2008).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .formulas import (
    GAIN_FNS,
    Totals,
    checked_cutoffs,
    checked_num_relevant,
    discount_sums,
    evaluate,
    ideal_gain_tables,
)
from .ranking import relevant_hits
from .sorting import FloatArray, IntArray, RealArray, host_values, sums_by_group


@dataclass(frozen=True)
class TiedGroups:
    """Groups of tied documents that matter, ordered by query, then place; all arrays have shape ``(G,)``.

    Attributes:
        query: Row of the group.
        start: Number of hits above the group.
        size: Number of its documents.
        num_relevant: Number of its relevant documents.
        num_above: Number of relevant documents above the group.
        gain: Sum of its documents' gains, by measure name.
    """

    query: IntArray
    start: IntArray
    size: IntArray
    num_relevant: IntArray
    num_above: IntArray
    gain: dict[str, FloatArray]


def expected_ranking_metrics(
    scores: Tensor,
    relevance: Tensor,
    num_relevant: Tensor,
    measures: Sequence[tuple[str, int | None]],
    *,
    boundary_size: Tensor | None = None,
    boundary_relevant: Tensor | None = None,
    boundary_gain: Tensor | None = None,
    boundary_exponential_gain: Tensor | None = None,
    ideal_gains: Tensor | None = None,
    relevance_threshold: float | None = None,
) -> dict[tuple[str, int | None], Tensor]:
    """Compute the mean of ranking measures over all orders of tied documents, for every query.

    Documents tie when their scores are equal. The last group may go on below the depth: the boundary arguments
    describe all documents tied with the last hit, those in the list included, and the hits inside the list are one
    random part of them. Without them the last group is taken to end with the list. Where nothing ties, the values
    are those of ``ranking_metrics``.

    Args:
        scores: Shape ``(Q, depth)``, descending along each row; -inf marks places without a document.
        relevance: Shape ``(Q, depth)``: gains of the hits, as in ``ranking_metrics``.
        num_relevant: Shape ``(Q,)``, as in ``ranking_metrics``.
        measures: Pairs of name and cutoff. Places below the depth count as empty.
        boundary_size: Shape ``(Q,)``: number of all documents tied with the last hit.
        boundary_relevant: Shape ``(Q,)``: how many of them are relevant.
        boundary_gain: Shape ``(Q,)``: sum of their gains; needed with ``ideal_gains``.
        boundary_exponential_gain: Shape ``(Q,)``: sum of their 2**gain - 1; needed with ``ideal_gains`` for ndcg_exp.
        ideal_gains: Shape ``(Q, m)``, as in ``ranking_metrics``.
        relevance_threshold: As in ``ranking_metrics``; ``boundary_relevant`` must have been counted with it.

    Returns:
        One float64 tensor of shape ``(Q,)`` for each pair in ``measures``, as from ``ranking_metrics``. All values of
        a query with NaN or +inf among its scores are NaN.

    Raises:
        ValueError: If shapes don't fit, a measure is unknown, only one of ``boundary_size`` and
            ``boundary_relevant`` is given, or a graded nDCG lacks its boundary gain.

    >>> scores, relevance = torch.tensor([[0.5, 0.5, 0.5]]), torch.tensor([[0.0, 0.0, 1.0]])
    >>> values = expected_ranking_metrics(scores, relevance, torch.tensor([1]), [("mrr", 10), ("ndcg", 10)])
    >>> [round(value.item(), 4) for value in values.values()]
    [0.6111, 0.7103]
    """
    if scores.ndim != 2 or scores.shape != relevance.shape:
        raise ValueError(f"scores and relevance must both be (Q, depth): {scores.shape}, {relevance.shape}.")
    if (boundary_size is None) != (boundary_relevant is None):
        raise ValueError("boundary_size and boundary_relevant must be given together.")
    num_queries, depth = scores.shape
    cutoffs = checked_cutoffs(measures)
    counts = checked_num_relevant(num_relevant, num_queries)
    gain_names = [name for name in GAIN_FNS if any(name == wanted for wanted, _ in measures)]
    boundary_gains = {"ndcg": boundary_gain, "ndcg_exp": boundary_exponential_gain}
    if ideal_gains is not None and boundary_size is not None:
        missing = [name for name in gain_names if boundary_gains[name] is None]
        if missing:
            raise ValueError(f"Graded {' and '.join(missing)} of a list cut inside ties needs its boundary gain.")

    values = host_values(scores)
    groups = _groups(values, relevance, gain_names, ideal_gains is not None, relevance_threshold)
    if boundary_size is not None and boundary_relevant is not None and depth > 0:
        boundary = {name: gain for name, gain in boundary_gains.items() if gain is not None}
        groups = _with_boundary(groups, values, boundary_size, boundary_relevant, boundary)
    if ideal_gains is None:
        groups.gain.update(dict.fromkeys(gain_names, groups.num_relevant.astype(np.float64)))
    ideal_gain = ideal_gain_tables(gain_names, cutoffs, counts, ideal_gains)
    totals = _expected_totals(groups, cutoffs, depth, counts, ideal_gain)
    results = evaluate(totals, measures, relevance.device)
    nonfinite = torch.from_numpy(np.isnan(values).any(axis=1) | np.isposinf(values).any(axis=1)).to(relevance.device)
    return {key: value.masked_fill(nonfinite, float("nan")) for key, value in results.items()}


def first_relevant(
    start: IntArray, size: IntArray, num_relevant: IntArray, cutoffs: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Where the first relevant document is to be expected, for groups with none above them.

    Args:
        start: Shape ``(N,)``: number of documents above the group.
        size: Shape ``(N,)``: number of documents in the group.
        num_relevant: Shape ``(N,)``: number of relevant ones among them, at least 1.
        cutoffs: Shape ``(m,)``, ascending; places below a cutoff don't count.

    Returns:
        Two tables of shape ``(N, m)``: the probability that a relevant document is above the cutoff, and the expected
        1 / place of the first one, 0 when it is below.

    >>> first_relevant(np.array([0]), np.array([3]), np.array([1]), np.array([3]))[1].round(4).tolist()
    [[0.6111]]
    """
    found = np.zeros((len(start), len(cutoffs) + 1))
    reciprocal = np.zeros_like(found)
    none_yet = np.ones(len(start))
    # One turn per place inside a group, not per query: untied lists need a single one.
    num_turns = np.minimum(size - num_relevant + 1, cutoffs[-1] - start)
    active = np.flatnonzero(num_turns > 0)
    for turn in range(int(num_turns.max(initial=0))):
        active = active[num_turns[active] > turn]
        place = start[active] + turn
        hit = none_yet[active] * num_relevant[active] / (size[active] - turn)
        column = np.searchsorted(cutoffs, place, side="right")
        found[active, column] += hit
        reciprocal[active, column] += hit / (place + 1)
        none_yet[active] *= (size[active] - num_relevant[active] - turn) / (size[active] - turn)
    return np.cumsum(found[:, :-1], axis=1), np.cumsum(reciprocal[:, :-1], axis=1)


def _groups(
    scores: RealArray, relevance: Tensor, gain_names: list[str], graded: bool, threshold: float | None
) -> TiedGroups:
    """Groups that hold a relevant document or are the last of their row, as if they ended with the list."""
    num_queries, depth = scores.shape
    query, place, gain = relevant_hits(relevance)
    begins = np.ones(scores.shape, dtype=bool)
    np.not_equal(scores[:, 1:], scores[:, :-1], out=begins[:, 1:])
    bounds = np.append(np.flatnonzero(begins), scores.size)
    group_of_hit = np.searchsorted(bounds, query * depth + place, side="right") - 1
    last = np.searchsorted(bounds, np.arange(1, num_queries + 1) * depth) - 1 if depth else group_of_hit
    kept = np.union1d(group_of_hit, last)
    slot = np.searchsorted(kept, group_of_hit)

    relevant = np.ones(len(gain), dtype=bool) if threshold is None else gain >= threshold
    num_relevant = np.bincount(slot[relevant], minlength=len(kept))
    group_query, start = np.divmod(bounds[kept], max(depth, 1))
    hits_before = np.cumsum(num_relevant) - num_relevant
    first_of_query = np.searchsorted(group_query, group_query)
    gains = {name: sums_by_group(slot, GAIN_FNS[name](gain), len(kept)) for name in gain_names if graded}
    return TiedGroups(
        query=group_query,
        start=start,
        size=bounds[kept + 1] - bounds[kept],
        num_relevant=num_relevant,
        num_above=hits_before - hits_before[first_of_query],
        gain=gains,
    )


def _with_boundary(
    groups: TiedGroups,
    scores: RealArray,
    boundary_size: Tensor,
    boundary_relevant: Tensor,
    boundary_gain: dict[str, Tensor],
) -> TiedGroups:
    """Replace what the list shows of each row's last group by all of the group, unless the list is not full."""
    last = np.flatnonzero(np.diff(groups.query, append=-1))
    last = last[~np.isneginf(scores[groups.query[last], -1])]
    rows = groups.query[last]

    size, num_relevant = groups.size.copy(), groups.num_relevant.copy()
    size[last] = host_values(boundary_size)[rows]
    num_relevant[last] = host_values(boundary_relevant)[rows]
    if (size < groups.size).any() or (num_relevant < groups.num_relevant).any() or (num_relevant > size).any():
        raise ValueError("The boundary arguments must count all documents tied with the last hit, the hits included.")
    gain = {name: values.copy() for name, values in groups.gain.items()}
    for name, values in gain.items():
        values[last] = host_values(boundary_gain[name])[rows]
    return replace(groups, size=size, num_relevant=num_relevant, gain=gain)


def _expected_totals(
    groups: TiedGroups,
    cutoffs: tuple[int, ...],
    depth: int,
    counts: IntArray,
    ideal_gain: dict[str, FloatArray],
) -> Totals:
    num_queries = len(counts)
    limits = np.minimum(np.array(cutoffs, dtype=np.int64), depth)
    discounts = discount_sums(depth)
    harmonic = np.concatenate(([0.0], np.cumsum(1.0 / np.arange(1, depth + 1))))
    share = groups.num_relevant / groups.size
    # Given one relevant document, the chance that another document of its group is relevant too.
    others = (groups.num_relevant - 1) / np.maximum(groups.size - 1, 1)

    def per_query(weights: FloatArray) -> FloatArray:
        return sums_by_group(groups.query, weights, num_queries)

    def end_at(limit: int | IntArray) -> IntArray:
        return np.clip(limit, groups.start, groups.start + groups.size)

    tables: dict[str, list[FloatArray]] = {name: [] for name in ("num_hits", "precision_sum", *groups.gain)}
    for limit in limits:
        end = end_at(limit)
        inside = end - groups.start
        tables["num_hits"].append(per_query(share * inside))
        reciprocals = harmonic[end] - harmonic[groups.start]
        first_precision = groups.num_above + 1 - (groups.start + 1) * others
        tables["precision_sum"].append(per_query(share * (first_precision * reciprocals + others * inside)))
        for name, gain in groups.gain.items():
            discount = discounts[end] - discounts[groups.start]
            tables[name].append(per_query(gain / groups.size * discount))

    with_relevant = np.flatnonzero(groups.num_relevant > 0)
    row, index = np.unique(groups.query[with_relevant], return_index=True)
    first = with_relevant[index]
    found, reciprocal = np.zeros((2, num_queries, len(cutoffs)))
    if len(cutoffs) > 0:
        found[row], reciprocal[row] = first_relevant(
            groups.start[first], groups.size[first], groups.num_relevant[first], limits
        )
    inside = end_at(np.minimum(counts, depth)[groups.query]) - groups.start

    def table(name: str) -> FloatArray:
        return np.stack(tables[name], axis=1) if tables[name] else np.zeros((num_queries, 0))

    return Totals(
        cutoffs=cutoffs,
        num_relevant=counts,
        found=found,
        num_hits=table("num_hits"),
        reciprocal=reciprocal,
        precision_sum=table("precision_sum"),
        gain={name: table(name) for name in groups.gain},
        ideal_gain=ideal_gain,
        num_hits_at_r=per_query(share * inside),
    )
