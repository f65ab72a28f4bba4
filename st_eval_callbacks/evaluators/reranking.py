"""Reranking: whether the relevant documents of a short list come first."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from sentence_transformers import util
from torch import Tensor

from ..encoding import Embeddings
from ..encoding.tables import take
from ..kernels.expected import expected_ranking_metrics
from ..kernels.segments import segment_metrics
from ..kernels.similarity import widen
from ..kernels.sparse_rows import SparseRows
from ..measures import Measure, read_measures
from ..scorers import Scorer, Similarity, Wish
from .base import Evaluator, warn_nonfinite
from .inputs import check_similarity_names, sample_ids

logger = logging.getLogger(__name__)

# Functions that have a faster twin, which reads embeddings by index and scores all samples at once.
_KNOWN: tuple[tuple[Any, str], ...] = (
    (util.cos_sim, "cosine"),
    (util.pytorch_cos_sim, "cosine"),
    (util.dot_score, "dot"),
    (util.euclidean_sim, "euclidean"),
    (util.manhattan_sim, "manhattan"),
)


class RerankingEvaluator(Evaluator):
    """MAP, MRR and nDCG of documents sorted by their similarity to a query.

    All are means over the samples, in [0, 1], higher is better. Documents with equal scores have no order: `map` is
    scikit-learn's average precision (tied documents count together), `ndcg@k` its nDCG (the mean over the orders of
    ties), and `mrr@k` and all `measures` are the mean over the orders of ties as well. So no metric depends on the
    order of the documents, as sentence-transformers' MRR does where scores tie. Queries are encoded as queries,
    documents as documents.

    Args:
        samples: A list (or a dictionary with any keys) of `{"query": ..., "positive": [...], "negative": [...]}`; a
            single document may stand for a list of one. Samples without a positive or without a negative document are
            left out, and counted in a warning.
        at_k: Cutoff of MRR and nDCG, at least 1.
        name: Put before every metric.
        write_csv: Whether a call with `output_path` appends to the CSV.
        similarity_fct: A function of embeddings, or one of "cosine", "dot", "euclidean", "manhattan". The default is
            cosine whatever the model's own similarity is; None takes the model's own. A function that is not one of
            sentence-transformers' is called for each sample with the query, (d,), and the documents, (n, d), and
            returns (n,) or (1, n) scores.
        batch_size: Most texts a batch.
        show_progress_bar: Whether encoding shows a bar.
        use_batched_encoding: Taken as sentence-transformers takes it, and without effect on values or speed: a text is
            encoded once, with others of its length. With False a function gets the query as (1, d).
        truncate_dim: Leading dimensions of the embeddings to use.
        mrr_at_k: Deprecated name of `at_k`.
        measures: More measures by name, such as "precision@5" or "rprec"; see `measures.Measure`.
        keep_per_query: Whether to keep one value for each sample; see `Evaluator`.
        truncate_dims: Several sizes to measure from one encoding, such as [384, 128]; see `Evaluator`.

    Raises:
        ValueError: When no sample is left, a sample lacks a key, or an option is not one of those allowed.
    """

    kinds: ClassVar[tuple[str, ...]] = ("dense", "sparse")
    default_batch_size = 64

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
        truncate_dim: int | None = None,
        mrr_at_k: int | None = None,
        *,
        measures: Sequence[str | Measure] = (),
        keep_per_query: bool = False,
        truncate_dims: Sequence[int] | None = None,
    ) -> None:
        super().__init__(
            name=name,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            write_csv=write_csv,
            truncate_dim=truncate_dim,
            keep_per_query=keep_per_query,
            truncate_dims=truncate_dims,
        )
        if mrr_at_k is not None:
            logger.warning("%s: mrr_at_k is deprecated, use at_k=%d instead.", self.label, mrr_at_k)
            at_k = mrr_at_k
        if at_k < 1:
            raise ValueError(f"{self.label}: at_k={at_k}, it must be at least 1.")
        self.at_k = at_k
        self.similarity_fct = similarity_fct
        self.use_batched_encoding = use_batched_encoding
        self._function = self._known_function(similarity_fct)
        self.measures = read_measures(measures)
        self.samples, self._ids = self._complete(
            list(samples.values()) if isinstance(samples, Mapping) else list(samples), sample_ids(samples)
        )
        self._queries = [sample["query"] for sample in self.samples]
        self._documents = [document for one in self.samples for document in [*one["positive"], *one["negative"]]]
        num_documents = torch.tensor([len(one["positive"]) + len(one["negative"]) for one in self.samples])
        self._offsets = torch.cat([num_documents.new_zeros(1), num_documents.cumsum(0)])
        self._relevance = torch.tensor(
            [gain for one in self.samples for gain in [1] * len(one["positive"]) + [0] * len(one["negative"])]
        )
        self.csv_file = "_".join(["RerankingEvaluator", *filter(None, [name]), f"results_@{at_k}.csv"])
        self.primary_metric = self._named(f"ndcg@{at_k}")

    def metric_keys(self, scorer: Scorer) -> list[str]:
        """`map`, `mrr@k` and `ndcg@k`, then those of `measures`."""
        return list(dict.fromkeys(["map", f"mrr@{self.at_k}", f"ndcg@{self.at_k}", *map(str, self.measures)]))

    def primary_key(self, scorer: Scorer, metrics: Mapping[str, float] | None = None) -> str:
        """NDCG."""
        return f"ndcg@{self.at_k}"

    def csv_columns(self, scorer: Scorer) -> list[tuple[str, str]]:
        """`MAP`, `MRR@k` and `NDCG@k`, then those of `measures` under their own names."""
        keys = self.metric_keys(scorer)
        return [(key.upper(), key) for key in keys[:3]] + [(key, key) for key in keys[3:]]

    def log_lines(self, scorer: Scorer, metrics: Mapping[str, float]) -> Sequence[str]:
        """Sizes, then a line a measure, in percent."""
        sizes = [f"Queries: {len(self.samples)}"]
        for side in ("positive", "negative"):
            counts = [len(sample[side]) for sample in self.samples]
            mean = sum(counts) / len(counts)
            sizes.append(f"{side.capitalize()}s: Min {min(counts):.1f}, Mean {mean:.1f}, Max {max(counts):.1f}")
        columns = self.csv_columns(scorer)
        return [" \t ".join(sizes), *(f"{header}: {metrics[key] * 100:.2f}" for header, key in columns)]

    def wants(self, scorer: Scorer) -> list[Wish]:
        """Queries, and the documents of all samples."""
        return [Wish(self._queries, self.options(task="query")), Wish(self._documents, self.options(task="document"))]

    def score(self, scorer: Scorer) -> dict[str, float]:
        """Sort each sample's documents by their similarity to its query and measure the lists."""
        keys = self.metric_keys(scorer)
        scores = self._scores(scorer).cpu()
        num_nonfinite = int((~scores.isfinite()).sum())
        if num_nonfinite:
            warn_nonfinite(self.label, num_nonfinite, len(scores), "similarities")
            unknown = dict.fromkeys(keys, math.nan)
            self.keep(self._ids, unknown)
            return unknown
        warn_if_equal(self.label, scores, self._offsets)
        found = segment_metrics(scores, self._relevance, self._offsets, self.at_k)
        each = dict(zip(keys, (found[name] for name in ("map", "mrr", "ndcg")), strict=False))
        more = [measure for measure in dict.fromkeys(self.measures) if str(measure) not in each]
        if more:
            ranked, relevance = self._ranked(scores)
            values = expected_ranking_metrics(ranked, relevance, relevance.sum(1).long(), more)
            each.update({str(measure): values[measure] for measure in more})
        self.keep(self._ids, each)
        return {key: float(values.mean()) for key, values in each.items()}

    def get_config_dict(self) -> dict[str, Any]:
        """Settings that the model card shows."""
        return {"at_k": self.at_k, **super().get_config_dict()}

    def _known_function(self, function: Similarity | None) -> Similarity | None:
        for known, name in _KNOWN:
            if function is known:
                return name
        if function is None or callable(function):
            return function
        return check_similarity_names(self.label, [function])[0]

    def _complete(self, samples: list[Mapping[str, Any]], ids: list[Any]) -> tuple[list[dict[str, Any]], list[Any]]:
        complete, kept = [], []
        for number, sample in enumerate(samples):
            missing = [key for key in ("query", "positive", "negative") if key not in sample]
            if missing:
                raise ValueError(f"{self.label}: sample {number} has no {' and no '.join(map(repr, missing))}.")
            documents = {side: _listed(sample[side]) for side in ("positive", "negative")}
            if documents["positive"] and documents["negative"]:
                complete.append({**sample, **documents})
                kept.append(ids[number])
        if not complete:
            raise ValueError(f"{self.label}: none of {len(samples)} samples has a positive and a negative document.")
        if len(complete) < len(samples):
            logger.warning(
                "%s: %d of %d samples have no positive or no negative document and are left out.",
                self.label,
                len(samples) - len(complete),
                len(samples),
            )
        return complete, kept

    def _scores(self, scorer: Scorer) -> Tensor:
        """(T,) similarity of every document to its query, sample after sample, positives first."""
        as_query, as_document = self.options(task="query"), self.options(task="document")
        function = scorer.similarity_fn_name if self._function is None else self._function
        if callable(function):
            queries, documents = scorer.embed(self._queries, as_query), scorer.embed(self._documents, as_document)
            return self._scores_by_function(function, queries, documents)
        repeats = self._offsets.diff()
        return scorer.pairwise(self._queries, self._documents, [function], as_query, as_document, repeats)[function]

    def _scores_by_function(
        self, function: Callable[[Tensor, Tensor], Tensor], queries: Embeddings, documents: Embeddings
    ) -> Tensor:
        query_rows: Any
        if isinstance(queries.table, SparseRows):
            query_rows, table = queries.rows().widened().as_vectors(), documents.table.widened()
        else:
            query_rows, table = widen(queries.rows()), documents.table
        bounds = self._offsets.tolist()
        scores = []
        for number, (start, end) in enumerate(zip(bounds, bounds[1:], strict=False)):
            query = query_rows[number] if self.use_batched_encoding else query_rows[number : number + 1]
            rows: Any = take(table, documents.index[start:end])
            rows = rows.as_vectors() if isinstance(rows, SparseRows) else widen(rows)
            found = torch.as_tensor(function(query, rows)).to_dense()
            found = found[0] if found.ndim > 1 else found
            if found.shape != (end - start,):
                raise ValueError(
                    f"{self.label}: similarity_fct returned scores of shape {tuple(found.shape)} for {end - start} "
                    "documents."
                )
            scores.append(widen(found))
        return torch.cat(scores)

    def _ranked(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """(S, longest) scores, best first, -inf after the end of a list, and the relevance of the documents there."""
        lengths = self._offsets.diff()
        inside = torch.arange(int(lengths.max())) < lengths[:, None]
        table = torch.full(inside.shape, -math.inf, dtype=scores.dtype)
        relevance = torch.zeros(inside.shape, dtype=torch.float64)
        table[inside] = scores
        relevance[inside] = self._relevance.double()
        ranked, order = table.sort(dim=1, descending=True, stable=True)
        return ranked, relevance.gather(1, order)


def warn_if_equal(label: str, scores: Tensor, offsets: Tensor) -> None:
    """Say so when most queries have the same score for all their documents.

    Args:
        label: How messages name the evaluator.
        scores: (T,) scores of the documents, list after list.
        offsets: (S + 1,) bounds of the lists, none of which is empty.
    """
    best, worst = (torch.segment_reduce(scores, how, offsets=offsets) for how in ("max", "min"))
    several = offsets.diff() > 1
    num_equal, num_lists = int((several & (best == worst)).sum()), int(several.sum())
    if num_equal * 2 > num_lists:
        logger.warning(
            "%s: all documents have the same score for %d of %d queries: the model has collapsed, or the samples "
            "repeat a text. Metrics are then those of a random order.",
            label,
            num_equal,
            num_lists,
        )


def _listed(documents: Any) -> list[Any]:
    is_one = isinstance(documents, (str, Mapping)) or not isinstance(documents, Iterable)
    return [documents] if is_one else list(documents)
