"""Tasks that rank documents for queries, for sparse models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from sentence_transformers import util
from sentence_transformers.util.similarity import SimilarityFunction
from torch import Tensor

from ..kernels.sparsity import Usage, pooled
from ..measures import Measure
from ..scorers import Scorer, Similarity, SparseScorer
from .information_retrieval import InformationRetrievalEvaluator
from .judgements import RelevantDocs
from .nano_beir import NanoBEIREvaluator
from .reranking import RerankingEvaluator
from .sparsity import SEARCH_SIDES, Sparsity, by_side, sparsity_of, usage_values


class _SearchSparsity(Sparsity):
    """Sparsity of queries and documents, and what comparing them costs."""

    sides: ClassVar[tuple[str, ...]] = SEARCH_SIDES

    @property
    def sparsity_keys(self) -> list[str]:
        """Keys of what is added, in sentence-transformers' order."""
        return [*super().sparsity_keys, "avg_flops"]

    def sparsity_lines(self, metrics: Mapping[str, float]) -> list[str]:
        """A line a side, and one for the cost."""
        return [*super().sparsity_lines(metrics), f"Average FLOPS: {metrics['avg_flops']:.2f}"]


class SparseInformationRetrievalEvaluator(_SearchSparsity, InformationRetrievalEvaluator):
    """`InformationRetrievalEvaluator` for sparse models, with the sparsity of queries and documents.

    `avg_flops` is the mean number of columns that a query and a document have in common. All of it is counted while
    the corpus passes.

    Args:
        queries: Query text by id.
        corpus: Document text by id.
        relevant_docs: Relevant document ids by query id: a set, or `{document id: gain}`.
        corpus_chunk_size: Documents that are encoded at a time, >= 1; metrics do not depend on it.
        mrr_at_k: Cutoffs of MRR.
        ndcg_at_k: Cutoffs of nDCG; the largest one decides.
        accuracy_at_k: Cutoffs of accuracy.
        precision_recall_at_k: Cutoffs of precision and recall.
        map_at_k: Cutoffs of MAP.
        show_progress_bar: Whether encoding shows a bar.
        batch_size: Most texts a batch.
        name: Put before every metric.
        write_csv: Whether a call with `output_path` appends to the CSV.
        max_active_dims: Most components of an embedding that are not 0; None takes the model's own limit.
        score_functions: Similarity by name: names of bundled ones, or functions of (Q, V) queries and (B, V)
            documents, both sparse COO tensors, returning (Q, B) scores. None takes the model's own similarity.
        main_score_function: The function that decides; None takes the one that is best in the first evaluation.
        query_prompt: Put before every query.
        query_prompt_name: Name of one of the model's prompts for queries.
        corpus_prompt: Put before every document.
        corpus_prompt_name: Name of one of the model's prompts for documents.
        write_predictions: Whether a call with `output_path` writes the hits as JSON lines, one file a function.
        **settings: What `InformationRetrievalEvaluator` takes beyond these, by name; nothing about sizes or precision.

    Attributes:
        usage: How queries and documents used the vocabulary in the last evaluation; None before the first.
    """

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
        max_active_dims: int | None = None,
        score_functions: Mapping[str, str | Callable[[Tensor, Tensor], Tensor]] | None = None,
        main_score_function: str | SimilarityFunction | None = None,
        query_prompt: str | None = None,
        query_prompt_name: str | None = None,
        corpus_prompt: str | None = None,
        corpus_prompt_name: str | None = None,
        write_predictions: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(
            queries,
            corpus,
            relevant_docs,
            corpus_chunk_size=corpus_chunk_size,
            mrr_at_k=mrr_at_k,
            ndcg_at_k=ndcg_at_k,
            accuracy_at_k=accuracy_at_k,
            precision_recall_at_k=precision_recall_at_k,
            map_at_k=map_at_k,
            show_progress_bar=show_progress_bar,
            batch_size=batch_size,
            name=name,
            write_csv=write_csv,
            max_active_dims=max_active_dims,
            score_functions=score_functions,
            main_score_function=main_score_function,
            query_prompt=query_prompt,
            query_prompt_name=query_prompt_name,
            corpus_prompt=corpus_prompt,
            corpus_prompt_name=corpus_prompt_name,
            write_predictions=write_predictions,
            **settings,
        )
        self.usage: tuple[Usage, Usage] | None = None

    def sparsity(self, scorer: SparseScorer) -> dict[str, float]:
        """Of what the search met."""
        assert scorer.searched is not None
        self.usage = scorer.searched
        return usage_values(*self.usage)


class SparseNanoBEIREvaluator(_SearchSparsity, NanoBEIREvaluator):
    """`NanoBEIREvaluator` for sparse models; the aggregate of sparsity is that over the texts of all datasets.

    Args:
        dataset_names: Short names such as "msmarco", in upper or lower case; None takes all.
        dataset_id: A dataset of the Hugging Face Hub, or a local folder; see `NanoBEIREvaluator`.
        mrr_at_k: Cutoffs of MRR.
        ndcg_at_k: Cutoffs of nDCG; the largest one decides.
        accuracy_at_k: Cutoffs of accuracy.
        precision_recall_at_k: Cutoffs of precision and recall.
        map_at_k: Cutoffs of MAP.
        show_progress_bar: Whether bars are shown.
        batch_size: Most texts a batch.
        write_csv: Whether a call with `output_path` appends to the CSVs.
        max_active_dims: Most components of an embedding that are not 0; None takes the model's own limit.
        score_functions: See `SparseInformationRetrievalEvaluator`.
        main_score_function: See `SparseInformationRetrievalEvaluator`.
        aggregate_fn: Makes one value of those of the datasets.
        aggregate_key: What the aggregate is called.
        query_prompts: Put before every query: one text, or one for each of `dataset_names`.
        corpus_prompts: Put before every document: one text, or one for each of `dataset_names`.
        write_predictions: Whether a call with `output_path` writes the hits of each dataset as JSON lines.
        keep_per_query: Whether to keep one value for each query of each dataset; see `Evaluator`.
    """

    information_retrieval_class: ClassVar[type[InformationRetrievalEvaluator]] = SparseInformationRetrievalEvaluator

    def __init__(
        self,
        dataset_names: Sequence[str] | None = None,
        dataset_id: str = "sentence-transformers/NanoBEIR-en",
        mrr_at_k: Sequence[int] = (10,),
        ndcg_at_k: Sequence[int] = (10,),
        accuracy_at_k: Sequence[int] = (1, 3, 5, 10),
        precision_recall_at_k: Sequence[int] = (1, 3, 5, 10),
        map_at_k: Sequence[int] = (100,),
        show_progress_bar: bool = False,
        batch_size: int = 32,
        write_csv: bool = True,
        max_active_dims: int | None = None,
        score_functions: Mapping[str, str | Callable[[Tensor, Tensor], Tensor]] | None = None,
        main_score_function: str | SimilarityFunction | None = None,
        aggregate_fn: Callable[[list[float]], float] = np.mean,
        aggregate_key: str = "mean",
        query_prompts: str | Mapping[str, str] | None = None,
        corpus_prompts: str | Mapping[str, str] | None = None,
        write_predictions: bool = False,
        *,
        keep_per_query: bool = False,
    ) -> None:
        super().__init__(
            dataset_names,
            dataset_id,
            mrr_at_k=mrr_at_k,
            ndcg_at_k=ndcg_at_k,
            accuracy_at_k=accuracy_at_k,
            precision_recall_at_k=precision_recall_at_k,
            map_at_k=map_at_k,
            show_progress_bar=show_progress_bar,
            batch_size=batch_size,
            write_csv=write_csv,
            max_active_dims=max_active_dims,
            score_functions=score_functions,
            main_score_function=main_score_function,
            aggregate_fn=aggregate_fn,
            aggregate_key=aggregate_key,
            query_prompts=query_prompts,
            corpus_prompts=corpus_prompts,
            write_predictions=write_predictions,
            keep_per_query=keep_per_query,
        )

    def size_setting(self, truncate_dim: int | None) -> dict[str, int | None]:
        """The limit of active dimensions."""
        return {"max_active_dims": self.max_active_dims}

    def sparsity(self, scorer: SparseScorer) -> dict[str, float]:
        """Over the texts of all datasets."""
        used = [one.usage for one in self.evaluators if isinstance(one, SparseInformationRetrievalEvaluator)]
        each = [usage for usage in used if usage is not None]
        return usage_values(pooled(query for query, _ in each), pooled(corpus for _, corpus in each))


class SparseRerankingEvaluator(Sparsity, RerankingEvaluator):
    """`RerankingEvaluator` for sparse models, with the sparsity of queries and documents.

    Args:
        samples: A list (or a dictionary with any keys) of `{"query": ..., "positive": [...], "negative": [...]}`.
        at_k: Cutoff of MRR and nDCG, at least 1.
        name: Put before every metric.
        write_csv: Whether a call with `output_path` appends to the CSV.
        similarity_fct: One of "cosine", "dot", "euclidean", "manhattan", or a function. The default is cosine whatever
            the model's own similarity is; None takes the model's own. A function that is not one of
            sentence-transformers' is called for each sample with the query, a (V,) sparse COO tensor, and a list of
            those of the documents, and returns (n,) or (1, n) scores.
        batch_size: Most texts a batch.
        show_progress_bar: Whether encoding shows a bar.
        use_batched_encoding: As in `RerankingEvaluator`; with False the sparsity of documents is the mean over the
            samples, each with the mean over its documents, as in sentence-transformers.
        max_active_dims: Most components of an embedding that are not 0; None takes the model's own limit.
        mrr_at_k: Deprecated name of `at_k`.
        measures: More measures by name, such as "precision@5" or "rprec".
        keep_per_query: Whether to keep one value for each sample; see `Evaluator`.
    """

    sides: ClassVar[tuple[str, ...]] = SEARCH_SIDES

    def __init__(
        self,
        samples: Sequence[Mapping[str, Any]] | Mapping[Any, Mapping[str, Any]],
        at_k: int = 10,
        name: str = "",
        write_csv: bool = True,
        similarity_fct: Similarity | None = util.cos_sim,
        batch_size: int = 64,
        show_progress_bar: bool | None = False,
        use_batched_encoding: bool = True,
        max_active_dims: int | None = None,
        mrr_at_k: int | None = None,
        *,
        measures: Sequence[str | Measure] = (),
        keep_per_query: bool = False,
    ) -> None:
        super().__init__(
            samples,
            at_k=at_k,
            name=name,
            write_csv=write_csv,
            similarity_fct=similarity_fct,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            use_batched_encoding=use_batched_encoding,
            max_active_dims=max_active_dims,
            mrr_at_k=mrr_at_k,
            measures=measures,
            keep_per_query=keep_per_query,
        )

    def log_lines(self, scorer: Scorer, metrics: Mapping[str, float]) -> Sequence[str]:
        """Sizes, then a line a measure in percent, then a line a side."""
        lines = list(RerankingEvaluator.log_lines(self, scorer, metrics))
        # One a column, of which the last are no shares.
        return [*lines[: -len(self.sparsity_keys)], *self.sparsity_lines(metrics)]

    def sparsity(self, scorer: SparseScorer) -> dict[str, float]:
        """Of the queries, and of the documents of all samples."""
        lengths = None if self.use_batched_encoding else self._offsets.diff().tolist()
        query = sparsity_of(scorer, self._queries, self.options(task="query"))
        corpus = sparsity_of(scorer, self._documents, self.options(task="document"), lengths)
        return by_side({"query": query, "corpus": corpus})
