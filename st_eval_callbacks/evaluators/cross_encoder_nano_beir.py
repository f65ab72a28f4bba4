"""NanoBEIR for cross-encoders: the first hits of BM25, reranked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from ..scorers import Scorer, Wish
from .cross_encoder_reranking import (
    CrossEncoderRerankingEvaluator,
    measure_keys,
    measure_lines,
    with_gains,
)
from .dataset_rows import read_rows
from .nano_beir import DATASET_NAMES, check_dataset_names, read_judgements
from .over_datasets import OverDatasets
from .pairs import PairEvaluator

logger = logging.getLogger(__name__)

# Another task than that of the others: arguments for and against.
_LEFT_OUT = ("arguana", "touche2020")


class CrossEncoderNanoBEIREvaluator(OverDatasets, PairEvaluator):
    """Reranking metrics of each NanoBEIR dataset, and one aggregate of each metric over the datasets.

    Metrics of a dataset are those of `CrossEncoderRerankingEvaluator` under the name `Nano<Dataset>_R<rerank_k>`,
    aggregates have the name `NanoBEIR_R<rerank_k>_<aggregate_key>`; nDCG's aggregate decides.

    Args:
        dataset_names: Short names such as "msmarco", in upper or lower case; None takes all but "arguana" and
            "touche2020".
        dataset_id: A dataset of the Hugging Face Hub, or a local folder, with the subsets of `NanoBEIREvaluator` and
            "bm25" (`query-id`, `corpus-ids`: ids of hits, best first).
        rerank_k: Hits of BM25 to rerank, at least 1.
        at_k: Cutoff of MRR and nDCG, at least 1.
        always_rerank_positives: See `CrossEncoderRerankingEvaluator`.
        prompt_name: Key of the model's `prompts`.
        batch_size: Most pairs a batch.
        show_progress_bar: Whether bars are shown.
        write_csv: Whether a call with `output_path` appends to the CSVs: one a dataset, one of aggregates.
        aggregate_fn: Makes one value of those of the datasets.
        aggregate_key: What the aggregate is called.
        keep_per_query: Whether to keep one value for each query of each dataset; see `Evaluator`.

    Raises:
        ValueError: When a dataset is unknown, given twice, or cannot be loaded, or `rerank_k` is below 1.
    """

    def __init__(
        self,
        dataset_names: Sequence[str] | None = None,
        dataset_id: str = "sentence-transformers/NanoBEIR-en",
        rerank_k: int = 100,
        at_k: int = 10,
        always_rerank_positives: bool = True,
        prompt_name: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool = False,
        write_csv: bool = True,
        aggregate_fn: Callable[[list[float]], float] = np.mean,
        aggregate_key: str = "mean",
        *,
        keep_per_query: bool = False,
    ) -> None:
        settings: dict[str, Any] = {
            "prompt_name": prompt_name,
            "batch_size": batch_size,
            "show_progress_bar": show_progress_bar,
            "write_csv": write_csv,
            "keep_per_query": keep_per_query,
        }
        super().__init__(name=f"NanoBEIR_R{rerank_k}_{aggregate_key}", **settings)
        if rerank_k < 1:
            raise ValueError(f"{self.label}: rerank_k={rerank_k}, it must be at least 1.")
        all_names = [name for name in DATASET_NAMES if name not in _LEFT_OUT]
        self.dataset_names = all_names if dataset_names is None else list(dataset_names)
        check_dataset_names(self.dataset_names)
        self.dataset_id = dataset_id
        self.rerank_k = rerank_k
        self.at_k = at_k
        self.always_rerank_positives = always_rerank_positives
        self.aggregate_fn = aggregate_fn
        self.aggregate_key = aggregate_key
        if batch_size == self.default_batch_size:
            # That of the inner evaluators is another one, and theirs leaves batches to the lengths.
            settings["batch_size"] = CrossEncoderRerankingEvaluator.default_batch_size
        self.evaluators = [
            CrossEncoderRerankingEvaluator(
                _samples(dataset_id, f"Nano{DATASET_NAMES[dataset.lower()]}", rerank_k),
                at_k=at_k,
                always_rerank_positives=always_rerank_positives,
                name=f"Nano{DATASET_NAMES[dataset.lower()]}_R{rerank_k}",
                **settings,
            )
            for dataset in tqdm(self.dataset_names, desc="Loading NanoBEIR datasets", leave=False)
        ]
        self.csv_file = f"NanoBEIR_evaluation_{aggregate_key}_results.csv"
        self.primary_metric = self._named(f"ndcg@{at_k}")

    def wants(self, scorer: Scorer) -> list[Wish]:
        """Nothing beside what the evaluators of the datasets want."""
        return []

    def metric_keys(self, scorer: Scorer) -> list[str]:
        """`map`, `mrr@k` and `ndcg@k`, and those of BM25.

        Raises:
            ValueError: When the model has several labels.
        """
        self.check_one_label(scorer)
        return [*measure_keys(self.at_k), *(f"base_{key}" for key in measure_keys(self.at_k))]

    def primary_key(self, scorer: Scorer, metrics: Mapping[str, float] | None = None) -> str:
        """NDCG."""
        return f"ndcg@{self.at_k}"

    def csv_columns(self, scorer: Scorer) -> list[tuple[str, str]]:
        """`MAP`, `MRR@k` and `NDCG@k` of the reranked lists."""
        return [(key.upper(), key) for key in measure_keys(self.at_k)]

    def title(self, when: str) -> str:
        """The line logged before it runs."""
        return f"NanoBEIR Evaluation of the model on {self.dataset_names} dataset{when}:"

    def log_lines(self, scorer: Scorer, metrics: Mapping[str, float]) -> Sequence[str]:
        """A line a measure, in percent."""
        return [f"{type(self).__name__}: Aggregated Results:", *measure_lines(metrics, self.at_k)]

    def after_dataset(self) -> None:
        """An empty line in the log."""
        logger.info("")

    def store_metrics_in_model_card_data(
        self, model: Any, metrics: dict[str, Any], epoch: float = 0, step: int = 0
    ) -> None:
        """Store the aggregates for the model card, with what reranking adds to BM25."""
        super().store_metrics_in_model_card_data(model, with_gains(metrics, self._named), epoch, step)

    def get_config_dict(self) -> dict[str, Any]:
        """Settings that the model card shows."""
        names = ("dataset_names", "dataset_id", "rerank_k", "at_k", "always_rerank_positives")
        return {name: getattr(self, name) for name in names}


def _samples(dataset_id: str, split: str, rerank_k: int) -> list[dict[str, Any]]:
    """What a reranking evaluator takes, a sample for each query that BM25 has hits for."""
    corpus, queries = (
        {row["_id"]: row["text"] for row in read_rows(dataset_id, subset, split, ["_id", "text"])}
        for subset in ("corpus", "queries")
    )
    relevant_docs = read_judgements(dataset_id, split)
    samples = []
    for row in read_rows(dataset_id, "bm25", split, ["query-id", "corpus-ids"]):
        positive, hits = relevant_docs.get(row["query-id"], []), row["corpus-ids"][:rerank_k]
        unknown = [one for one in [*positive, *hits] if one not in corpus]
        if unknown or row["query-id"] not in queries:
            what = f"a document {unknown[0]!r}" if unknown else f"a query {row['query-id']!r}"
            raise ValueError(f"Split '{split}' from dataset '{dataset_id}' names {what} that it does not have.")
        samples.append(
            {
                "query_id": row["query-id"],
                "query": queries[row["query-id"]],
                "positive": [corpus[one] for one in positive],
                "documents": [corpus[one] for one in hits],
            }
        )
    return samples
