"""Samples of reranking as flat lists of pairs, with what is relevant in them and what they miss."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

# float32 values from here down stand for documents that were not scored; scores are far above them.
_MISSED_BITS = torch.tensor(-(2.0**127), dtype=torch.float32).view(torch.int32).item()


@dataclass
class RerankLists:
    """What a cross-encoder is to score, list after list, for the samples in which something relevant is ranked.

    Attributes:
        pairs: (query, document) of all lists.
        relevance: (T,) 1 or 0 for each document of each list, those included that are missed and stand last.
        offsets: (S + 1,) bounds of the lists in `relevance`.
        pair_offsets: (S + 1,) bounds of the lists in `pairs`.
        num_positives: Relevant documents of each sample.
        num_negatives: Other documents of each sample that are ranked.
        base_relevant: Whether each document of a list is relevant, as it was given, for each sample with `documents`;
            missing ones stand last, unless all are missing.
        sample: Place of the sample of each list.
        base_sample: Place of the sample of each of `base_relevant`.
    """

    pairs: list[tuple[Any, Any]] = field(default_factory=list)
    relevance: Tensor = field(default_factory=lambda: torch.empty(0))
    offsets: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.int64))
    pair_offsets: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.int64))
    num_positives: list[int] = field(default_factory=list)
    num_negatives: list[int] = field(default_factory=list)
    base_relevant: list[list[int]] = field(default_factory=list)
    sample: list[int] = field(default_factory=list)
    base_sample: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, label: str, samples: Sequence[Mapping[str, Any]], always_rerank_positives: bool) -> RerankLists:
        """Read samples.

        Args:
            label: How messages name the evaluator.
            samples: See `CrossEncoderRerankingEvaluator`.
            always_rerank_positives: Whether positives that a ranked list lacks are scored as well.

        Returns:
            The lists.

        Raises:
            ValueError: When a sample lacks a key or no list has a relevant document.
        """
        made = cls()
        relevance: list[int] = []
        lengths, num_pairs = [0], [0]
        for number, sample in enumerate(samples):
            query, positive, negative, documents = _checked(label, number, sample)
            num_missed = 0
            if documents is None:
                ranked, is_relevant = positive + negative, [1] * len(positive) + [0] * len(negative)
            else:
                is_positive = _membership(positive)
                given = [int(is_positive(document)) for document in documents]
                # Counted as sentence-transformers does, also where a document comes twice.
                missing = max(len(positive) - sum(given), 0)
                made.base_relevant.append(given + [1] * missing if any(given) else [])
                made.base_sample.append(number)
                if always_rerank_positives:
                    others = [one for one, is_one in zip(documents, given, strict=True) if not is_one]
                    ranked, is_relevant = positive + others, [1] * len(positive) + [0] * len(others)
                else:
                    ranked, is_relevant, num_missed = documents, given, missing
            made.num_positives.append(len(positive))
            made.num_negatives.append(len(is_relevant) - sum(is_relevant))
            if any(is_relevant):
                made.sample.append(number)
                made.pairs += [(query, document) for document in ranked]
                relevance += is_relevant + [1] * num_missed
                num_pairs.append(len(ranked))
                lengths.append(len(ranked) + num_missed)
        if not made.pairs:
            raise ValueError(f"{label}: none of {len(samples)} samples has a relevant document to rank.")
        made.relevance = torch.tensor(relevance)
        made.offsets, made.pair_offsets = (torch.tensor(one).cumsum(0) for one in (lengths, num_pairs))
        return made

    def with_missed(self, scores: Tensor) -> Tensor:
        """Scores of all documents: those of the pairs, and below them distinct ones, descending, for missed documents.

        Args:
            scores: (P,) finite scores of the pairs, float32 or float64.

        Returns:
            (T,) scores.
        """
        missed = self.offsets.diff() - self.pair_offsets.diff()
        if not missed.any():
            return scores
        place = torch.arange(len(self.relevance)) - self.offsets[:-1].repeat_interleave(self.offsets.diff())
        below = place - self.pair_offsets.diff().repeat_interleave(self.offsets.diff())
        # Consecutive bit patterns of a negative float32 are consecutive values downwards.
        filled = (below.clamp(min=0) + _MISSED_BITS).int().view(torch.float32).to(scores.dtype)
        filled[below < 0] = scores
        return filled

    def base_lists(self) -> tuple[Tensor, Tensor, list[int]]:
        """(B,) relevance, bounds and samples of the lists as they were given, but those that hold nothing relevant."""
        lists = [one for one in self.base_relevant if one]
        relevance = torch.tensor(list(itertools.chain.from_iterable(lists)), dtype=torch.int64)
        samples = [sample for one, sample in zip(self.base_relevant, self.base_sample, strict=True) if one]
        return relevance, torch.tensor([0, *map(len, lists)]).cumsum(0), samples

    def warn_of_empty(self, label: str) -> None:
        """Count samples that say nothing about the model."""
        num_samples = len(self.num_positives)
        num_lists = len(self.offsets) - 1
        if num_lists < num_samples:
            logger.warning(
                "%s: in %d of %d samples no document to rank is relevant; they count as 0.",
                label,
                num_samples - num_lists,
                num_samples,
            )
        num_full = sum(
            positive > 0 and not negative
            for positive, negative in zip(self.num_positives, self.num_negatives, strict=True)
        )
        if num_full:
            logger.warning(
                "%s: in %d of %d samples all documents are relevant, so that any order of them is right.",
                label,
                num_full,
                num_samples,
            )


def _checked(label: str, number: int, sample: Mapping[str, Any]) -> tuple[Any, list[Any], list[Any], list[Any] | None]:
    missing = [key for key in ("query", "positive") if key not in sample]
    if missing:
        raise ValueError(f"{label}: sample {number} has no {' and no '.join(map(repr, missing))}.")
    given = [key for key in ("negative", "documents") if sample.get(key) is not None]
    if len(given) != 1:
        found = "both" if given else "neither"
        raise ValueError(f"{label}: sample {number} has {found} of 'negative' and 'documents'; exactly one is needed.")
    positive, others = _listed(sample["positive"]), _listed(sample[given[0]])
    if given == ["negative"]:
        return sample["query"], positive, others, None
    return sample["query"], positive, [], others


def _listed(documents: Any) -> list[Any]:
    return [documents] if isinstance(documents, (str, Mapping)) else list(documents)


def _membership(positive: list[Any]) -> Any:
    """A function that tells whether a document is among the positives, which may have no hash."""
    return (set(positive) if all(isinstance(one, str) for one in positive) else positive).__contains__
