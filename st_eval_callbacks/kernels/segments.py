"""Reranking measures of many short lists of candidates, laid one after the other in flat vectors."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .expected import first_relevant
from .formulas import checked_num_relevant, discount_sums
from .sorting import (
    FloatArray,
    IntArray,
    RealArray,
    float_codes,
    group_bounds,
    host_values,
    sort_codes,
    sort_groups,
    sums_by_group,
)


def segment_metrics(
    scores: Tensor, relevance: Tensor, offsets: Tensor, at_k: int, *, num_relevant: Tensor | None = None
) -> dict[str, Tensor]:
    """Compute average precision, reciprocal rank and nDCG of every list, without a preference among tied documents.

    Average precision is that of scikit-learn's ``average_precision_score`` (documents tied with a threshold count
    together), nDCG that of its ``ndcg_score`` (the mean over orders of ties), and the reciprocal rank is the mean over
    orders of ties of 1 / place of the first relevant document among the first ``at_k``, else 0.

    Args:
        scores: Shape ``(T,)``: scores of all candidates, higher is better.
        relevance: Shape ``(T,)``: their gains; a document is relevant if its gain is above 0.
        offsets: Shape ``(S + 1,)``, int64, ascending from 0 to T: list s is ``scores[offsets[s]:offsets[s + 1]]``.
        at_k: Cutoff of mrr and ndcg, at least 1.
        num_relevant: Shape ``(S,)``: number of documents relevant to each list's query, at least as many as the list
            holds. Those missing from the list count as never found: in the denominator of average precision and, with
            the gain 1, in the ideal ranking. None counts those in the list.

    Returns:
        ``map``, ``mrr`` and ``ndcg``, each float64 of shape ``(S,)``, 0 to 1, on the device of ``scores``. A list
        with ``num_relevant`` 0 has NaN for ``map`` and ``ndcg``; one with a non-finite score has NaN for all.

    Raises:
        ValueError: If shapes or offsets don't fit, ``at_k`` is below 1, or a list holds more relevant documents than
            ``num_relevant`` says.

    >>> scores = torch.tensor([0.9, 0.2, 0.4, 0.5, 0.5, 0.5, 0.5])
    >>> relevance = torch.tensor([0, 1, 0, 1, 0, 0, 0])
    >>> values = segment_metrics(scores, relevance, torch.tensor([0, 3, 7]), 10)
    >>> [value.double().round(decimals=4).tolist() for value in values.values()]
    [[0.3333, 0.25], [0.3333, 0.5208], [0.5, 0.6404]]
    """
    bounds, gain, counts = _checked(scores, relevance, offsets, at_k, num_relevant)
    values = host_values(scores)
    num_segments, lengths = len(counts), np.diff(bounds)
    segment = np.repeat(np.arange(num_segments), lengths)
    nonfinite = np.bincount(segment[~np.isfinite(values)], minlength=num_segments) > 0
    if nonfinite.any():
        values = np.where(np.isfinite(values), values, values.dtype.type(0))

    order, group_start = _sort_within_segments(bounds, segment, values)
    size = np.diff(group_start)
    group_segment = segment[group_start[:-1]]  # sorting does not move documents out of their segment
    above = group_start[:-1] - bounds[group_segment]
    sorted_gain = gain[order]
    relevant_sum = np.concatenate(([0], np.cumsum(sorted_gain > 0)))
    group_relevant = np.diff(relevant_sum[group_start])
    holding = np.flatnonzero(group_relevant)  # groups without a relevant document add nothing
    size, above, group_relevant = size[holding], above[holding], group_relevant[holding]
    group_start, group_end, group_segment = group_start[holding], group_start[holding + 1], group_segment[holding]

    def per_segment(weights: FloatArray) -> FloatArray:
        return sums_by_group(group_segment, weights, num_segments)

    relevant_so_far = relevant_sum[group_end] - relevant_sum[bounds[group_segment]]
    precision = relevant_so_far / (above + size)
    binary = bool(((gain == 0) | (gain == 1)).all())
    group_gain = group_relevant.astype(np.float64) if binary else _sums(sorted_gain, group_start, group_end)
    discounts = discount_sums(min(at_k, max(int(lengths.max(initial=0)), int(counts.max(initial=0)))))
    limit = len(discounts) - 1
    discount = discounts[np.minimum(above + size, limit)] - discounts[np.minimum(above, limit)]
    ideal = discounts[np.minimum(counts, limit)] if binary else _ideal_gain(segment, gain, counts, discounts)

    row, first = np.unique(group_segment, return_index=True)
    mrr = np.zeros(num_segments)
    mrr[row] = first_relevant(above[first], size[first], group_relevant[first], np.array([at_k]))[1][:, 0]
    metrics = {
        "map": _quotient(per_segment(precision * group_relevant), counts),
        "mrr": mrr,
        "ndcg": _quotient(per_segment(group_gain / size * discount), ideal),
    }
    for value in metrics.values():
        value[nonfinite] = np.nan
    return {name: torch.from_numpy(value).to(scores.device) for name, value in metrics.items()}


def _checked(
    scores: Tensor, relevance: Tensor, offsets: Tensor, at_k: int, num_relevant: Tensor | None
) -> tuple[IntArray, FloatArray, IntArray]:
    """Offsets, gains (negative ones as 0) and numbers of relevant documents, on the host."""
    if scores.ndim != 1 or scores.shape != relevance.shape:
        raise ValueError(f"scores and relevance must both be (T,): {tuple(scores.shape)}, {tuple(relevance.shape)}.")
    if at_k < 1:
        raise ValueError(f"at_k must be at least 1, but is {at_k}.")
    bounds: IntArray = offsets.detach().cpu().numpy().astype(np.int64)
    in_range = bounds.ndim == 1 and len(bounds) > 0 and bounds[0] == 0 and bounds[-1] == len(scores)
    if not in_range or (np.diff(bounds) < 0).any():
        raise ValueError(f"offsets must be (S + 1,) and ascend from 0 to {len(scores)}.")
    gain = np.maximum(host_values(relevance).astype(np.float64), 0.0)
    held = np.diff(np.concatenate(([0], np.cumsum(gain > 0)))[bounds])
    counts = held if num_relevant is None else checked_num_relevant(num_relevant, len(bounds) - 1)
    if (held > counts).any():
        raise ValueError("A list holds more relevant documents than num_relevant says.")
    return bounds, gain, counts


def _sort_within_segments(bounds: IntArray, segment: IntArray, values: RealArray) -> tuple[IntArray, IntArray]:
    """Order by segment, then descending value, and the bounds of the groups of equal values in one segment."""
    starts, longest = bounds[:-1], int(np.diff(bounds).max(initial=1))
    num_bits = (longest - 1).bit_length()
    if values.dtype == np.float32 and 32 + num_bits + (len(starts) - 1).bit_length() <= 63:
        # Segment, value and place in the segment fit one integer: one sort does it all.
        value_codes = float_codes(-values).astype(np.int64) + 2**31
        place = np.arange(len(segment)) - starts[segment]
        keys = (((segment << 32) | value_codes) << num_bits) | place
        keys.sort()
        changes = (keys[1:] >> num_bits) != (keys[:-1] >> num_bits)
        return starts[segment] + (keys & ((1 << num_bits) - 1)), group_bounds(changes, len(segment))
    by_value, value_bounds = sort_groups(-values)
    value_group = np.repeat(np.arange(len(value_bounds) - 1), np.diff(value_bounds))
    stable, sorted_segment = sort_codes(segment[by_value])
    sorted_group = value_group[stable]
    changes = (sorted_group[1:] != sorted_group[:-1]) | (sorted_segment[1:] != sorted_segment[:-1])
    return by_value[stable], group_bounds(changes, len(segment))


def _sums(values: FloatArray, start: IntArray, end: IntArray) -> FloatArray:
    """Sums of ``values[start:end]`` of non-empty ranges that ascend and don't overlap."""
    length = end - start
    owner = np.repeat(np.arange(len(start)), length)
    inside = np.arange(len(owner)) - np.repeat(np.cumsum(length) - length, length) + np.repeat(start, length)
    return sums_by_group(owner, values[inside], len(start))


def _ideal_gain(segment: IntArray, gain: FloatArray, counts: IntArray, discounts: FloatArray) -> FloatArray:
    """Discounted gain of each segment's documents in descending order of gain, missing ones included."""
    num_segments = len(counts)
    positive = gain > 0
    held = np.bincount(segment[positive], minlength=num_segments)
    missing = np.repeat(np.arange(num_segments), counts - held)
    segments = np.concatenate((segment[positive], missing))
    gains = np.concatenate((gain[positive], np.ones(len(missing))))
    order = np.lexsort((-gains, segments))
    place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    weight = np.append(np.diff(discounts), 0.0)[np.minimum(place, len(discounts) - 1)]
    return sums_by_group(segments[order], gains[order] * weight, num_segments)


def _quotient(part: FloatArray, whole: FloatArray | IntArray) -> FloatArray:
    """Quotient, NaN where the whole is 0."""
    quotient: FloatArray = np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
    return quotient
