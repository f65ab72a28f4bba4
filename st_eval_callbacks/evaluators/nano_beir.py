"""NanoBEIR: small versions of the BEIR retrieval sets, each by itself and together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from sentence_transformers.util.similarity import SimilarityFunction
from torch import Tensor
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from ..scorers import Scorer
from .dataset_rows import read_rows
from .information_retrieval import InformationRetrievalEvaluator
from .over_datasets import OverDatasets
from .retrieval_metrics import RetrievalMetrics, key_of, metric_line

DATASET_NAMES: Mapping[str, str] = {
    "climatefever": "ClimateFEVER",
    "dbpedia": "DBPedia",
    "fever": "FEVER",
    "fiqa2018": "FiQA2018",
    "hotpotqa": "HotpotQA",
    "msmarco": "MSMARCO",
    "nfcorpus": "NFCorpus",
    "nq": "NQ",
    "quoraretrieval": "QuoraRetrieval",
    "scidocs": "SCIDOCS",
    "arguana": "ArguAna",
    "scifact": "SciFact",
    "touche2020": "Touche2020",
}
"""Names of the datasets as they stand in splits and metrics, by their short names."""


class NanoBEIREvaluator(OverDatasets, RetrievalMetrics):
    """Retrieval metrics of each NanoBEIR dataset, and one aggregate of each metric over the datasets.

    Metrics of a dataset are those of `InformationRetrievalEvaluator` under the name `Nano<Dataset>`, aggregates have
    the name `NanoBEIR_<aggregate_key>`; nDCG's aggregate decides. With one dataset the model card shows it only once.

    Args:
        dataset_names: Short names such as "msmarco", in upper or lower case; None takes all.
        dataset_id: A dataset of the Hugging Face Hub, or a local folder, with the subsets "corpus" (`_id`, `text`),
            "queries" (`_id`, `text`) and "qrels" (`query-id`, `corpus-id`: one id or a list), each with a split
            `Nano<Dataset>`. In a folder these are the files `<subset>/<split>*.parquet` or `.jsonl`, or what its
            README.md says. Judgements with a `score` of 0 are left out.
        mrr_at_k: Cutoffs of MRR.
        ndcg_at_k: Cutoffs of nDCG; the largest one decides.
        accuracy_at_k: Cutoffs of accuracy (at least one relevant document on top).
        precision_recall_at_k: Cutoffs of precision and recall.
        map_at_k: Cutoffs of MAP.
        show_progress_bar: Whether bars are shown.
        batch_size: Most texts a batch.
        write_csv: Whether a call with `output_path` appends to the CSVs: one a dataset, one of aggregates.
        truncate_dim: Leading dimensions of the embeddings to use.
        score_functions: See `InformationRetrievalEvaluator`.
        main_score_function: See `InformationRetrievalEvaluator`.
        aggregate_fn: Makes one value of those of the datasets.
        aggregate_key: What the aggregate is called.
        query_prompts: Put before every query: one text, or one for each of `dataset_names`.
        corpus_prompts: Put before every document: one text, or one for each of `dataset_names`.
        write_predictions: Whether a call with `output_path` writes the hits of each dataset as JSON lines.
        keep_per_query: Whether to keep one value for each query of each dataset; see `Evaluator`.
        truncate_dims: Several sizes to measure from one encoding, such as [384, 128]; see `Evaluator`.

    Raises:
        ValueError: When a dataset is unknown, given twice, without a prompt, or cannot be loaded.
    """

    information_retrieval_class: ClassVar[type[InformationRetrievalEvaluator]] = InformationRetrievalEvaluator

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
        truncate_dim: int | None = None,
        score_functions: Mapping[str, str | Callable[[Tensor, Tensor], Tensor]] | None = None,
        main_score_function: str | SimilarityFunction | None = None,
        aggregate_fn: Callable[[list[float]], float] = np.mean,
        aggregate_key: str = "mean",
        query_prompts: str | Mapping[str, str] | None = None,
        corpus_prompts: str | Mapping[str, str] | None = None,
        write_predictions: bool = False,
        *,
        keep_per_query: bool = False,
        truncate_dims: Sequence[int] | None = None,
    ) -> None:
        settings: dict[str, Any] = {
            "mrr_at_k": mrr_at_k,
            "ndcg_at_k": ndcg_at_k,
            "accuracy_at_k": accuracy_at_k,
            "precision_recall_at_k": precision_recall_at_k,
            "map_at_k": map_at_k,
            "show_progress_bar": show_progress_bar,
            "batch_size": batch_size,
            "write_csv": write_csv,
            "truncate_dim": truncate_dim,
            "keep_per_query": keep_per_query,
            "score_functions": score_functions,
            "main_score_function": main_score_function,
        }
        size = self.size_setting(truncate_dim)
        suffix = "".join(f"_{value}" for value in size.values() if value)
        super().__init__(name=f"NanoBEIR_{aggregate_key}{suffix}", truncate_dims=truncate_dims, **settings)
        self.dataset_names = list(DATASET_NAMES) if dataset_names is None else list(dataset_names)
        self.dataset_id = dataset_id
        self.aggregate_fn = aggregate_fn
        self.aggregate_key = aggregate_key
        check_dataset_names(self.dataset_names)
        self.query_prompts = self._prompts("query", query_prompts)
        self.corpus_prompts = self._prompts("corpus", corpus_prompts)
        self.evaluators = [
            self.information_retrieval_class(
                **_load(dataset_id, f"Nano{DATASET_NAMES[dataset.lower()]}"),
                name=f"Nano{DATASET_NAMES[dataset.lower()]}{suffix}",
                query_prompt=None if self.query_prompts is None else self.query_prompts[dataset],
                corpus_prompt=None if self.corpus_prompts is None else self.corpus_prompts[dataset],
                write_predictions=write_predictions,
                **{**{key: value for key, value in settings.items() if key != "truncate_dim"}, **size},
            )
            for dataset in tqdm(self.dataset_names, desc="Loading NanoBEIR datasets", leave=False)
        ]
        self.csv_file = f"NanoBEIR_evaluation_{aggregate_key}_results.csv"

    def size_setting(self, truncate_dim: int | None) -> dict[str, int | None]:
        """The setting that limits the size of embeddings, which the names tell; asked while this is made."""
        return {"truncate_dim": truncate_dim}

    def at_size(self, dim: int) -> Any:
        """This evaluator, and that of each dataset, for one size."""
        made = super().at_size(dim)
        made.evaluators = [one.at_size(dim) for one in self.evaluators]
        return made

    def title(self, when: str) -> str:
        """The line logged before it runs."""
        return f"NanoBEIR Evaluation of the model on {self.dataset_names} dataset{when}:"

    def log_lines(self, scorer: Scorer, metrics: Mapping[str, float]) -> Sequence[str]:
        """Mean sizes, then a line an aggregate."""
        lines = [
            f"Average Queries: {np.mean([len(evaluator.queries) for evaluator in self.evaluators])}",
            f"Average Corpus: {np.mean([len(evaluator.corpus) for evaluator in self.evaluators])}\n",
        ]
        for function in sorted(self.functions(scorer)):
            lines.append(f"Aggregated for Score Function: {function}")
            lines += [metric_line(one, metrics[key_of(function, one)]) for one in self.column_order()]
        return lines

    def store_metrics_in_model_card_data(
        self, model: Any, metrics: dict[str, Any], epoch: float = 0, step: int = 0
    ) -> None:
        """Store the aggregates for the model card, unless they repeat the only dataset."""
        if len(self.dataset_names) > 1:
            super().store_metrics_in_model_card_data(model, metrics, epoch, step)

    def get_config_dict(self) -> dict[str, Any]:
        """Settings that the model card shows."""
        names = ("dataset_names", "dataset_id", "truncate_dim", "query_prompts", "corpus_prompts")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def _prompts(self, kind: str, prompts: str | Mapping[str, str] | None) -> dict[str, str] | None:
        if prompts is None or isinstance(prompts, str):
            return None if prompts is None else dict.fromkeys(self.dataset_names, prompts)
        missing = [name for name in self.dataset_names if name not in prompts]
        if missing:
            raise ValueError(f"The following datasets are missing {kind} prompts: {missing}")
        return dict(prompts)


def check_dataset_names(names: Sequence[str]) -> None:
    """Refuse names that no dataset has.

    Raises:
        ValueError: When there is none, one is unknown, or one is given twice.
    """
    if not names:
        raise ValueError("dataset_names cannot be empty. Use None to evaluate on all datasets.")
    unknown = [name for name in names if name.lower() not in DATASET_NAMES]
    if unknown:
        # Worded as in sentence-transformers, for those who look for it.
        raise ValueError(
            f"Dataset(s) {unknown} are not valid NanoBEIR datasets. Valid dataset names are: {list(DATASET_NAMES)}"
        )
    if len({name.lower() for name in names}) < len(names):
        raise ValueError(f"dataset_names={list(names)}: a dataset is given twice.")


def _load(dataset_id: str, split: str) -> dict[str, Any]:
    """Queries, corpus and judgements of one dataset, as retrieval evaluators take them."""
    texts = {
        subset: {
            row["_id"]: row["text"] for row in read_rows(dataset_id, subset, split, ["_id", "text"]) if row["text"]
        }
        for subset in ("queries", "corpus")
    }
    relevant_docs = {query: set(found) for query, found in read_judgements(dataset_id, split).items()}
    return {**texts, "relevant_docs": relevant_docs}


def read_judgements(dataset_id: str, split: str) -> dict[Any, list[Any]]:
    """The ids of the relevant documents of each query, in the order of the judgements, each once."""
    found: dict[Any, dict[Any, None]] = {}
    for row in read_rows(dataset_id, "qrels", split, ["query-id", "corpus-id"]):
        score = row.get("score")
        if score is None or score > 0:
            ids = row["corpus-id"] if isinstance(row["corpus-id"], list) else [row["corpus-id"]]
            found.setdefault(row["query-id"], {}).update(dict.fromkeys(ids))
    return {query: list(ids) for query, ids in found.items()}
