"""Hits of a search as files that others read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .files import replace_file

Found = Sequence[tuple[Any, float]]
"""Ids and scores of the hits of one query, best first."""


def write_jsonl(path: Path, query_ids: Sequence[Any], queries: Sequence[Any], found: Sequence[Found]) -> None:
    """Write hits as sentence-transformers does: a line a query, with `query_id`, `query` and `results`.

    Args:
        path: The file, replaced as a whole.
        query_ids: Ids of Q queries.
        queries: Their texts; one that JSON cannot hold, such as an image, is named by its class.
        found: The hits of each; a result has `corpus_id` and `score`.
    """
    lines = []
    for query_id, query, hits in zip(query_ids, queries, found, strict=True):
        results = [{"corpus_id": identity, "score": score} for identity, score in hits]
        lines.append(json.dumps({"query_id": query_id, "query": query, "results": results}, default=_named))
    replace_file(path, "\n".join(lines) + "\n")


def write_trec(path: Path, query_ids: Sequence[Any], found: Sequence[Found], tag: str) -> None:
    """Write hits as a run of TREC: query, "Q0", document, rank from 1, score, tag.

    Others order a run by its scores and, where these are equal, by rules of their own.

    Args:
        path: The file, replaced as a whole.
        query_ids: Ids of Q queries.
        found: The hits of each.
        tag: Names the run; blanks become "_".

    Raises:
        ValueError: When an id has a blank.
    """
    check_trec_ids([*query_ids, *(identity for hits in found for identity, _ in hits)])
    tag = "_".join(tag.split()) or "run"
    lines = [
        f"{query_id} Q0 {identity} {rank} {score!r} {tag}"
        for query_id, hits in zip(query_ids, found, strict=True)
        for rank, (identity, score) in enumerate(hits, start=1)
    ]
    replace_file(path, "".join(f"{line}\n" for line in lines))


def check_trec_ids(ids: Sequence[Any]) -> None:
    """Refuse ids that no file of TREC can hold.

    Raises:
        ValueError: Names the first.
    """
    bad = next(_blank_ids(ids), None)
    if bad is not None:
        raise ValueError(f"the id {bad!r} has a blank or is empty, so a run of TREC cannot hold it: write 'jsonl'.")


def _blank_ids(ids: Sequence[Any]) -> Iterator[Any]:
    return (one for one in ids if len(str(one).split()) != 1 or str(one) != str(one).strip())


def _named(one: Any) -> str:
    return f"<{type(one).__name__}>"
