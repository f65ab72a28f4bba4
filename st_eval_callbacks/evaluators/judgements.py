"""Relevance judgements of queries as tensors over corpus positions."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ..kernels.judged import JudgedHits
from ..kernels.ranking import relevance_of
from .conventions import Conventions

RelevantDocs: TypeAlias = "Mapping[str, Collection[str] | Mapping[str, float]]"
"""Relevant document ids by query id: a set, or a gain (0 = judged, not relevant) for each."""


def judged_of(relevant: Collection[str] | Mapping[str, float]) -> dict[str, float]:
    """Gain by document id of all that was judged; a set or list gives every document the gain 1.

    Raises:
        TypeError: For a single id, whose letters would be taken for ids, and for what is no collection.
        ValueError: When a gain is not a finite number.
    """
    if isinstance(relevant, str) or not isinstance(relevant, Iterable):
        raise TypeError(f"relevant_docs: {relevant!r} is a single id or none; give a set of ids, or {{id: gain}}.")
    if not isinstance(relevant, Mapping):
        return dict.fromkeys(relevant, 1.0)
    return {doc: _finite(doc, gain) for doc, gain in relevant.items()}


def gains_of(relevant: Collection[str] | Mapping[str, float]) -> dict[str, float]:
    """The same without documents judged not relevant, whose gain is 0 or below."""
    return {doc: gain for doc, gain in judged_of(relevant).items() if gain > 0}


@dataclass(frozen=True)
class Pairs:
    """Pairs of query and document.

    Attributes:
        query: (P,) int64, row of the query.
        position: (P,) int64, position in the corpus; -1 where the document is not in it.
    """

    query: Tensor
    position: Tensor

    def present(self) -> tuple[Tensor, Tensor]:
        """Query and position of the pairs whose document is in the corpus."""
        inside = self.position >= 0
        return self.query[inside], self.position[inside]


@dataclass(frozen=True)
class JudgedPairs(Pairs):
    """All pairs of query and document that somebody judged, relevant or not.

    Attributes:
        known: (D,) int64, positions of documents that were judged for any query, also one that is left out.
        num_nonrelevant: (Q,) int64, documents judged not relevant to each query.
    """

    known: Tensor
    num_nonrelevant: Tensor

    @classmethod
    def read(
        cls,
        relevant_docs: RelevantDocs,
        query_ids: Sequence[str],
        positions: Mapping[str, int],
        conventions: Conventions,
    ) -> JudgedPairs:
        """Look the judgements up; arguments as for `Judgements.read`."""
        rows: list[int] = []
        places: list[int] = []
        num_nonrelevant: list[int] = []
        for row, query_id in enumerate(query_ids):
            judged = judged_of(relevant_docs[query_id])
            rows += [row] * len(judged)
            places += [positions.get(doc, -1) for doc in judged]
            num_nonrelevant.append(sum(not conventions.is_relevant(gain) for gain in judged.values()))
        known = {positions[doc] for docs in relevant_docs.values() for doc in judged_of(docs) if doc in positions}
        return cls(*(torch.tensor(one, dtype=torch.int64) for one in (rows, places, sorted(known), num_nonrelevant)))

    def among(self, positions: Tensor) -> JudgedHits:
        """Which of (Q, k) hits are judged, by their positions."""
        positions = positions.cpu()
        return JudgedHits(
            judged=relevance_of(positions, self.query, self.position) > 0,
            unknown=(positions >= 0) & ~torch.isin(positions, self.known),
            num_nonrelevant=self.num_nonrelevant,
            num_hits=(positions >= 0).sum(dim=1),
        )


@dataclass(frozen=True)
class Judgements(Pairs):
    """All pairs of query and document with a gain above 0.

    Attributes:
        gains: (R,) float64, above 0.
        num_relevant: (Q,) int64, relevant documents of each query, in the corpus or not.
        ideal_gains: (Q, m) float64, gains of each query in descending order, padded with 0; None when all are 1.
        num_missing: How many relevant documents are not in the corpus.
        relevance_threshold: Least gain of a relevant document; None for any above 0.
    """

    gains: Tensor
    num_relevant: Tensor
    ideal_gains: Tensor | None
    num_missing: int
    relevance_threshold: float | None = None

    @classmethod
    def read(
        cls,
        relevant_docs: RelevantDocs,
        query_ids: Sequence[str],
        positions: Mapping[str, int],
        conventions: Conventions,
    ) -> Judgements:
        """Look the judgements of some queries up.

        Args:
            relevant_docs: The judgements.
            query_ids: The queries, each with at least one relevant document.
            positions: Corpus position by document id.
            conventions: What counts as relevant, and whether documents that are not in the corpus count as missed.

        Returns:
            The judgements in the order of `query_ids`.
        """
        rows: list[int] = []
        places: list[int] = []
        gains: list[float] = []
        counts: list[int] = []
        num_relevant: list[int] = []
        num_missing = 0
        for row, query_id in enumerate(query_ids):
            before, relevant = len(rows), 0
            for doc, gain in gains_of(relevant_docs[query_id]).items():
                place = positions.get(doc, -1)
                num_missing += place < 0 and conventions.is_relevant(gain)
                if place < 0 and conventions.ignore_missing_docs:
                    continue
                rows.append(row)
                places.append(place)
                gains.append(gain)
                relevant += conventions.is_relevant(gain)
            counts.append(len(rows) - before)
            num_relevant.append(relevant)
        query = torch.tensor(rows, dtype=torch.int64)
        gain_values = torch.tensor(gains, dtype=torch.float64)
        graded = bool((gain_values != 1).any())
        return cls(
            query=query,
            position=torch.tensor(places, dtype=torch.int64),
            gains=gain_values,
            num_relevant=torch.tensor(num_relevant, dtype=torch.int64),
            ideal_gains=_ideal(gain_values, counts) if graded else None,
            num_missing=num_missing,
            relevance_threshold=conventions.relevance_threshold,
        )

    @property
    def largest_gain(self) -> float:
        """The largest gain."""
        return float(self.gains.max())

    @property
    def is_relevant(self) -> Tensor:
        """(R,) bool: whether the document counts as relevant where grades do not matter."""
        return self.gains > 0 if self.relevance_threshold is None else self.gains >= self.relevance_threshold

    def per_query(self, values: Tensor) -> Tensor:
        """Sum values of pairs (R,) for each query (Q,), as float64."""
        total = torch.zeros(len(self.num_relevant), dtype=torch.float64)
        return total.index_add_(0, self.query, values.double())


def _finite(doc: object, gain: Any) -> float:
    try:
        value = float(gain)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(
            f"relevant_docs: the gain of {doc!r} is {gain!r}; a finite number is needed, 0 or below for none."
        )
    return value


def _ideal(gains: Tensor, counts: Sequence[int]) -> Tensor:
    ideal = torch.zeros(len(counts), max([*counts, 1]), dtype=torch.float64)
    start = 0
    for row, count in enumerate(counts):
        ideal[row, :count] = gains[start : start + count].sort(descending=True).values
        start += count
    return ideal
