"""Paraphrase mining: the most similar pairs of one list of texts against known duplicates."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..distributed import shares
from ..kernels.mining import mine_pairs, mining_metrics
from ..scorers import Scorer, Wish
from .base import Evaluator, warn_nonfinite

logger = logging.getLogger(__name__)

_KEYS = ("average_precision", "f1", "precision", "recall", "threshold")
_Graph = TypeVar("_Graph", bound=MutableMapping[Any, Any])


class ParaphraseMiningEvaluator(Evaluator):
    """Average precision and best F1 of the pairs with the highest cosine similarity.

    Precision is the share of duplicates among the pairs at or above a score, recall the share of all duplicates that
    is among them. Average precision sums precision times the gain in recall over all scores; F1, its precision and
    recall are those at the score where F1 is highest, and `threshold` lies halfway to the next lower score. All lie in
    [0, 1] (the threshold in [-1, 1]), higher is better; definitions are those of sentence-transformers. Pairs with
    equal scores count together, so their order has no influence. A duplicate that was not mined counts as missed.

    Args:
        sentences_map: Text by id; ids are anything hashable.
        duplicates_list: Pairs of ids of texts that mean the same.
        duplicates_dict: Whether two ids mean the same, by both; one direction is enough. It is not changed.
        add_transitive_closure: Whether duplicates of duplicates are duplicates.
        query_chunk_size: Kept for sentence-transformers' signature: the blocks are chosen for the machine.
        corpus_chunk_size: Likewise.
        max_pairs: How many of the most similar pairs are looked at, at most.
        top_k: How many neighbours of each text may form a pair with it.
        show_progress_bar: Whether encoding shows a bar.
        batch_size: Most texts a batch.
        name: Put before every metric.
        write_csv: Whether a call with `output_path` appends to the CSV.
        truncate_dim: Leading dimensions of the embeddings to use.
        truncate_dims: Several sizes to measure from one encoding, such as [384, 128]; see `Evaluator`.

    Raises:
        ValueError: When no duplicate is among the texts, or a limit is below 1.
    """

    default_batch_size = 16

    def __init__(
        self,
        sentences_map: Mapping[Any, str],
        duplicates_list: Iterable[tuple[Any, Any]] | None = None,
        duplicates_dict: Mapping[Any, Mapping[Any, bool]] | None = None,
        add_transitive_closure: bool = False,
        query_chunk_size: int = 5000,
        corpus_chunk_size: int = 100000,
        max_pairs: int = 500000,
        top_k: int = 100,
        show_progress_bar: bool | None = False,
        batch_size: int = 16,
        name: str = "",
        write_csv: bool = True,
        truncate_dim: int | None = None,
        *,
        truncate_dims: Sequence[int] | None = None,
    ) -> None:
        super().__init__(
            name=name,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            write_csv=write_csv,
            truncate_dim=truncate_dim,
            truncate_dims=truncate_dims,
        )
        limits = {
            "query_chunk_size": query_chunk_size,
            "corpus_chunk_size": corpus_chunk_size,
            "max_pairs": max_pairs,
            "top_k": top_k,
        }
        for limit, value in limits.items():
            if value < 1:
                raise ValueError(f"{self.label}: {limit}={value}: at least 1.")
        self.query_chunk_size, self.corpus_chunk_size = query_chunk_size, corpus_chunk_size
        self.max_pairs, self.top_k = max_pairs, top_k
        self.ids = list(sentences_map)
        self.sentences = list(sentences_map.values())
        self._places = {one: place for place, one in enumerate(self.ids)}
        self._add_transitive_closure = add_transitive_closure
        self.duplicates: defaultdict[Any, dict[Any, bool]] = defaultdict(dict)
        self._read(duplicates_list or (), duplicates_dict or {})
        self.csv_file = "_".join(["paraphrase_mining_evaluation", *filter(None, [name]), "results.csv"])
        self._num_pairs = 0

    def _read(
        self, duplicates_list: Iterable[tuple[Any, Any]], duplicates_dict: Mapping[Any, Mapping[Any, bool]]
    ) -> None:
        for one, others in duplicates_dict.items():
            self.duplicates[one].update(others)
        unknown: set[Hashable] = set()
        for one, other in duplicates_list:
            outside = {one, other} - self._places.keys()
            unknown |= outside
            if not outside:
                self.duplicates[one][other] = self.duplicates[other][one] = True
        links = self.duplicates.items()
        marked = [(one, other) for one, others in links for other, is_duplicate in others.items() if is_duplicate]
        unknown |= {one for pair in marked for one in pair} - self._places.keys()
        if unknown:
            logger.warning("%s: %d ids of duplicates have no text and are left out.", self.label, len(unknown))
        num_selves = sum(one == other for one, other in marked)
        if num_selves:
            logger.warning("%s: %d texts are called duplicates of themselves; left out.", self.label, num_selves)
        if self._add_transitive_closure:
            self.add_transitive_closure(self.duplicates)
        self._duplicate_codes = self._codes_of_duplicates()
        self.total_num_duplicates = len(self._duplicate_codes)
        if not self.total_num_duplicates:
            raise ValueError(
                f"{self.label}: none of the {len(self.ids)} texts are duplicates; are the ids of duplicates those of "
                "sentences_map, and of the same type?"
            )

    def _codes_of_duplicates(self) -> Tensor:
        """Each pair of places as one ascending number, the smaller place first."""
        places = self._places
        pairs = {
            (min(places[one], places[other]), max(places[one], places[other]))
            for one, others in self.duplicates.items()
            if one in places
            for other, is_duplicate in others.items()
            if is_duplicate and other in places and places[one] != places[other]
        }
        codes = [left * len(places) + right for left, right in pairs]
        return torch.tensor(codes, dtype=torch.int64).sort().values

    @staticmethod
    def add_transitive_closure(graph: _Graph) -> _Graph:
        """Mark all ids that are linked by duplicates as duplicates of each other, in both directions.

        Args:
            graph: Whether two ids are duplicates, by both; changed in place.

        Returns:
            The same graph.

        Examples:
            >>> graph = ParaphraseMiningEvaluator.add_transitive_closure({"a": {"b": True}, "c": {"b": True}})
            >>> graph["a"], graph["b"], graph["c"]
            ({'b': True, 'c': True}, {'a': True, 'c': True}, {'b': True, 'a': True})
        """
        for group in _linked(graph):
            links = dict.fromkeys(group, True)
            for one in group:
                known = graph.setdefault(one, {})
                had_self = known.get(one)
                known.update(links)
                # Nothing is a duplicate of itself, unless it was said to be.
                if had_self is None:
                    del known[one]
                else:
                    known[one] = had_self
        return graph

    def metric_keys(self, scorer: Scorer) -> list[str]:
        """`average_precision`, and `f1` with its `precision`, `recall` and `threshold`."""
        return list(_KEYS)

    def csv_columns(self, scorer: Scorer) -> list[tuple[str, str]]:
        """Columns in sentence-transformers' order."""
        return [(key, key) for key in ("precision", "recall", "f1", "threshold", "average_precision")]

    def title(self, when: str) -> str:
        """The line logged before it runs."""
        return f"Paraphrase Mining Evaluation of the model on the {self.name} dataset{when}:"

    def log_lines(self, scorer: Scorer, metrics: Mapping[str, float]) -> Sequence[str]:
        """How many pairs were looked at, then a line a metric, in percent."""
        return [
            f"Number of candidate pairs: {self._num_pairs}",
            f"Average Precision: {metrics['average_precision'] * 100:.2f}",
            f"Optimal threshold: {metrics['threshold']:.4f}",
            f"Precision: {metrics['precision'] * 100:.2f}",
            f"Recall: {metrics['recall'] * 100:.2f}",
            f"F1: {metrics['f1'] * 100:.2f}\n",
        ]

    def wants(self, scorer: Scorer) -> list[Wish]:
        """All sentences."""
        return [Wish(self.sentences, self.options())]

    def score(self, scorer: Scorer) -> dict[str, float]:
        """Mine the texts for pairs and compare these with the duplicates."""
        embeddings = scorer.embed(self.sentences, self.options()).rows()
        num_nonfinite = int((~embeddings.isfinite().all(dim=1)).sum())
        if num_nonfinite:
            self._num_pairs = 0
            warn_nonfinite(self.label, num_nonfinite, len(self.sentences), "embeddings")
            return dict.fromkeys(_KEYS, math.nan)
        mined = mine_pairs(embeddings, self.max_pairs, self.top_k, shares())
        self._num_pairs = len(mined.scores)
        codes = (mined.left * len(self.ids) + mined.right).cpu()
        return mining_metrics(torch.isin(codes, self._duplicate_codes), mined.scores.cpu(), self.total_num_duplicates)

    def get_config_dict(self) -> dict[str, Any]:
        """Settings that the model card shows."""
        return {
            "add_transitive_closure": self._add_transitive_closure,
            "max_pairs": self.max_pairs,
            "top_k": self.top_k,
            **super().get_config_dict(),
        }


def _linked(graph: Mapping[Any, Mapping[Any, bool]]) -> list[list[Any]]:
    """Groups of two or more ids that are linked by duplicates, by union-find."""
    parents: dict[Any, Any] = {}

    def root(one: Any) -> Any:
        while (parent := parents.setdefault(one, one)) != one:
            # Halving the path keeps later look-ups short.
            parents[one] = parents[parent]
            one = parents[one]
        return one

    for one, others in graph.items():
        for other, is_duplicate in others.items():
            if is_duplicate and one != other:
                parents[root(one)] = root(other)
    groups: dict[Any, list[Any]] = {}
    for one in parents:
        groups.setdefault(root(one), []).append(one)
    return list(groups.values())
