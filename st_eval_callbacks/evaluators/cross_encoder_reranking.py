"""Reranking by a cross-encoder: whether it puts the relevant documents of a short list first."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..kernels.segments import segment_metrics
from ..scorers import Scorer
from .base import warn_nonfinite
from .inputs import sample_ids
from .pairs import PairEvaluator, num_nonfinite
from .rerank_lists import RerankLists
from .reranking import warn_if_equal

logger = logging.getLogger(__name__)


class CrossEncoderRerankingEvaluator(PairEvaluator):
    """MAP, MRR and nDCG of documents sorted by a cross-encoder's score with a query.

    All are means over the samples, in [0, 1], higher is better; nDCG decides. Documents with equal scores have no
    order: `map` is scikit-learn's average precision (tied documents count together), `ndcg@k` its nDCG, and `mrr@k`
    are means over the orders of ties. With `documents`, `base_map`, `base_mrr@k` and `base_ndcg@k` are the same
    measures of the list as it was given, with the positives that are missing from it behind its end, or 0 where it
    holds none; the model card shows the difference.

    Args:
        samples: A list (or a dictionary with any keys) of `{"query": ..., "positive": [...], "negative": [...]}`, or
            with `"documents": [...]`, a ranked list, best first, in the place of `negative`. A sample in which no
            document to be ranked is relevant counts as 0; a warning says how many these are, and how many samples have
            nothing but relevant documents.
        at_k: Cutoff of MRR and nDCG, at least 1.
        always_rerank_positives: Whether positives that `documents` lacks are scored as well. If not, they are missed:
            they count behind the last document, as they do in the base measures.
        name: Put before every metric.
        prompt_name: Key of the model's `prompts`.
        batch_size: Most pairs a batch.
        show_progress_bar: Whether predicting shows a bar.
        write_csv: Whether a call with `output_path` appends to the CSV.
        mrr_at_k: Deprecated name of `at_k`.
        keep_per_query: Whether to keep one value for each sample; see `Evaluator`.

    Raises:
        ValueError: When there is no sample with a relevant document, a sample lacks a key, or `at_k` is below 1.
    """

    default_batch_size = 64

    def __init__(
        self,
        samples: Sequence[Mapping[str, Any]] | Mapping[Any, Mapping[str, Any]],
        at_k: int = 10,
        always_rerank_positives: bool = True,
        name: str = "",
        prompt_name: str | None = None,
        batch_size: int = 64,
        show_progress_bar: bool = False,
        write_csv: bool = True,
        mrr_at_k: int | None = None,
        *,
        keep_per_query: bool = False,
    ) -> None:
        super().__init__(
            name=name,
            prompt_name=prompt_name,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            write_csv=write_csv,
            keep_per_query=keep_per_query,
        )
        if mrr_at_k is not None:
            logger.warning("%s: mrr_at_k is deprecated, use at_k=%d instead.", self.label, mrr_at_k)
            at_k = mrr_at_k
        if at_k < 1:
            raise ValueError(f"{self.label}: at_k={at_k}, it must be at least 1.")
        self.at_k = at_k
        self.always_rerank_positives = always_rerank_positives
        self.samples = list(samples.values()) if isinstance(samples, Mapping) else list(samples)
        self._ids = sample_ids(samples)
        self._lists = RerankLists.of(self.label, self.samples, always_rerank_positives)
        self._lists.warn_of_empty(self.label)
        self._pairs = self._lists.pairs
        self._base: dict[str, Tensor] | None = None
        self.csv_file = "_".join(["CrossEncoderRerankingEvaluator", *filter(None, [name]), f"results_@{at_k}.csv"])
        self.primary_metric = self._named(f"ndcg@{at_k}")

    def metric_keys(self, scorer: Scorer) -> list[str]:
        """`map`, `mrr@k` and `ndcg@k`, and with `documents` those of the lists as they were given.

        Raises:
            ValueError: When the model has several labels.
        """
        self.check_one_label(scorer)
        keys = self._keys()
        return [*keys, *(f"base_{key}" for key in keys)] if self._lists.base_relevant else keys

    def primary_key(self, scorer: Scorer, metrics: Mapping[str, float] | None = None) -> str:
        """NDCG."""
        return f"ndcg@{self.at_k}"

    def csv_columns(self, scorer: Scorer) -> list[tuple[str, str]]:
        """`MAP`, `MRR@k` and `NDCG@k` of the reranked lists."""
        return [(key.upper(), key) for key in self._keys()]

    def log_lines(self, scorer: Scorer, metrics: Mapping[str, float]) -> Sequence[str]:
        """Sizes, then a line a measure, in percent."""
        sizes = [f"Queries: {len(self.samples)}"]
        for side, counts in (("Positives", self._lists.num_positives), ("Negatives", self._lists.num_negatives)):
            mean = sum(counts) / len(counts)
            sizes.append(f"{side}: Min {min(counts):.1f}, Mean {mean:.1f}, Max {max(counts):.1f}")
        return ["\t".join(sizes), *measure_lines(metrics, self.at_k)]

    def score(self, scorer: Scorer) -> dict[str, float]:
        """Sort each sample's documents by their score with its query and measure the lists."""
        keys = self.metric_keys(scorer)
        lists = self._lists
        predicted = self.predictions(scorer)
        nonfinite = num_nonfinite(predicted)
        if nonfinite:
            warn_nonfinite(self.label, nonfinite, len(predicted), "predictions")
            each = dict.fromkeys(keys[:3], torch.full((len(self.samples),), math.nan))
        else:
            warn_if_equal(self.label, predicted, lists.pair_offsets)
            scores = lists.with_missed(predicted)
            each = self._values(scores, lists.relevance, lists.offsets, lists.sample, range(len(self.samples)))
        if lists.base_relevant:
            self._base = self._base_values() if self._base is None else self._base
            each.update(self._base)
        self.keep(self._ids, each)
        return {key: float(values.nanmean()) for key, values in each.items()}

    def store_metrics_in_model_card_data(
        self, model: Any, metrics: dict[str, Any], epoch: float = 0, step: int = 0
    ) -> None:
        """Store the metrics for the model card, with what reranking adds to the lists as they were given."""
        super().store_metrics_in_model_card_data(model, with_gains(metrics, self._named), epoch, step)

    def get_config_dict(self) -> dict[str, Any]:
        """Settings that the model card shows."""
        config: dict[str, Any] = {"at_k": self.at_k}
        if "documents" in self.samples[0]:
            config["always_rerank_positives"] = self.always_rerank_positives
        return config

    def _keys(self) -> list[str]:
        return measure_keys(self.at_k)

    def _values(
        self, scores: Tensor, relevance: Tensor, offsets: Tensor, listed: Sequence[int], counted: Sequence[int]
    ) -> dict[str, Tensor]:
        """Values of all samples: of those with a list its own, of the others that count 0, of the rest NaN."""
        found = segment_metrics(scores, relevance, offsets, self.at_k)
        values = {}
        for key, name in zip(self._keys(), ("map", "mrr", "ndcg"), strict=True):
            values[key] = torch.full((len(self.samples),), math.nan, dtype=torch.float64)
            values[key][list(counted)] = 0.0
            values[key][list(listed)] = found[name].cpu()
        return values

    def _base_values(self) -> dict[str, Tensor]:
        relevance, offsets, listed = self._lists.base_lists()
        places = torch.arange(len(relevance)) - offsets[:-1].repeat_interleave(offsets.diff())
        found = self._values(-places.float(), relevance, offsets, listed, self._lists.base_sample)
        return {f"base_{key}": values for key, values in found.items()}


def measure_keys(at_k: int) -> list[str]:
    """Keys of the measures of reranked lists."""
    return ["map", f"mrr@{at_k}", f"ndcg@{at_k}"]


def measure_lines(metrics: Mapping[str, float], at_k: int) -> list[str]:
    """A line a measure, in percent, beside that of the lists as they were given where these were measured."""
    keys = measure_keys(at_k)
    width = len(f"NDCG@{at_k}: ")
    has_base = f"base_{keys[0]}" in metrics
    lines = [f"{' ' * width}Base  -> Reranked"] if has_base else []
    for key in keys:
        base = f"{metrics[f'base_{key}'] * 100:.2f} -> " if has_base else ""
        lines.append(f"{key.upper() + ':':<{width}}{base}{metrics[key] * 100:.2f}")
    return lines


def with_gains(metrics: Mapping[str, float], named: Any) -> dict[str, Any]:
    """What the model card shows: values with their difference from those of the lists as they were given.

    Args:
        metrics: Values by key, names included.
        named: Puts the evaluator's name before a key.

    Returns:
        "value (+difference)" by key, without the base values; the metrics themselves where there are none of those.
    """
    prefix = named("base_")
    bases = {named(key.removeprefix(prefix)): value for key, value in metrics.items() if key.startswith(prefix)}
    if not bases:
        return dict(metrics)
    return {key: f"{metrics[key]:.4f} ({metrics[key] - base:+.4f})" for key, base in bases.items()}
