"""Hits of a search as files that others read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

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
        results = [{"corpus_id": json_id(identity), "score": score} for identity, score in hits]
        lines.append(json.dumps({"query_id": json_id(query_id), "query": query, "results": results}, default=_named))
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
        ValueError: When an id has a blank, or two read the same.
    """
    check_trec_ids(query_ids)
    check_trec_ids([identity for hits in found for identity, _ in hits])
    tag = "_".join(tag.split()) or "run"
    lines = [
        f"{query_id} Q0 {identity} {rank} {score!r} {tag}"
        for query_id, hits in zip(query_ids, found, strict=True)
        for rank, (identity, score) in enumerate(hits, start=1)
    ]
    replace_file(path, "".join(f"{line}\n" for line in lines))


def check_trec_ids(ids: Sequence[Any]) -> None:
    """Refuse ids that no file of TREC can hold.

    Args:
        ids: Those of queries, or those of documents; they may repeat.

    Raises:
        ValueError: Names the first.
    """
    bad = next(_blank_ids(ids), None)
    if bad is not None:
        raise ValueError(f"the id {bad!r} has a blank or is empty, so a run of TREC cannot hold it: write 'jsonl'.")
    written: dict[str, Any] = {}
    for one in dict.fromkeys(ids):
        if (other := written.setdefault(str(one), one)) != one:
            raise ValueError(f"the ids {other!r} and {one!r} read the same in a run of TREC: write 'jsonl'.")


def _blank_ids(ids: Sequence[Any]) -> Iterator[Any]:
    return (one for one in ids if len(str(one).split()) != 1 or str(one) != str(one).strip())


def json_id(identity: Any) -> Any:
    """An id as JSON holds it: a number of numpy as a number, what JSON does not know as text.

    >>> json_id("d1"), json_id(np.int64(7)), json_id(Path("d1"))
    ('d1', 7, 'd1')
    """
    if isinstance(identity, np.generic):
        return identity.item()
    return identity if identity is None or isinstance(identity, (str, int, float, tuple)) else str(identity)


def _named(one: Any) -> str:
    return f"<{type(one).__name__}>"
