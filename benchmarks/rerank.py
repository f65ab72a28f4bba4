"""Reranking: a list of documents for each query."""

from __future__ import annotations

import torch

from .compare import Bars, Case, Row, Settings, compare
from .pairs import case_of
from .report import Section
from .stubs import StubModel, clustered, integers, names, near

_NUM_POSITIVE = 5


def build(num_queries: int, fewest: int, most: int) -> Case:
    """Queries with `fewest` to `most` documents, of which the positives are a little nearer than the others."""
    lengths = fewest + integers(most - fewest + 1, num_queries, seed=1)
    starts = torch.cumsum(lengths, 0) - lengths
    queries = clustered(num_queries, seed=2)
    documents = clustered(int(lengths.sum()), seed=3)
    positives = (starts[:, None] + torch.arange(_NUM_POSITIVE)).flatten()
    pulled = near(queries, seed=4, noise=1.0).repeat_interleave(_NUM_POSITIVE, dim=0)
    documents[positives] += 0.2 * pulled
    query_texts, texts = names("q", num_queries), names("d", len(documents))
    samples = [
        {
            "query": query,
            "positive": texts[start : start + _NUM_POSITIVE],
            "negative": texts[start + _NUM_POSITIVE : end],
        }
        for query, start, end in zip(query_texts, starts.tolist(), (starts + lengths).tolist(), strict=True)
    ]
    lists = f"{fewest}" if fewest == most else f"{fewest}-{most}"
    model = StubModel([*query_texts, *texts], torch.cat([queries, documents]))
    return case_of("RerankingEvaluator", f"{num_queries:,} queries x {lists} documents", model, {"samples": samples})


ROWS = (
    Row(
        "reranking",
        build,
        full={"num_queries": 5_000, "fewest": 100, "most": 100},
        quick={"num_queries": 500, "fewest": 100, "most": 100},
        smallest={"num_queries": 4, "fewest": 10, "most": 10},
        bars=Bars(40),
    ),
    Row(
        "reranking, ragged",
        build,
        full={"num_queries": 5_000, "fewest": 50, "most": 150},
        quick={"num_queries": 500, "fewest": 50, "most": 150},
        smallest={"num_queries": 4, "fewest": 8, "most": 12},
        bars=Bars(22),
    ),
)


def run(settings: Settings) -> list[Section]:
    """The table."""
    return [compare("Reranking", ROWS, settings)]
