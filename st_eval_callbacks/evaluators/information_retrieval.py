"""Retrieval: which documents of a corpus a query finds."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers.util.similarity import SimilarityFunction
from torch import Tensor

from ..encoding import EncodeOptions
from ..encoding.tables import take
from ..kernels.topk import Hits
from ..measures import Measure
from ..scorers import Scorer, Wish
from .base import warn_nonfinite
from .hits import measure, warn_if_collapsed, without_own, write_predictions
from .judgements import Judgements, RelevantDocs, gains_of
from .retrieval_metrics import RetrievalMetrics, key_of, metric_line

logger = logging.getLogger(__name__)

_LOG_ORDER = ("accuracy", "precision", "recall", "mrr", "ndcg", "map")


class InformationRetrievalEvaluator(RetrievalMetrics):
    """Accuracy, precision, recall, MRR, nDCG and MAP of the top documents for each query.

    Every metric is a mean over the queries that have a relevant document, in [0, 1], higher is better; definitions are
    those of sentence-transformers (MAP@k divides by min(k, relevant), precision@k by k). Documents with equal scores
    stand in ascending order of their ids. With gains in `relevant_docs`, nDCG is graded with linear gain as
    trec_eval's, and all other metrics count gains above 0.

    Args:
        queries: Query text by id. Queries without a relevant document are left out.
        corpus: Document text by id.
        relevant_docs: Relevant document ids by query id: a set, or `{document id: gain}`.
        corpus_chunk_size: Documents that are encoded and scored at a time, >= 1; metrics do not depend on it.
        mrr_at_k: Cutoffs of MRR.
        ndcg_at_k: Cutoffs of nDCG; the largest one decides.
        accuracy_at_k: Cutoffs of accuracy (at least one relevant document on top).
        precision_recall_at_k: Cutoffs of precision and recall.
        map_at_k: Cutoffs of MAP.
        show_progress_bar: Whether encoding shows a bar.
        batch_size: Most texts a batch.
        name: Put before every metric.
        write_csv: Whether a call with `output_path` appends to the CSV.
        truncate_dim: Leading dimensions of the embeddings to use.
        score_functions: Similarity by name: functions of (Q, d) queries and (N, d) documents returning (Q, N)
            scores, or names of bundled ones. None takes the model's own similarity, on every call anew.
        main_score_function: The function that decides; None takes the one that is best in the first evaluation.
        query_prompt: Put before every query.
        query_prompt_name: Name of one of the model's prompts for queries.
        corpus_prompt: Put before every document.
        corpus_prompt_name: Name of one of the model's prompts for documents.
        write_predictions: Whether a call with `output_path` writes the hits as JSON lines, one file a function.
        measures: More measures by name, such as "r_cap@10" or "rprec"; see `measures.Measure`.
        ties: "id" orders documents with equal scores by their ids; "expected" takes the mean over all their orders.
        ignore_identical_ids: Leave the document out that has the query's own id, as BEIR does.
        ignore_missing_docs: Leave relevant documents out that are not in the corpus; else they count as missed.
        keep_per_query: Whether to keep one value for each query; see `Evaluator`.

    Raises:
        ValueError: When there is nothing to evaluate, or an option is not one of those allowed.
    """

    default_batch_size = 32

    def __init__(
        self,
        queries: Mapping[str, Any],
        corpus: Mapping[str, Any],
        relevant_docs: RelevantDocs,
        corpus_chunk_size: int = 50000,
        mrr_at_k: Sequence[int] = (10,),
        ndcg_at_k: Sequence[int] = (10,),
        accuracy_at_k: Sequence[int] = (1, 3, 5, 10),
        precision_recall_at_k: Sequence[int] = (1, 3, 5, 10),
        map_at_k: Sequence[int] = (100,),
        show_progress_bar: bool | None = False,
        batch_size: int = 32,
        name: str = "",
        write_csv: bool = True,
        truncate_dim: int | None = None,
        score_functions: Mapping[str, str | Callable[[Tensor, Tensor], Tensor]] | None = None,
        main_score_function: str | SimilarityFunction | None = None,
        query_prompt: str | None = None,
        query_prompt_name: str | None = None,
        corpus_prompt: str | None = None,
        corpus_prompt_name: str | None = None,
        write_predictions: bool = False,
        *,
        measures: Sequence[str | Measure] = (),
        ties: str = "id",
        ignore_identical_ids: bool = False,
        ignore_missing_docs: bool = False,
        keep_per_query: bool = False,
    ) -> None:
        super().__init__(
            mrr_at_k=mrr_at_k,
            ndcg_at_k=ndcg_at_k,
            accuracy_at_k=accuracy_at_k,
            precision_recall_at_k=precision_recall_at_k,
            map_at_k=map_at_k,
            score_functions=score_functions,
            main_score_function=main_score_function,
            measures=measures,
            name=name,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            write_csv=write_csv,
            truncate_dim=truncate_dim,
            keep_per_query=keep_per_query,
        )
        if corpus_chunk_size < 1:
            raise ValueError(f"corpus_chunk_size={corpus_chunk_size}: at least 1.")
        if ties not in ("id", "expected"):
            raise ValueError(f"ties={ties!r}: 'id' or 'expected'.")
        if ties == "expected" and ignore_identical_ids:
            raise ValueError("ties='expected' and ignore_identical_ids=True cannot be combined.")
        self.relevant_docs = relevant_docs
        self.corpus_chunk_size = corpus_chunk_size
        self.query_prompt, self.query_prompt_name = query_prompt, query_prompt_name
        self.corpus_prompt, self.corpus_prompt_name = corpus_prompt, corpus_prompt_name
        self.write_predictions = write_predictions
        self.ties = ties
        self.ignore_identical_ids = ignore_identical_ids
        self.ignore_missing_docs = ignore_missing_docs
        stem = "_".join(["Information-Retrieval_evaluation", *filter(None, [name])])
        self.csv_file = f"{stem}_results.csv"
        self.predictions_file = f"{stem}_predictions.jsonl"
        self._hits: dict[str, Hits] = {}
        self._given: tuple[Any, Any] = (None, None)
        self._read(queries, corpus)

    def _read(self, queries: Mapping[str, Any], corpus: Mapping[str, Any]) -> None:
        self.corpus_ids = list(corpus)
        self.corpus = [corpus[doc] for doc in self.corpus_ids]
        # Hits come in ascending position when scores tie, so ascending ids make the order that metrics are defined by.
        self._order = _ascending(self.corpus_ids)
        self._sorted_ids = [self.corpus_ids[i] for i in self._order]
        self._sorted_corpus = [self.corpus[i] for i in self._order]
        self._positions = {doc: position for position, doc in enumerate(self._sorted_ids)}
        known = self._positions if self.ignore_missing_docs else None
        self.queries_ids = [
            query
            for query in queries
            if query in self.relevant_docs
            and any(known is None or doc in known for doc in gains_of(self.relevant_docs[query]))
        ]
        self.queries = [queries[query] for query in self.queries_ids]
        if not self.corpus:
            raise ValueError(f"{self.label}: the corpus is empty.")
        if not self.queries:
            raise ValueError(
                f"{self.label}: none of the {len(queries)} queries has a relevant document in relevant_docs; are its "
                "keys query ids, of the same type as those of queries?"
            )
        self._judgements = Judgements.read(
            self.relevant_docs, self.queries_ids, self._positions, ignore_missing=self.ignore_missing_docs
        )
        self._warn_of_gaps(len(queries))

    def _warn_of_gaps(self, num_queries: int) -> None:
        left_out = num_queries - len(self.queries)
        if left_out:
            message = "%s: %d of %d queries have no relevant document and are left out."
            logger.warning(message, self.label, left_out, num_queries)
        missing = self._judgements.num_missing
        if missing:
            total = sum(len(gains_of(self.relevant_docs[query])) for query in self.queries_ids)
            counted = "count as missed (ignore_missing_docs=True drops them)"
            what = "are left out" if self.ignore_missing_docs else counted
            logger.warning(
                "%s: %d of %d relevant documents are not in the corpus; they %s.", self.label, missing, total, what
            )

    def __call__(
        self,
        model: Any,
        output_path: str | None = None,
        epoch: float = -1,
        steps: int = -1,
        corpus_model: Any = None,
        corpus_embeddings: Any = None,
    ) -> dict[str, float]:
        """Evaluate a model.

        Args:
            model: The model; see `Evaluator`.
            output_path: Folder for CSV and predictions; None writes nothing.
            epoch: Passes over the training data done; -1 outside of training.
            steps: Optimizer steps done; -1 at the end of an epoch.
            corpus_model: Another model that encodes the documents; None takes `model`.
            corpus_embeddings: (N, d) embeddings of the documents in the order of the corpus given; None encodes them.

        Returns:
            Value by key. `primary_metric` is one of the keys.

        Raises:
            TypeError: When this task makes no sense for this kind of model.
            ValueError: When there are more or fewer embeddings than documents.
        """
        if corpus_embeddings is not None:
            corpus_embeddings = self._table(corpus_embeddings)
            if len(corpus_embeddings) != len(self.corpus):
                raise ValueError(
                    f"{self.label}: {len(corpus_embeddings)} corpus_embeddings for {len(self.corpus)} documents."
                )
            order = torch.tensor(self._order, device=corpus_embeddings.device)
            corpus_embeddings = take(corpus_embeddings, order)
        self._given = (corpus_model, corpus_embeddings)
        try:
            return super().__call__(model, output_path, epoch, steps)
        finally:
            self._given = (None, None)

    # -- keys --------------------------------------------------------------------------------------------------------

    def title(self, when: str) -> str:
        """The line logged before it runs."""
        return f"Information Retrieval Evaluation of the model on the {self.name} dataset{when}:"

    def log_lines(self, scorer: Scorer, metrics: Mapping[str, float]) -> Sequence[str]:
        """Sizes, then a line a measure: shares in percent, the others as they are."""
        lines = [f"Queries: {len(self.queries)}", f"Corpus: {len(self.corpus)}\n"]
        places = {name: place for place, name in enumerate(_LOG_ORDER)}
        wanted = sorted(self.wanted(), key=lambda one: places.get(one[0], len(places)))
        for function in sorted(self.functions(scorer)):
            lines.append(f"Score-Function: {function}")
            lines += [metric_line(one, metrics[key_of(function, one)]) for one in wanted]
        return lines

    # -- values ------------------------------------------------------------------------------------------------------

    def wants(self, scorer: Scorer) -> list[Wish]:
        """Queries, and the corpus block by block; nothing of the corpus when it is given or another model's."""
        queries = Wish(self.queries, self._query_options())
        if self._given != (None, None):
            return [queries]
        return [queries, Wish(self._sorted_corpus, self._corpus_options(), streams=True)]

    def score(self, scorer: Scorer) -> dict[str, float]:
        """Search every query in the corpus and measure the hits."""
        depth = max([k for _, k in self.wanted() if k is not None] + [1])
        if any(k is None for _, k in self.wanted()):
            depth = len(self.corpus)
        judged = self._judgements
        present = judged.position >= 0
        corpus_model, corpus_embeddings = self._given
        corpus: Any = self._sorted_corpus if corpus_embeddings is None else corpus_embeddings
        results = scorer.search(
            self.queries,
            corpus,
            depth + self.ignore_identical_ids,
            self.functions(scorer),
            query_options=self._query_options(),
            corpus_options=self._corpus_options(),
            corpus_chunk_size=self.corpus_chunk_size,
            track_ties=self.ties == "expected",
            watch=(judged.query[present], judged.position[present]) if self.ties == "expected" else None,
            **({} if corpus_model is None else {"corpus_model": corpus_model}),
        )
        each: dict[str, Tensor] = {}
        self._hits = {}
        for function, result in results.items():
            hits = without_own(result.hits, self._own_positions(), depth) if self.ignore_identical_ids else result.hits
            if self.write_predictions:
                self._hits[function] = hits
            per_query = measure(hits, result, judged, self.wanted(), ties=self.ties)
            if result.num_nonfinite:
                warn_nonfinite(self.label, result.num_nonfinite, len(self.queries), "queries' scores")
                per_query = {one: torch.full_like(values, math.nan) for one, values in per_query.items()}
            else:
                warn_if_collapsed(self.label, hits, len(self.corpus))
            each.update({key_of(function, one): values for one, values in per_query.items()})
        self.keep(self.queries_ids, each)
        return {key: float(values.mean()) for key, values in each.items()}

    def write_extra(self, output_path: Path, scorer: Scorer) -> None:
        """Write the hits as JSON lines: `query_id`, `query`, and `results` of `corpus_id` and `score`."""
        for function, hits in self._hits.items():
            stem = self.predictions_file.removesuffix(".jsonl")
            path = output_path / self.file_name(f"{stem}_{function}.jsonl")
            write_predictions(path, self.queries_ids, self.queries, self._sorted_ids, hits)
        self._hits = {}

    def _table(self, embeddings: Any) -> Any:
        """Embeddings that were given, as the scorer takes them."""
        return torch.as_tensor(embeddings)

    def _query_options(self) -> EncodeOptions:
        return self.options(task="query", prompt=self.query_prompt, prompt_name=self.query_prompt_name)

    def _corpus_options(self) -> EncodeOptions:
        return self.options(task="document", prompt=self.corpus_prompt, prompt_name=self.corpus_prompt_name)

    def _own_positions(self) -> Tensor:
        """(Q,) position of the document with the query's own id; -2 where there is none."""
        return torch.tensor([self._positions.get(query, -2) for query in self.queries_ids])

    def get_config_dict(self) -> dict[str, Any]:
        """Settings that the model card shows."""
        names = ("truncate_dim", "query_prompt", "query_prompt_name", "corpus_prompt", "corpus_prompt_name")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


def _ascending(ids: Sequence[Any]) -> list[int]:
    """Places of ids in their ascending order; ids of several types stand type by type."""
    try:
        return sorted(range(len(ids)), key=ids.__getitem__)
    except TypeError:
        return sorted(range(len(ids)), key=lambda place: (type(ids[place]).__name__, ids[place]))
