"""Relevance judgements of queries as tensors over corpus positions."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

RelevantDocs: TypeAlias = "Mapping[str, Collection[str] | Mapping[str, float]]"
"""Relevant document ids by query id: a set, or a gain (0 = judged, not relevant) for each."""


def gains_of(relevant: Collection[str] | Mapping[str, float]) -> dict[str, float]:
    """Gain by document id; a set or list gives every document the gain 1. Gains of 0 are left out.

    Raises:
        TypeError: For a single id, whose letters would be taken for ids.
    """
    if isinstance(relevant, str):
        raise TypeError(f"relevant_docs: {relevant!r} is a single id; give a set of ids, or {{id: gain}}.")
    pairs = relevant.items() if isinstance(relevant, Mapping) else ((doc, 1.0) for doc in relevant)
    return {doc: float(gain) for doc, gain in pairs if gain > 0}


@dataclass
class Judgements:
    """All pairs of query and relevant document.

    Attributes:
        query: (R,) int64, row of the query.
        position: (R,) int64, position in the corpus; -1 where the document is not in it.
        gains: (R,) float64, above 0.
        num_relevant: (Q,) int64, relevant documents of each query, in the corpus or not.
        ideal_gains: (Q, m) float64, gains of each query in descending order, padded with 0; None when all are 1.
        num_missing: How many relevant documents are not in the corpus.
    """

    query: Tensor
    position: Tensor
    gains: Tensor
    num_relevant: Tensor
    ideal_gains: Tensor | None
    num_missing: int

    @classmethod
    def read(
        cls,
        relevant_docs: RelevantDocs,
        query_ids: Sequence[str],
        positions: Mapping[str, int],
        *,
        ignore_missing: bool = False,
    ) -> Judgements:
        """Look the judgements of some queries up.

        Args:
            relevant_docs: The judgements.
            query_ids: The queries, each with at least one relevant document.
            positions: Corpus position by document id.
            ignore_missing: Leave out relevant documents that are not in the corpus; else they count as missed.

        Returns:
            The judgements in the order of `query_ids`.
        """
        rows: list[int] = []
        places: list[int] = []
        gains: list[float] = []
        counts: list[int] = []
        num_missing = 0
        for row, query_id in enumerate(query_ids):
            before = len(rows)
            for doc, gain in gains_of(relevant_docs[query_id]).items():
                place = positions.get(doc, -1)
                num_missing += place < 0
                if place < 0 and ignore_missing:
                    continue
                rows.append(row)
                places.append(place)
                gains.append(gain)
            counts.append(len(rows) - before)
        query = torch.tensor(rows, dtype=torch.int64)
        gain_values = torch.tensor(gains, dtype=torch.float64)
        graded = bool((gain_values != 1).any())
        return cls(
            query=query,
            position=torch.tensor(places, dtype=torch.int64),
            gains=gain_values,
            num_relevant=torch.tensor(counts, dtype=torch.int64),
            ideal_gains=_ideal(query, gain_values, counts) if graded else None,
            num_missing=num_missing,
        )

    def per_query(self, values: Tensor) -> Tensor:
        """Sum values of pairs (R,) for each query (Q,), as float64."""
        total = torch.zeros(len(self.num_relevant), dtype=torch.float64)
        return total.index_add_(0, self.query, values.double())


def _ideal(query: Tensor, gains: Tensor, counts: Sequence[int]) -> Tensor:
    ideal = torch.zeros(len(counts), max([*counts, 1]), dtype=torch.float64)
    start = 0
    for row, count in enumerate(counts):
        ideal[row, :count] = gains[start : start + count].sort(descending=True).values
        start += count
    return ideal
