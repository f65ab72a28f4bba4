"""The search of a retrieval evaluator: how deep, in which forms of the embeddings, and what is watched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..encoding import EncodeOptions
from ..kernels.topk import Hits
from ..scorers import Form, Scorer, SearchResult, Similarity, scorer_for
from ..scorers.embedding import EmbeddingScorer
from .conventions import Conventions, Wanted
from .hits import condensed, without_own
from .judgements import JudgedPairs
from .retrieval_set import RetrievalSet

# Documents that say between which values a component lies: the first in the order of ids.
_NUM_CALIBRATION = 16384


@dataclass(frozen=True)
class CorpusSearch:
    """What is searched for, and how.

    Attributes:
        data: Queries, corpus and judgements.
        pairs: All judgements, where they are needed.
        conventions: Which documents are looked at.
        wanted: Measures and cutoffs, which say how deep to search.
        query_options: How queries are encoded.
        corpus_options: How documents are encoded.
        corpus_chunk_size: Most documents encoded at a time.
        corpus_model: Another model that encodes the documents, or None.
        corpus_embeddings: Rows of the documents in ascending order of ids, or None.
    """

    data: RetrievalSet
    pairs: JudgedPairs | None
    conventions: Conventions
    wanted: Sequence[Wanted]
    query_options: EncodeOptions
    corpus_options: EncodeOptions
    corpus_chunk_size: int
    corpus_model: Any = None
    corpus_embeddings: Any = None

    def results(
        self, scorer: Scorer, functions: Mapping[str, Similarity], forms: Sequence[Form]
    ) -> list[dict[str, SearchResult]]:
        """What each similarity function finds with embeddings in each form, the corpus passing once.

        Args:
            scorer: The model.
            functions: Similarity functions by name.
            forms: Forms of the embeddings; others than whole ones are for dense models.

        Returns:
            Results by name, for each form.
        """
        corpus = self.data.sorted_corpus if self.corpus_embeddings is None else self.corpus_embeddings
        settings: dict[str, Any] = {
            "query_options": self.query_options,
            "corpus_options": self.corpus_options,
            "corpus_chunk_size": self.corpus_chunk_size,
            "track_ties": self.conventions.ties == "expected",
            "watch": self._watch(),
            **({} if self.corpus_model is None else {"corpus_model": self.corpus_model}),
        }
        assert isinstance(scorer, EmbeddingScorer)
        if any(form.needs_ranges for form in forms):
            sample = self._sample(scorer)
            forms = [form.calibrated(sample) for form in forms]
        return scorer.search_forms(self.data.queries, corpus, self._depth(), functions, forms, **settings)

    def looked_at(self, result: SearchResult) -> Hits:
        """The hits of a result without the documents that conventions leave out."""
        hits = result.hits
        if self.conventions.ignore_unjudged and self.pairs is not None and result.watched_scores is not None:
            hits = condensed(result.watched_scores, self.pairs, len(self.data.queries))
        if not self.conventions.ignore_identical_ids:
            return hits
        # The search went one deeper, a condensed list is whole.
        depth = hits.positions.shape[1] - (hits is result.hits)
        return without_own(hits, self.data.own_positions(), depth)

    def _depth(self) -> int:
        depth = max([k for _, k in self.wanted if k is not None] + [1])
        if any(k is None for _, k in self.wanted):
            depth = len(self.data.corpus)
        return depth + self.conventions.ignore_identical_ids

    def _watch(self) -> Any:
        if self.conventions.ties == "expected":
            return self.data.judged.present()
        return self.pairs.present() if self.pairs is not None and self.conventions.ignore_unjudged else None

    def _sample(self, scorer: Scorer) -> Any:
        """Embeddings of some documents, the same whatever the chunks and the number of processes."""
        if self.corpus_embeddings is not None:
            return self.corpus_embeddings[:_NUM_CALIBRATION]
        owner = scorer if self.corpus_model is None else scorer_for(self.corpus_model)
        return owner.embed(self.data.sorted_corpus[:_NUM_CALIBRATION], self.corpus_options).rows()
