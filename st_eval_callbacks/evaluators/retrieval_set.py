"""Queries, a corpus and judgements as a retrieval evaluator uses them: in order, perhaps a sample, and checked."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .conventions import Conventions
from .judgements import Judgements, RelevantDocs, gains_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Subset:
    """A fixed part of the data, for an evaluation that is cheap.

    Attributes:
        max_queries: Most queries; None for all.
        max_corpus: Most documents; None for all. Those that are relevant to a query stay, however many they are.
        seed: Another one makes another sample. A smaller sample is a part of a larger one.

    Raises:
        ValueError: When a number is below 1, or not whole.
    """

    max_queries: int | None = None
    max_corpus: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse samples of nothing."""
        for name in ("max_queries", "max_corpus"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int) and value >= 1):
                raise ValueError(f"{name}={value!r}: a whole number of at least 1, or None for all.")

    def of(self, ids: Sequence[Any], most: int | None, staying: Collection[Any] = ()) -> list[Any]:
        """As many ids as are wanted, in their order; those that stay count among them."""
        if most is None or len(ids) <= most:
            return list(ids)
        # A place of its own for each id: it does not depend on which others there are.
        others = sorted((one for one in ids if one not in staying), key=self._place)
        chosen = {*staying, *others[: max(most - len(staying), 0)]}
        return [one for one in ids if one in chosen]

    def _place(self, identity: Any) -> bytes:
        return hashlib.blake2b(f"{self.seed}:{identity}".encode(errors="surrogatepass"), digest_size=8).digest()


@dataclass(frozen=True)
class RetrievalSet:
    """What is searched for, in what, and what should be found.

    Attributes:
        query_ids: Ids of the Q queries that have a relevant document, in the order given.
        queries: Their texts.
        corpus_ids: Ids of the N documents, in the order given.
        corpus: Their texts.
        order: Place in `corpus_ids` of each document in ascending order of ids.
        sorted_ids: Ids in that order. Hits come in ascending position when scores tie, so this order defines metrics.
        sorted_corpus: Texts in that order.
        positions: Place in that order by id.
        judged: The relevance judgements.
    """

    query_ids: list[Any]
    queries: list[Any]
    corpus_ids: list[Any]
    corpus: list[Any]
    order: list[int]
    sorted_ids: list[Any]
    sorted_corpus: list[Any]
    positions: dict[Any, int]
    judged: Judgements

    @classmethod
    def read(
        cls,
        label: str,
        queries: Mapping[Any, Any],
        corpus: Mapping[Any, Any],
        relevant_docs: RelevantDocs,
        conventions: Conventions,
        subset: Subset,
    ) -> RetrievalSet:
        """Put the data in order, and say in one warning what is left out of them.

        Args:
            label: How messages name the evaluator.
            queries: Text by id.
            corpus: Text by id.
            relevant_docs: The judgements.
            conventions: What counts as relevant.
            subset: How much of the data is taken.

        Raises:
            ValueError: When there are no documents, or no query has a relevant one.
        """
        if not corpus:
            raise ValueError(f"{label}: the corpus is empty.")
        relevant = {
            query: [
                doc
                for doc, gain in gains_of(relevant_docs[query]).items()
                if conventions.is_relevant(gain) and (doc in corpus or not conventions.ignore_missing_docs)
            ]
            for query in queries
            if query in relevant_docs
        }
        with_relevant = [query for query in queries if relevant.get(query)]
        if not with_relevant:
            raise ValueError(
                f"{label}: none of the {len(queries)} queries has a relevant document in relevant_docs; are its "
                "keys query ids, of the same type as those of queries?"
            )
        query_ids = subset.of(with_relevant, subset.max_queries)
        staying = {doc for query in query_ids for doc in gains_of(relevant_docs[query]) if doc in corpus}
        corpus_ids = subset.of(list(corpus), subset.max_corpus, staying)
        order = _ascending(corpus_ids)
        sorted_ids = [corpus_ids[place] for place in order]
        positions = {doc: position for position, doc in enumerate(sorted_ids)}
        made = cls(
            query_ids=query_ids,
            queries=[queries[query] for query in query_ids],
            corpus_ids=corpus_ids,
            corpus=[corpus[doc] for doc in corpus_ids],
            order=order,
            sorted_ids=sorted_ids,
            sorted_corpus=[corpus[doc] for doc in sorted_ids],
            positions=positions,
            judged=Judgements.read(relevant_docs, query_ids, positions, conventions),
        )
        made._warn_of_gaps(label, len(queries) - len(with_relevant), len(queries), relevant, conventions)
        if subset.max_corpus is not None and len(staying) > subset.max_corpus:
            logger.warning(
                "%s: %d documents are relevant to its queries and stay, more than max_corpus=%d.",
                label,
                len(staying),
                subset.max_corpus,
            )
        return made

    def _warn_of_gaps(
        self,
        label: str,
        num_left_out: int,
        num_queries: int,
        relevant: Mapping[Any, Sequence[Any]],
        conventions: Conventions,
    ) -> None:
        if num_left_out:
            message = "%s: %d of %d queries have no relevant document and are left out."
            logger.warning(message, label, num_left_out, num_queries)
        if self.judged.num_missing:
            total = self.judged.num_missing * conventions.ignore_missing_docs
            total += sum(len(relevant[query]) for query in self.query_ids)
            counted = "count as missed (ignore_missing_docs=True drops them)"
            what = "are left out" if conventions.ignore_missing_docs else counted
            message = "%s: %d of %d relevant documents are not in the corpus; they %s."
            logger.warning(message, label, self.judged.num_missing, total, what)

    def own_positions(self) -> Tensor:
        """(Q,) position of the document with the query's own id; -2 where there is none."""
        return torch.tensor([self.positions.get(query, -2) for query in self.query_ids])


def _ascending(ids: Sequence[Any]) -> list[int]:
    """Places of ids in their ascending order; ids of several types stand type by type."""
    try:
        return sorted(range(len(ids)), key=ids.__getitem__)
    except TypeError:
        return sorted(range(len(ids)), key=lambda place: (type(ids[place]).__name__, ids[place]))
