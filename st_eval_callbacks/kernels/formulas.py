"""The registry of ranking measures: what each one makes of a query's totals at a cutoff."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .sorting import FloatArray, IntArray, host_values

NO_CUTOFF = 2**62
"""Stands for "the whole list" among integer cutoffs."""

GAIN_FNS: Mapping[str, Callable[[FloatArray], FloatArray]] = {
    "ndcg": lambda gain: gain,
    "ndcg_exp": lambda gain: np.exp2(gain) - 1.0,
}
"""What a document of some gain adds to the discounted cumulative gain, by the measure's name."""


@dataclass(frozen=True)
class Totals:
    """Totals of each query at each cutoff; expectations of them where documents are tied.

    Every measure is linear in them, so the mean of a measure over orders is the measure of the mean totals.

    Attributes:
        cutoffs: Distinct cutoffs, ascending; the columns of the tables below, all of shape ``(Q, m)``.
        num_relevant: Shape ``(Q,)``: number of documents relevant to the query, retrieved or not.
        found: Whether there is a relevant document among the first k hits, 0 to 1.
        num_hits: Number of relevant documents among the first k.
        reciprocal: 1 / place of the first relevant document, 0 when it is not among the first k.
        precision_sum: Sum of the precision at the place of every relevant document among the first k.
        gain: Discounted cumulative gain, by measure name.
        ideal_gain: The highest discounted cumulative gain possible, by measure name.
        num_hits_at_r: Shape ``(Q,)``: number of relevant documents among the first ``num_relevant``.
        num_judged: Number of hits judged for the query among the first k; None where it is not known what is judged.
        num_unknown: Number of hits that were judged for no query among the first k; None as above.
        num_ranked: Shape ``(Q,)``: number of hits; None as above.
        preference: Shape ``(Q,)``: sum of the preferences of relevant hits over judged ones; None as above.
    """

    cutoffs: tuple[int, ...]
    num_relevant: IntArray
    found: FloatArray
    num_hits: FloatArray
    reciprocal: FloatArray
    precision_sum: FloatArray
    gain: Mapping[str, FloatArray]
    ideal_gain: Mapping[str, FloatArray]
    num_hits_at_r: FloatArray
    num_judged: FloatArray | None = None
    num_unknown: FloatArray | None = None
    num_ranked: FloatArray | None = None
    preference: FloatArray | None = None

    def at(self, table: FloatArray | None, cutoff: int) -> FloatArray:
        """Column of a table at one cutoff, shape ``(Q,)``."""
        return _known(table)[:, self.cutoffs.index(cutoff)]


@dataclass(frozen=True)
class MeasureKind:
    """How a measure is computed.

    Attributes:
        formula: From the totals and a cutoff (``NO_CUTOFF`` for the whole list) to one value per query.
        cutoff: Whether a cutoff must, may or must not be given.
        description: Its definition in one line.
        needs_judged: Whether it must be known which hits are judged.
    """

    formula: Callable[[Totals, int], FloatArray]
    cutoff: Literal["required", "optional", "never"]
    description: str
    needs_judged: bool = False


def _known(table: FloatArray | None) -> FloatArray:
    if table is None:
        raise ValueError("this measure needs to know which hits are judged: give judged=JudgedHits(...).")
    return table


def _share(part: FloatArray, whole: IntArray | FloatArray) -> FloatArray:
    """Quotient, NaN where the whole is 0: a query without relevant documents has no such value."""
    quotient: FloatArray = np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
    return quotient


MEASURES: Mapping[str, MeasureKind] = {
    "accuracy": MeasureKind(
        lambda totals, k: totals.at(totals.found, k),
        "optional",
        "1 if a relevant document is among the first k hits (success, hit rate), else 0",
    ),
    "precision": MeasureKind(
        lambda totals, k: totals.at(totals.num_hits, k) / k,
        "required",
        "share of relevant documents in k places, also where fewer than k documents exist",
    ),
    "recall": MeasureKind(
        lambda totals, k: _share(totals.at(totals.num_hits, k), totals.num_relevant),
        "optional",
        "share of the relevant documents that are among the first k hits",
    ),
    "r_cap": MeasureKind(
        lambda totals, k: _share(totals.at(totals.num_hits, k), np.minimum(totals.num_relevant, k)),
        "required",
        "relevant documents among the first k hits / min(k, number of relevant documents)",
    ),
    "mrr": MeasureKind(
        lambda totals, k: totals.at(totals.reciprocal, k),
        "optional",
        "1 / place of the first relevant document, 0 when it is not among the first k",
    ),
    "ndcg": MeasureKind(
        lambda totals, k: _share(totals.at(totals.gain["ndcg"], k), totals.at(totals.ideal_gain["ndcg"], k)),
        "optional",
        "sum of gain / log2(place + 1) over the first k hits, divided by the same sum of the ideal ranking",
    ),
    "ndcg_exp": MeasureKind(
        lambda totals, k: _share(totals.at(totals.gain["ndcg_exp"], k), totals.at(totals.ideal_gain["ndcg_exp"], k)),
        "optional",
        "nDCG with the gain 2**g - 1 in the place of g",
    ),
    "map": MeasureKind(
        lambda totals, k: _share(totals.at(totals.precision_sum, k), np.minimum(totals.num_relevant, k)),
        "optional",
        "sum of the precision at each relevant hit among the first k / min(k, number of relevant documents)",
    ),
    "rprec": MeasureKind(
        lambda totals, k: _share(totals.num_hits_at_r, totals.num_relevant),
        "never",
        "precision at the place that equals the number of relevant documents",
    ),
    "bpref": MeasureKind(
        lambda totals, k: _share(_known(totals.preference), totals.num_relevant),
        "never",
        "mean over the R relevant documents of 1 - min(n, R) / min(N, R), where n of the N documents judged not "
        "relevant stand above; 0 for those not retrieved",
        needs_judged=True,
    ),
    "judged": MeasureKind(
        lambda totals, k: totals.at(totals.num_judged, k) / np.clip(_known(totals.num_ranked), 1, k),
        "required",
        "hits judged for the query among the first k / min(k, hits), as in ir_measures; 0 without hits",
        needs_judged=True,
    ),
    "hole": MeasureKind(
        lambda totals, k: totals.at(totals.num_unknown, k) / k,
        "required",
        "hits judged for no query at all among the first k / k",
        needs_judged=True,
    ),
}
"""Every ranking measure by its canonical name."""


def checked_cutoffs(measures: Sequence[tuple[str, int | None]]) -> tuple[int, ...]:
    """Check requested measures and collect their distinct cutoffs in ascending order.

    Raises:
        ValueError: If a measure is unknown, or has a cutoff it can't have, or lacks one it needs.
    """
    cutoffs = set()
    for name, cutoff in measures:
        if name not in MEASURES:
            raise ValueError(f"Unknown ranking measure {name!r}; known are {', '.join(MEASURES)}.")
        rule = MEASURES[name].cutoff
        if cutoff is None and rule == "required":
            raise ValueError(f"The measure {name!r} needs a cutoff, as in {name}@10.")
        if cutoff is not None and rule == "never":
            raise ValueError(f"The measure {name!r} takes no cutoff, but was given {cutoff!r}.")
        if cutoff is not None and (isinstance(cutoff, bool) or not isinstance(cutoff, int) or cutoff < 1):
            raise ValueError(f"The cutoff of {name!r} must be an integer of at least 1, but is {cutoff!r}.")
        cutoffs.add(NO_CUTOFF if cutoff is None else cutoff)
    return tuple(sorted(cutoffs))


def evaluate(
    totals: Totals, measures: Sequence[tuple[str, int | None]], device: torch.device
) -> dict[tuple[str, int | None], Tensor]:
    """Apply the formulas of the measures to the totals: ``{(measure, cutoff): (Q,) float64 on device}``."""
    values = {}
    for name, cutoff in measures:
        value = MEASURES[name].formula(totals, NO_CUTOFF if cutoff is None else cutoff)
        values[name, cutoff] = torch.from_numpy(np.array(value, dtype=np.float64)).to(device)
    return values


def discount_sums(num_places: int) -> FloatArray:
    """Sums of the discounts 1 / log2(place + 1) of the first 0, 1, ... places: shape ``(num_places + 1,)``.

    >>> discount_sums(3).round(4).tolist()
    [0.0, 1.0, 1.6309, 2.1309]
    """
    return np.concatenate(([0.0], np.cumsum(1.0 / np.log2(np.arange(2, num_places + 2)))))


def ideal_gain_tables(
    names: Sequence[str], cutoffs: tuple[int, ...], num_relevant: IntArray, ideal_gains: Tensor | None
) -> dict[str, FloatArray]:
    """Discounted cumulative gain of the ideal ranking at every cutoff, by measure name.

    Args:
        names: Names of the nDCG measures wanted.
        cutoffs: Columns of the result.
        num_relevant: Shape ``(Q,)``; read when ``ideal_gains`` is None: the ideal ranking then has that many ones.
        ideal_gains: Shape ``(Q, m)``: each query's gains in descending order, padded with 0.

    Returns:
        Tables of shape ``(Q, len(cutoffs))``.
    """
    if ideal_gains is None:
        limits = np.minimum(np.array(cutoffs, dtype=np.int64), num_relevant[:, None])
        table = discount_sums(int(limits.max(initial=0)))[limits]
        return dict.fromkeys(names, table)
    gains = np.maximum(host_values(ideal_gains).astype(np.float64), 0.0)
    width = gains.shape[1]
    columns = np.minimum(np.array(cutoffs, dtype=np.int64), width)
    discounts = 1.0 / np.log2(np.arange(2, width + 2))
    tables = {}
    for name in names:
        sums = np.zeros((len(gains), width + 1))
        np.cumsum(GAIN_FNS[name](gains) * discounts, axis=1, out=sums[:, 1:])
        tables[name] = sums[:, columns]
    return tables


def checked_num_relevant(num_relevant: Tensor, num_queries: int) -> IntArray:
    """Bring the number of relevant documents to the host as int64 of shape ``(num_queries,)``.

    Raises:
        ValueError: If the shape differs or a number is negative.
    """
    array: NDArray[np.int64] = num_relevant.detach().cpu().numpy().astype(np.int64)
    if array.shape != (num_queries,):
        raise ValueError(f"num_relevant must have shape ({num_queries},), but has {tuple(array.shape)}.")
    if (array < 0).any():
        raise ValueError("num_relevant must not be negative.")
    return array
