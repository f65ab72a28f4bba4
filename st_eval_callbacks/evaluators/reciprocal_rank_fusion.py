"""Reciprocal rank fusion: two rankings of documents, and the one that both make together."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..distributed import is_main_process
from ..kernels.segments import segment_metrics
from ..writers.files import replace_file
from ..writers.tables import append_row
from .base import Evaluator
from .inputs import sample_ids

logger = logging.getLogger(__name__)

_RANKINGS = ("dense", "sparse", "fusion")
_HEAD = "Metric  |  Dense   |  Sparse  |  Fusion  | Gain vs Dense | Gain vs Sparse |"
_RULE = "=" * 75


class ReciprocalRankFusionEvaluator(Evaluator):
    """MAP, MRR and nDCG of two given rankings, and of the one that sorts documents by `sum of 1 / (rrf_k + place)`.

    All are means over the queries, in [0, 1], higher is better; a relevant document that a ranking misses counts as
    standing behind its end, and a query whose ranking holds none counts 0. Definitions are those of
    sentence-transformers; the fusion is that of Cormack et al., "Reciprocal Rank Fusion outperforms Condorcet and
    individual Rank Learning Methods", SIGIR 2009. The rankings are given, so no model is asked for anything.

    Args:
        dense_samples: For each query `{"query_id": ..., "query": ..., "positive": [...], "documents": [...]}`, the
            documents best first; a single positive may stand for a list of one.
        sparse_samples: The same queries in the same order, with the documents of another ranking.
        at_k: Cutoff of MRR and nDCG, at least 1.
        rrf_k: The constant of the fusion: the larger, the less the first places weigh.
        name: Put before every metric.
        batch_size: Taken as sentence-transformers takes it, and without effect.
        show_progress_bar: As `batch_size`.
        write_csv: Whether a call with `output_path` appends to the CSV.
        write_predictions: Whether a call with `output_path` writes the fused rankings as JSON lines.
        keep_per_query: Whether to keep one value for each query; see `Evaluator`.

    Raises:
        ValueError: When there are no samples, the lists differ in length, or a query id is missing or differs.
    """

    kinds: ClassVar[tuple[str, ...]] = ("dense", "sparse", "cross_encoder", "multi_vector")

    def __init__(
        self,
        dense_samples: Sequence[Mapping[str, Any]],
        sparse_samples: Sequence[Mapping[str, Any]],
        at_k: int = 10,
        rrf_k: int = 60,
        name: str = "",
        batch_size: int = 32,
        show_progress_bar: bool | None = False,
        write_csv: bool = True,
        write_predictions: bool = False,
        *,
        keep_per_query: bool = False,
    ) -> None:
        super().__init__(
            name=name,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            write_csv=write_csv,
            keep_per_query=keep_per_query,
        )
        if at_k < 1:
            raise ValueError(f"{self.label}: at_k={at_k}, it must be at least 1.")
        self.dense_samples, self.sparse_samples = list(dense_samples), list(sparse_samples)
        self.at_k, self.rrf_k, self.write_predictions = at_k, rrf_k, write_predictions
        self._check()
        stem = "_".join(["ReciprocalRankFusion_evaluation", *filter(None, [name])])
        self.csv_file, self.predictions_file = f"{stem}_results.csv", f"{stem}_predictions.jsonl"
        self.primary_metric = self._named(f"ndcg@{at_k}")

    def metric_names(self, model: Any = None) -> list[str]:
        """Keys of the result: those of each given ranking, then those of the fusion, which have no prefix."""
        return [self._named(key) for key in self._keys()]

    def __call__(
        self, model: Any = None, output_path: str | None = None, epoch: float = -1, steps: int = -1
    ) -> dict[str, float]:
        """Measure the rankings.

        Args:
            model: Not used; a path in its place is taken for `output_path`, as in sentence-transformers' own class.
            output_path: Folder for CSV and predictions; None writes nothing.
            epoch: Passes over the training data done; -1 outside of training.
            steps: Optimizer steps done; -1 at the end of an epoch.

        Returns:
            Value by key.
        """
        if isinstance(model, (str, os.PathLike)) and output_path is None:
            output_path = os.fspath(model)
        logger.info(self.title(self._when(epoch, steps)))
        logger.info("Processing %d samples", len(self.dense_samples))
        fused = [self._fused(*pair) for pair in zip(self._documents(0), self._documents(1), strict=True)]
        rankings = [self._measure(ranking) for ranking in (self._documents(0), self._documents(1), fused)]
        found = dict(zip(self._keys(), [values for ranking in rankings for values in ranking], strict=True))
        self.per_query = None
        self.keep(sample_ids(self.dense_samples), found)
        metrics = {key: float(values.mean()) for key, values in found.items()}
        each = list(metrics.values())
        self._log([each[:3], each[3:6], each[6:]])
        if output_path is not None and is_main_process():
            folder = Path(output_path)
            folder.mkdir(parents=True, exist_ok=True)
            if self.write_csv:
                measures = ("MAP", f"MRR@{self.at_k}", f"NDCG@{self.at_k}")
                header = [f"{ranking.capitalize()}_{measure}" for ranking in _RANKINGS for measure in measures]
                path = folder / self.file_name(self.csv_file)
                append_row(path, ["epoch", "steps", *header], [epoch, steps, *metrics.values()])
            self.write_items(folder, epoch, steps)
            if self.write_predictions:
                self._write_predictions(folder / self.file_name(self.predictions_file), fused)
        return {self._named(key): value for key, value in metrics.items()}

    def title(self, when: str) -> str:
        """The line logged before it runs."""
        return f"{type(self).__name__}: Evaluating hybrid search on the {self.name} dataset{when}:"

    def get_config_dict(self) -> dict[str, Any]:
        """Settings that the model card shows."""
        return {"at_k": self.at_k, "rrf_k": self.rrf_k, "write_predictions": self.write_predictions}

    def _keys(self) -> list[str]:
        prefixes = ["dense_", "sparse_", ""]
        return [f"{prefix}{key}" for prefix in prefixes for key in ("map", f"mrr@{self.at_k}", f"ndcg@{self.at_k}")]

    def _check(self) -> None:
        if len(self.dense_samples) != len(self.sparse_samples):
            raise ValueError(
                f"{self.label}: {len(self.dense_samples)} dense samples and {len(self.sparse_samples)} sparse samples "
                "must be as many."
            )
        if not self.dense_samples:
            raise ValueError(f"{self.label}: there is nothing to evaluate, there are no samples.")
        for number, pair in enumerate(zip(self.dense_samples, self.sparse_samples, strict=True)):
            for sample in pair:
                missing = [key for key in ("query_id", "positive", "documents") if key not in sample]
                # Of the sparse sample only these two are read.
                missing = [key for key in missing if key != "positive" or sample is pair[0]]
                if missing:
                    raise ValueError(f"{self.label}: sample {number} has no {' and no '.join(map(repr, missing))}.")
            first, second = (sample["query_id"] for sample in pair)
            if first != second:
                raise ValueError(f"{self.label}: sample {number} is of query {first!r} here and of {second!r} there.")

    def _documents(self, ranking: int) -> list[list[Any]]:
        return [list(sample["documents"]) for sample in (self.dense_samples, self.sparse_samples)[ranking]]

    def _positives(self) -> list[list[Any]]:
        given = [sample["positive"] for sample in self.dense_samples]
        return [[positive] if isinstance(positive, str) else list(positive) for positive in given]

    def _fused(self, first: list[Any], second: list[Any]) -> list[Any]:
        """Documents by falling sum of both, those of equal sums in the order in which they come."""
        scores: dict[Any, float] = {}
        for documents in (first, second):
            # Of a document that stands twice the last place counts.
            for document, place in {document: place for place, document in enumerate(documents, start=1)}.items():
                scores[document] = scores.get(document, 0.0) + 1 / (self.rrf_k + place)
        return sorted(scores, key=scores.__getitem__, reverse=True)

    def _measure(self, rankings: list[list[Any]]) -> list[Tensor]:
        """MAP, MRR and nDCG, (Q,) each, of a ranking for each query."""
        relevance: list[int] = []
        bounds, found = [0], []
        for documents, positive in zip(rankings, self._positives(), strict=True):
            hits = [int(document in positive) for document in documents]
            found.append(any(hits))
            relevance += hits + [1] * (len(positive) - sum(hits) if any(hits) else 0)
            bounds.append(len(relevance))
        # Falling along all lists, so no two documents of one tie.
        scores = torch.arange(len(relevance), 0, -1, dtype=torch.float64)
        values = segment_metrics(scores, torch.tensor(relevance), torch.tensor(bounds), self.at_k)
        is_found = torch.tensor(found)
        return [values[name].where(is_found, 0) for name in ("map", "mrr", "ndcg")]

    def _log(self, each: list[list[float]]) -> None:
        counts = [len(positive) for positive in self._positives()]
        mean = sum(counts) / len(counts)
        logger.info(
            "Queries: %d\tPositives: Min %.1f, Mean %.1f, Max %.1f", len(counts), min(counts), mean, max(counts)
        )
        lines = [_RULE, _HEAD, "-" * len(_RULE)]
        names = ("MAP    ", f"MRR@{self.at_k:<3}", f"NDCG@{self.at_k:<2}")
        for name, dense, sparse, fusion in zip(names, *each, strict=True):
            gains = f"{fusion - dense:>+13.2%} | {fusion - sparse:>+14.2%}"
            lines.append(f"{name} | {dense:>8.2%} | {sparse:>8.2%} | {fusion:>8.2%} | {gains} |")
        for line in [*lines, _RULE]:
            logger.info(line)

    def _write_predictions(self, path: Path, fused: list[list[Any]]) -> None:
        lines = [
            json.dumps(
                {
                    "query_id": sample["query_id"],
                    "query": sample.get("query"),
                    "positive": positive,
                    "documents": documents,
                }
            )
            for sample, positive, documents in zip(self.dense_samples, self._positives(), fused, strict=True)
        ]
        replace_file(path, "\n".join(lines) + "\n")
        logger.info("Wrote fused ranking predictions to %s", path)
