"""Retrieval: which documents of a corpus a query finds."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers.util.similarity import SimilarityFunction
from torch import Tensor

from ..kernels.expected import expected_ranking_metrics
from ..kernels.ranking import ranking_metrics, relevance_of
from ..kernels.topk import Hits
from ..measures import Measure
from ..scorers import Scorer, SearchResult
from ..writers.files import replace_file, safe_name
from .base import Evaluator, warn_nonfinite
from .judgements import Judgements, RelevantDocs, gains_of

logger = logging.getLogger(__name__)

_HEADERS = {"accuracy": "Accuracy", "precision": "Precision", "recall": "Recall", "mrr": "MRR", "ndcg": "NDCG", "map": "MAP"}


class InformationRetrievalEvaluator(Evaluator):
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
        score_functions: Similarity by name: functions of (Q, d) queries and (N, d) documents returning (Q, N) scores, or
            names of bundled ones. None takes the model's own similarity, on every call anew.
        main_score_function: The function that decides; None takes the one that is best in the first evaluation.
        query_prompt: Put before every query.
        query_prompt_name: Name of one of the model's prompts for queries.
        corpus_prompt: Put before every document.
        corpus_prompt_name: Name of one of the model's prompts for documents.
        write_predictions: Whether a call with `output_path` writes the hits as JSON lines, one file a function.
        measures: More measures by name, such as "r_cap@10" or "rprec"; see `measures.Measure`.
        ties: "id" orders documents with equal scores by their ids; "expected" takes the mean over all their orders.
        ignore_identical_ids: Leave the document out that has the query's own id, as BEIR does.
        ignore_missing_docs: Leave relevant documents out that are not in the corpus, instead of counting them as missed.

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
    ) -> None:
        super().__init__(
            name=name,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            write_csv=write_csv,
            truncate_dim=truncate_dim,
        )
        if corpus_chunk_size < 1:
            raise ValueError(f"corpus_chunk_size={corpus_chunk_size}: at least 1.")
        if ties not in ("id", "expected"):
            raise ValueError(f"ties={ties!r}: 'id' or 'expected'.")
        if ties == "expected" and ignore_identical_ids:
            raise ValueError("ties='expected' and ignore_identical_ids=True cannot be combined.")
        self.mrr_at_k = list(mrr_at_k)
        self.ndcg_at_k = list(ndcg_at_k)
        self.accuracy_at_k = list(accuracy_at_k)
        self.precision_recall_at_k = list(precision_recall_at_k)
        self.map_at_k = list(map_at_k)
        self.measures = [Measure.parse(measure) if isinstance(measure, str) else measure for measure in measures]
        self.relevant_docs = relevant_docs
        self.corpus_chunk_size = corpus_chunk_size
        self.score_functions = dict(score_functions) if score_functions else None
        self.main_score_function = SimilarityFunction(main_score_function) if main_score_function else None
        self.query_prompt, self.query_prompt_name = query_prompt, query_prompt_name
        self.corpus_prompt, self.corpus_prompt_name = corpus_prompt, corpus_prompt_name
        self.write_predictions = write_predictions
        self.ties = ties
        self.ignore_identical_ids = ignore_identical_ids
        self.ignore_missing_docs = ignore_missing_docs
        self.csv_file = "_".join(["Information-Retrieval_evaluation", *filter(None, [name]), "results.csv"])
        self.predictions_file = "_".join(["Information-Retrieval_evaluation", *filter(None, [name]), "predictions.jsonl"])
        self._main_function: str | None = None
        self._hits: dict[str, Hits] = {}
        self._read(queries, corpus)

    def _read(self, queries: Mapping[str, Any], corpus: Mapping[str, Any]) -> None:
        self.corpus_ids = list(corpus)
        self.corpus = [corpus[doc] for doc in self.corpus_ids]
        # Hits come in ascending position when scores tie, so ascending ids make the order that metrics are defined by.
        order = sorted(range(len(self.corpus_ids)), key=self.corpus_ids.__getitem__)
        self._sorted_ids = [self.corpus_ids[i] for i in order]
        self._sorted_corpus = [self.corpus[i] for i in order]
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
                f"{self.label}: none of the {len(queries)} queries has a relevant document in relevant_docs; are its keys "
                "query ids, of the same type as those of queries?"
            )
        self._judgements = Judgements.read(
            self.relevant_docs, self.queries_ids, self._positions, ignore_missing=self.ignore_missing_docs
        )
        self._warn_of_gaps(len(queries))

    def _warn_of_gaps(self, num_queries: int) -> None:
        left_out = num_queries - len(self.queries)
        if left_out:
            logger.warning("%s: %d of %d queries have no relevant document and are left out.", self.label, left_out, num_queries)
        missing = self._judgements.num_missing
        if missing:
            total = sum(len(gains_of(self.relevant_docs[query])) for query in self.queries_ids)
            what = "are left out" if self.ignore_missing_docs else "count as missed (ignore_missing_docs=True drops them)"
            logger.warning(
                "%s: %d of %d relevant documents are not in the corpus; they %s.", self.label, missing, total, what
            )

    # -- keys --------------------------------------------------------------------------------------------------------

    def _functions(self, scorer: Scorer) -> dict[str, str | Callable[[Tensor, Tensor], Tensor]]:
        return self.score_functions or {scorer.similarity_fn_name: scorer.similarity_fn_name}

    def _wanted(self) -> list[tuple[str, int | None]]:
        cutoffs = {
            "accuracy": self.accuracy_at_k,
            "precision": self.precision_recall_at_k,
            "recall": self.precision_recall_at_k,
            "ndcg": self.ndcg_at_k,
            "mrr": self.mrr_at_k,
            "map": self.map_at_k,
        }
        wanted: list[tuple[str, int | None]] = [(name, k) for name, ks in cutoffs.items() for k in ks]
        wanted += [(measure.name, measure.cutoff) for measure in self.measures]
        return list(dict.fromkeys(wanted))

    def metric_keys(self, scorer: Scorer) -> list[str]:
        """`<function>_<measure>@<k>` for every function, measure and cutoff."""
        return [_key(name, wanted) for name in self._functions(scorer) for wanted in self._wanted()]

    def primary_key(self, scorer: Scorer, metrics: Mapping[str, float] | None = None) -> str:
        """NDCG at its largest cutoff, by the main function."""
        names = sorted(self._functions(scorer))
        cutoff = max(self.ndcg_at_k)
        if self.main_score_function is not None:
            return f"{self.main_score_function.value}_ndcg@{cutoff}"
        if self._main_function not in names:
            self._main_function = None
        if metrics is not None and self._main_function is None:
            values = {name: metrics[f"{name}_ndcg@{cutoff}"] for name in names}
            self._main_function = max(names, key=lambda name: -math.inf if math.isnan(values[name]) else values[name])
        return f"{self._main_function or names[0]}_ndcg@{cutoff}"

    def csv_columns(self, scorer: Scorer) -> list[tuple[str, str]]:
        """Columns in sentence-transformers' order, then those of `measures`."""
        wanted: list[tuple[str, int | None]] = [("accuracy", k) for k in self.accuracy_at_k]
        wanted += [(name, k) for k in self.precision_recall_at_k for name in ("precision", "recall")]
        wanted += [("mrr", k) for k in self.mrr_at_k]
        wanted += [("ndcg", k) for k in self.ndcg_at_k]
        wanted += [("map", k) for k in self.map_at_k]
        wanted += [one for one in self._wanted() if one not in wanted]
        return [
            (f"{function}-{_label(one, _HEADERS)}", _key(function, one))
            for function in sorted(self._functions(scorer))
            for one in dict.fromkeys(wanted)
        ]

    def title(self, when: str) -> str:
        """The line logged before it runs."""
        return f"Information Retrieval Evaluation of the model on the {self.name} dataset{when}:"

    def log_lines(self, scorer: Scorer, metrics: Mapping[str, float]) -> Sequence[str]:
        """Sizes, then a line a measure: shares in percent, the others as they are."""
        lines = [f"Queries: {len(self.queries)}", f"Corpus: {len(self.corpus)}\n"]
        columns = self.csv_columns(scorer)
        for function in sorted(self._functions(scorer)):
            lines.append(f"Score-Function: {function}")
            for header, key in columns:
                if key.startswith(f"{function}_"):
                    label = header.removeprefix(f"{function}-")
                    share = label.startswith(("Accuracy", "Precision", "Recall"))
                    lines.append(f"{label}: {metrics[key] * 100:.2f}%" if share else f"{label}: {metrics[key]:.4f}")
        return lines

    # -- values ------------------------------------------------------------------------------------------------------

    def score(self, scorer: Scorer) -> dict[str, float]:
        """Search every query in the corpus and measure the hits."""
        depth = max([k for _, k in self._wanted() if k is not None] + [1])
        if any(k is None for _, k in self._wanted()):
            depth = len(self.corpus)
        judged = self._judgements
        present = judged.position >= 0
        results = scorer.search(
            self.queries,
            self._sorted_corpus,
            depth + self.ignore_identical_ids,
            self._functions(scorer),
            query_options=self.options(task="query", prompt=self.query_prompt, prompt_name=self.query_prompt_name),
            corpus_options=self.options(task="document", prompt=self.corpus_prompt, prompt_name=self.corpus_prompt_name),
            corpus_chunk_size=self.corpus_chunk_size,
            track_ties=self.ties == "expected",
            watch=(judged.query[present], judged.position[present]) if self.ties == "expected" else None,
        )
        metrics: dict[str, float] = {}
        self._hits = {}
        for function, result in results.items():
            hits = self._without_identical(result.hits, depth) if self.ignore_identical_ids else result.hits
            if self.write_predictions:
                self._hits[function] = hits
            per_query = self._per_query(hits, result)
            if result.num_nonfinite:
                total = len(self.queries) + len(self.corpus)
                warn_nonfinite(self.label, result.num_nonfinite, total, "queries and documents have scores that")
                per_query = {one: torch.full_like(values, math.nan) for one, values in per_query.items()}
            else:
                self._warn_if_collapsed(hits)
            metrics.update({_key(function, one): float(values.mean()) for one, values in per_query.items()})
        return metrics

    def _per_query(self, hits: Hits, result: SearchResult) -> dict[tuple[str, int | None], Tensor]:
        judged, wanted = self._judgements, self._wanted()
        relevance = relevance_of(hits.positions.cpu(), judged.query, judged.position, judged.gains)
        if self.ties == "id":
            return ranking_metrics(relevance, judged.num_relevant, wanted, ideal_gains=judged.ideal_gains)
        assert result.num_tied is not None and result.watched_scores is not None
        present = judged.position >= 0
        last = hits.scores[:, -1].cpu()
        tied = torch.zeros(len(present), dtype=torch.bool)
        tied[present] = result.watched_scores.cpu() == last[judged.query[present]]
        return expected_ranking_metrics(
            hits.scores.cpu(),
            relevance,
            judged.num_relevant,
            wanted,
            boundary_size=result.num_tied.cpu(),
            boundary_relevant=judged.per_query(tied).long(),
            boundary_gain=judged.per_query(tied * judged.gains),
            boundary_exponential_gain=judged.per_query(tied * (2.0**judged.gains - 1)),
            ideal_gains=judged.ideal_gains,
        )

    def _without_identical(self, hits: Hits, depth: int) -> Hits:
        own = torch.tensor([self._positions.get(query, -2) for query in self.queries_ids], device=hits.positions.device)
        # A stable sort moves the document with the query's own id behind the others, which keep their order.
        order = (hits.positions == own[:, None]).int().sort(dim=1, stable=True).indices
        positions, scores = hits.positions.gather(1, order), hits.scores.gather(1, order)
        is_own = positions == own[:, None]
        positions = positions.masked_fill(is_own, -1)
        scores = scores.masked_fill(is_own, -math.inf)
        return Hits(scores[:, :depth], positions[:, :depth])

    def _warn_if_collapsed(self, hits: Hits) -> None:
        if hits.scores.shape[1] < 2 or len(self.corpus) < 2:
            return
        tied = int((hits.scores[:, 0] == hits.scores[:, 1]).sum())
        if tied * 2 > len(self.queries):
            logger.warning(
                "%s: the best score is shared by several documents for %d of %d queries: the model has collapsed, or the "
                "corpus repeats itself. Metrics then depend on the order of ids (ties='expected' does not).",
                self.label,
                tied,
                len(self.queries),
            )

    def write_extra(self, output_path: Path, scorer: Scorer) -> None:
        """Write the hits as JSON lines: `query_id`, `query`, and `results` of `corpus_id` and `score`."""
        for function, hits in self._hits.items():
            path = output_path / safe_name(self.predictions_file.replace(".jsonl", f"_{function}.jsonl"))
            lines = []
            rows = zip(self.queries_ids, self.queries, hits.positions.tolist(), hits.scores.tolist(), strict=True)
            for query_id, query, positions, scores in rows:
                found = [
                    {"corpus_id": self._sorted_ids[position], "score": score}
                    for position, score in zip(positions, scores, strict=True)
                    if position >= 0
                ]
                lines.append(json.dumps({"query_id": query_id, "query": query, "results": found}))
            replace_file(path, "\n".join(lines) + "\n")

    def get_config_dict(self) -> dict[str, Any]:
        """Settings that the model card shows."""
        names = ("truncate_dim", "query_prompt", "query_prompt_name", "corpus_prompt", "corpus_prompt_name")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


def _label(measure: tuple[str, int | None], names: Mapping[str, str] | None = None) -> str:
    name, cutoff = measure
    name = name if names is None else names.get(name, name)
    return name if cutoff is None else f"{name}@{cutoff}"


def _key(function: str, measure: tuple[str, int | None]) -> str:
    return f"{function}_{_label(measure)}"
