"""What a retrieval evaluator writes beside its table: hits, and the queries it does worst."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..kernels.topk import Hits
from ..writers.predictions import Found, check_trec_ids, write_jsonl, write_trec
from .conventions import Conventions
from .judgements import RelevantDocs
from .retrieval_set import RetrievalSet
from .worst import Measured, write_worst


class RetrievalOutput:
    """Writes what is asked for.

    Args:
        data: Queries and corpus.
        relevant_docs: The judgements.
        conventions: Which documents count as missed.
        formats: Formats of the hits, any of "jsonl" and "trec".
        num_worst: Most queries shown; 0 for no such file.

    Raises:
        ValueError: When a format cannot hold an id.
    """

    def __init__(
        self,
        data: RetrievalSet,
        relevant_docs: RelevantDocs,
        conventions: Conventions,
        formats: tuple[str, ...],
        num_worst: int,
    ) -> None:
        if num_worst < 0:
            raise ValueError(f"num_worst={num_worst}: at least 0.")
        if "trec" in formats:
            check_trec_ids(data.query_ids)
            check_trec_ids(data.corpus_ids)
        self.data = data
        self.relevant_docs = relevant_docs
        self.conventions = conventions
        self.formats = formats
        self.num_worst = num_worst
        self._before: dict[str, Measured] = {}

    @property
    def is_wanted(self) -> bool:
        """Whether anything is written."""
        return bool(self.formats or self.num_worst)

    def write(
        self, path_of: Callable[[str], Path], hits: Mapping[str, Hits], deciding: str, measured: Measured, tag: str
    ) -> None:
        """Write the files of one evaluation.

        Args:
            path_of: Path of a file, given what its name ends with.
            hits: Hits by similarity function.
            deciding: The function that decides.
            measured: The measure that decides, for each query.
            tag: Names the evaluator in runs of TREC.
        """
        for function, one in hits.items():
            for form in self.formats:
                path, found = path_of(f"predictions_{function}.{form}"), self._named(one)
                if form == "jsonl":
                    write_jsonl(path, self.data.query_ids, self.data.queries, found)
                else:
                    write_trec(path, self.data.query_ids, found, f"{tag}_{function}")
        if self.num_worst:
            path, found = path_of("worst_queries.jsonl"), self._named(hits[deciding])
            before = self._before.get(measured.metric)
            given = (self.data, self.relevant_docs, self.conventions)
            write_worst(path, self.num_worst, *given, found, measured, before)
            self._before[measured.metric] = measured

    def _named(self, hits: Hits) -> list[Found]:
        ids: list[Any] = self.data.sorted_ids
        rows = zip(hits.positions.tolist(), hits.scores.tolist(), strict=True)
        return [
            [(ids[position], score) for position, score in zip(*row, strict=True) if position >= 0] for row in rows
        ]
