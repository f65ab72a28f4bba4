"""Retrieval: which documents of a corpus a query finds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers.util.similarity import SimilarityFunction
from torch import Tensor

from ..encoding import EncodeOptions
from ..encoding.tables import take
from ..kernels.formulas import MEASURES
from ..kernels.quantise import Precision, check_precision
from ..kernels.topk import Hits
from ..measures import Measure
from ..scorers import Form, Scorer, SearchResult, Wish
from .base import warn_nonfinite
from .conventions import Conventions, checked_formats
from .corpus_search import CorpusSearch
from .hits import measure, warn_if_collapsed
from .inputs import check_dense_precision
from .judgements import JudgedPairs, RelevantDocs
from .retrieval_files import FromFiles
from .retrieval_metrics import RetrievalMetrics, key_of, metric_line
from .retrieval_output import RetrievalOutput
from .retrieval_set import RetrievalSet, Subset
from .worst import Measured

_LOG_ORDER = ("accuracy", "precision", "recall", "mrr", "ndcg", "map")


class InformationRetrievalEvaluator(FromFiles, RetrievalMetrics):
    """Accuracy, precision, recall, MRR, nDCG and MAP of the top documents for each query.

    Every metric is a mean over the queries that have a relevant document, in [0, 1], higher is better; definitions are
    those of sentence-transformers (MAP@k divides by min(k, relevant), precision@k by k). Documents with equal scores
    stand in ascending order of their ids. With gains in `relevant_docs`, nDCG is graded with linear gain as
    trec_eval's, and all other metrics count gains above 0. `from_beir`, `from_trec` and `from_datasets` read files.

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
        write_predictions: Whether a call with `output_path` writes the hits, one file a function: True or "jsonl" as
            sentence-transformers does, "trec" as a run of TREC, or both in a list.
        measures: More measures by name, such as "r_cap@10", "rprec", "bpref" or "judged@10"; see `measures.Measure`.
        ties: "id" orders documents with equal scores by their ids; "expected" takes the mean over all their orders.
        ignore_identical_ids: Leave the document out that has the query's own id, as BEIR does.
        ignore_missing_docs: Leave relevant documents out that are not in the corpus; else they count as missed.
        ignore_unjudged: Leave documents out that nobody judged for the query (condensed lists); the whole corpus is
            ranked then, whatever the cutoffs.
        gain: What a document of gain g adds to nDCG: "linear" g, "exponential" 2**g - 1.
        relevance_threshold: Least gain at which all measures but nDCG take a document for relevant; None for any
            above 0. Queries without such a document are left out.
        precision: Quantise the normalised embeddings, as a vector store does: "int8", "uint8", "binary", "ubinary" or
            "float32"; None leaves them as they are. Ranges are those of the first 16,384 documents by id.
        max_queries: Take so many queries at most, a fixed sample.
        max_corpus: Take so many documents at most: those relevant to the queries, and a fixed sample of the others.
        seed: Another one makes another sample.
        num_worst: With `output_path`, write so many of the worst queries by the metric that decides, with what was
            found and missed, and which queries are better or worse than in the evaluation before; 0 writes none.
        keep_per_query: Whether to keep one value for each query; see `Evaluator`.
        truncate_dims: Several sizes to measure from one encoding, such as [384, 128]; see `Evaluator`.

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
        write_predictions: bool | str | Sequence[str] = False,
        *,
        measures: Sequence[str | Measure] = (),
        ties: str = "id",
        ignore_identical_ids: bool = False,
        ignore_missing_docs: bool = False,
        ignore_unjudged: bool = False,
        gain: str = "linear",
        relevance_threshold: float | None = None,
        precision: Precision | None = None,
        max_queries: int | None = None,
        max_corpus: int | None = None,
        seed: int = 0,
        num_worst: int = 0,
        keep_per_query: bool = False,
        truncate_dims: Sequence[int] | None = None,
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
            truncate_dims=truncate_dims,
        )
        if corpus_chunk_size < 1:
            raise ValueError(f"corpus_chunk_size={corpus_chunk_size}: at least 1.")
        if precision is not None:
            check_precision(precision)
        self.conventions = Conventions(
            ties, gain, relevance_threshold, ignore_identical_ids, ignore_missing_docs, ignore_unjudged
        )
        self.conventions.check(self.label, self.wanted())
        self.relevant_docs = relevant_docs
        self.corpus_chunk_size = corpus_chunk_size
        self.query_prompt, self.query_prompt_name = query_prompt, query_prompt_name
        self.corpus_prompt, self.corpus_prompt_name = corpus_prompt, corpus_prompt_name
        self.write_predictions = write_predictions
        self.precision = precision
        stem = "_".join(["Information-Retrieval_evaluation", *filter(None, [name])])
        self.csv_file = f"{stem}_results.csv"
        self.predictions_file = f"{stem}_predictions.jsonl"
        subset = Subset(max_queries, max_corpus, seed)
        self.data = RetrievalSet.read(self.label, queries, corpus, relevant_docs, self.conventions, subset)
        self.conventions.check_gain(self.label, self.wanted(), self.data.judged.largest_gain)
        self.queries_ids, self.queries = self.data.query_ids, self.data.queries
        self.corpus_ids, self.corpus = self.data.corpus_ids, self.data.corpus
        self._pairs: JudgedPairs | None = None
        if ignore_unjudged or any(MEASURES[measure].needs_judged for measure, _ in self.wanted()):
            self._pairs = JudgedPairs.read(relevant_docs, self.queries_ids, self.data.positions, self.conventions)
        formats = checked_formats(write_predictions)
        self._output = RetrievalOutput(self.data, relevant_docs, self.conventions, formats, num_worst)
        self._given: tuple[Any, Any] = (None, None)
        self._found: dict[str, SearchResult] | None = None
        self._hits: dict[str, Hits] = {}
        self._each: dict[str, Tensor] = {}

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
            order = torch.tensor(self.data.order, device=corpus_embeddings.device)
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

    def scorer(self, model: Any) -> Scorer:
        """The model behind the interface that tasks use.

        Raises:
            TypeError: When this task, or its `precision`, makes no sense for this kind of model.
        """
        scorer = super().scorer(model)
        check_dense_precision(self.label, self.precision, scorer)
        return scorer

    def wants(self, scorer: Scorer) -> list[Wish]:
        """Queries, and the corpus block by block; nothing of the corpus when it is given or another model's."""
        queries = Wish(self.queries, self._query_options())
        if self._given != (None, None):
            return [queries]
        return [queries, Wish(self.data.sorted_corpus, self._corpus_options(), streams=True)]

    def prepare_sizes(self, scorer: Scorer) -> None:
        """Search in all sizes while the corpus passes once."""
        forms = [Form(dim, self.precision) for dim in self.truncate_dims]
        results = self._search().results(scorer, self.functions(scorer), forms)
        for one, found in zip(self.at_sizes, results, strict=True):
            one._found = found

    def score(self, scorer: Scorer) -> dict[str, float]:
        """Search every query in the corpus and measure the hits."""
        search, found = self._search(), self._found
        self._found = None
        if found is None:
            [found] = search.results(scorer, self.functions(scorer), [Form(None, self.precision)])
        self._each, self._hits = {}, {}
        for function, result in found.items():
            hits = search.looked_at(result)
            per_query = measure(hits, result, self.data.judged, self.wanted(), self.conventions, self._pairs)
            if result.num_nonfinite:
                warn_nonfinite(self.label, result.num_nonfinite, len(self.queries), "queries' scores")
                per_query = {one: torch.full_like(values, math.nan) for one, values in per_query.items()}
            else:
                warn_if_collapsed(self.label, result.hits, len(self.corpus))
            if self._output.is_wanted:
                self._hits[function] = hits
            self._each.update({key_of(function, one): values for one, values in per_query.items()})
        self.keep(self.queries_ids, self._each)
        return {key: float(values.mean()) for key, values in self._each.items()}

    def _search(self) -> CorpusSearch:
        return CorpusSearch(
            self.data,
            self._pairs,
            self.conventions,
            self.wanted(),
            self._query_options(),
            self._corpus_options(),
            self.corpus_chunk_size,
            *self._given,
        )

    def write_extra(self, output_path: Path, scorer: Scorer, epoch: float, steps: int) -> None:
        """Write the hits of each function, and the worst queries, as far as they are asked for."""
        if not self._output.is_wanted:
            return
        stem = self.predictions_file.removesuffix("predictions.jsonl")
        key, function = self.primary_key(scorer), self.deciding_function(scorer)
        values = dict(zip(self.queries_ids, self._each[key].tolist(), strict=True))
        self._output.write(
            lambda end: output_path / self.file_name(f"{stem}{end}"),
            self._hits,
            function,
            Measured(self.logged_key(key), values, epoch, steps),
            self.name or "retrieval",
        )

    def _table(self, embeddings: Any) -> Any:
        """Embeddings that were given, as the scorer takes them."""
        if isinstance(embeddings, (list, tuple)) and embeddings:
            return torch.stack([torch.as_tensor(one) for one in embeddings])
        return torch.as_tensor(embeddings)

    def _query_options(self) -> EncodeOptions:
        return self.options(task="query", prompt=self.query_prompt, prompt_name=self.query_prompt_name)

    def _corpus_options(self) -> EncodeOptions:
        return self.options(task="document", prompt=self.corpus_prompt, prompt_name=self.corpus_prompt_name)

    def get_config_dict(self) -> dict[str, Any]:
        """Settings that the model card shows."""
        names = (
            "truncate_dim",
            "precision",
            "query_prompt",
            "query_prompt_name",
            "corpus_prompt",
            "corpus_prompt_name",
        )
        return {name: value for name in names if (value := getattr(self, name)) is not None}
