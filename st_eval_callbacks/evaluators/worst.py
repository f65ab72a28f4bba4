"""The queries that a retrieval does worst, what it found and what it missed: a file small enough to read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..writers.files import replace_file
from ..writers.predictions import Found, json_id
from .conventions import Conventions
from .judgements import RelevantDocs, judged_of
from .retrieval_set import RetrievalSet

NUM_HITS = 5
"""Hits and missed documents shown of each query."""
_MAX_CHARACTERS = 200


@dataclass(frozen=True)
class Measured:
    """One measure of each query, in an evaluation.

    Attributes:
        metric: Key of its mean.
        values: Value by query id, higher is better.
        epoch: Passes over the training data done; -1 outside of training.
        steps: Optimizer steps done; -1 outside of training.
    """

    metric: str
    values: Mapping[Any, float]
    epoch: float
    steps: int

    @property
    def mean(self) -> float:
        """The mean over the queries."""
        return math.fsum(self.values.values()) / len(self.values)

    def change(self, before: Measured | None, query_id: Any) -> float | None:
        """How much better a query is than before; None when that is not known."""
        old = math.nan if before is None else before.values.get(query_id, math.nan)
        change = self.values[query_id] - old
        return None if math.isnan(change) else change


def write_worst(
    path: Path,
    num: int,
    data: RetrievalSet,
    relevant_docs: RelevantDocs,
    conventions: Conventions,
    found: Sequence[Found],
    measured: Measured,
    before: Measured | None,
) -> None:
    """Write the worst queries as JSON lines, below one line that compares all queries with the evaluation before.

    Args:
        path: The file, replaced as a whole.
        num: Most queries.
        data: Queries and corpus.
        relevant_docs: The judgements.
        conventions: Which documents count as missed.
        found: Hits of each query, best first.
        measured: The measure.
        before: The same of the evaluation before; None when this is the first.
    """
    hits = dict(zip(data.query_ids, found, strict=True))
    texts = dict(zip(data.query_ids, data.queries, strict=True))
    places = {query: place for place, query in enumerate(data.query_ids)}
    worst = sorted(measured.values, key=lambda query: (_worth(measured.values[query]), places[query]))[:num]
    lines = [_summary(num, measured, before)]
    for query in worst:
        judged = judged_of(relevant_docs[query])
        ranks = {doc: rank for rank, (doc, _) in enumerate(hits[query], start=1)}
        relevant = [
            doc
            for doc, gain in judged.items()
            if conventions.is_relevant(gain)
            and not (conventions.ignore_missing_docs and doc not in data.positions)
            and not (conventions.ignore_identical_ids and doc == query)
        ]
        missed = sorted((doc for doc in relevant if ranks.get(doc, math.inf) > NUM_HITS), key=str)
        lines.append(
            {
                "query_id": json_id(query),
                "query": _short(texts[query]),
                "value": _number(measured.values[query]),
                "change": measured.change(before, query),
                "found": [
                    {
                        "corpus_id": json_id(doc),
                        "score": _number(score),
                        "gain": judged.get(doc),
                        "text": _text_of(data, doc),
                    }
                    for doc, score in hits[query][:NUM_HITS]
                ],
                "missed": [
                    {
                        "corpus_id": json_id(doc),
                        "gain": judged[doc],
                        "rank": ranks.get(doc),
                        "text": _text_of(data, doc),
                    }
                    for doc in missed[:NUM_HITS]
                ],
                "num_missed": len(missed),
            }
        )
    replace_file(path, "".join(json.dumps(line, default=str, ensure_ascii=False) + "\n" for line in lines))


def _summary(num: int, measured: Measured, before: Measured | None) -> dict[str, Any]:
    changes = {query: change for query in measured.values if (change := measured.change(before, query))}
    order = sorted(changes, key=lambda query: changes[query])
    return {
        "metric": measured.metric,
        "epoch": measured.epoch,
        "steps": measured.steps,
        "num_queries": len(measured.values),
        "mean": _number(measured.mean),
        "steps_before": None if before is None else before.steps,
        "mean_before": None if before is None else _number(before.mean),
        "num_better": sum(change > 0 for change in changes.values()),
        "num_worse": sum(change < 0 for change in changes.values()),
        "most_better": {str(query): changes[query] for query in reversed(order[-num:]) if changes[query] > 0},
        "most_worse": {str(query): changes[query] for query in order[:num] if changes[query] < 0},
    }


def _worth(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _text_of(data: RetrievalSet, doc: Any) -> str | None:
    position = data.positions.get(doc)
    return None if position is None else _short(data.sorted_corpus[position])


def _short(text: Any) -> str:
    if not isinstance(text, str):
        return f"<{type(text).__name__}>"
    return text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}..."
