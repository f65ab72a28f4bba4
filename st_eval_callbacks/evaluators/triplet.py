"""Whether an anchor is closer to its positive than to its negative."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from sentence_transformers.util.similarity import SimilarityFunction

from ..scorers import Scorer, Wish
from .base import Evaluator, maximum, warn_nonfinite
from .inputs import check_equal_lengths, check_similarity_names

logger = logging.getLogger(__name__)

_NOT_GIVEN = "deprecated"


class TripletEvaluator(Evaluator):
    """Share of triplets whose positive is more similar to the anchor than the negative, by more than a margin.

    Accuracy is the mean over triplets of `similarity(anchor, positive) > similarity(anchor, negative) + margin`, in
    [0, 1], higher is better; a tie counts as wrong. Anchors are encoded as queries, positives and negatives as
    documents.

    Args:
        anchors: Anchor of each triplet.
        positives: What the anchor should be close to.
        negatives: What the anchor should be farther from.
        main_similarity_function: The similarity function that decides; None takes the only one, or the maximum of
            several.
        margin: How much more similar the positive must be, in units of the similarity: one for all functions, or
            `{function: margin}` with 0 for those not named. None is 0.
        name: Put before every metric.
        batch_size: Most texts a batch.
        show_progress_bar: Whether encoding shows a bar.
        write_csv: Whether a call with `output_path` appends to the CSV.
        truncate_dim: Leading dimensions of the embeddings to use.
        similarity_fn_names: Any of "cosine", "dot", "euclidean", "manhattan"; None takes the main one, or the model's
            own on every call anew.
        main_distance_function: Deprecated name of `main_similarity_function`.
        keep_per_query: Whether to keep one value for each triplet; see `Evaluator`.
        truncate_dims: Several sizes to measure from one encoding, such as [384, 128]; see `Evaluator`.

    Raises:
        ValueError: When there are no triplets, the lengths differ, a name is unknown, or a margin is not finite.
    """

    kinds: ClassVar[tuple[str, ...]] = ("dense", "sparse")
    default_batch_size = 16

    def __init__(
        self,
        anchors: Sequence[Any],
        positives: Sequence[Any],
        negatives: Sequence[Any],
        main_similarity_function: str | SimilarityFunction | None = None,
        margin: float | Mapping[str, float] | None = None,
        name: str = "",
        batch_size: int = 16,
        show_progress_bar: bool | None = False,
        write_csv: bool = True,
        truncate_dim: int | None = None,
        similarity_fn_names: Sequence[Literal["cosine", "dot", "euclidean", "manhattan"]] | None = None,
        main_distance_function: str | SimilarityFunction | None = _NOT_GIVEN,
        *,
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
        check_equal_lengths(self.label, anchors=anchors, positives=positives, negatives=negatives)
        self.anchors = anchors
        self.positives = positives
        self.negatives = negatives
        if main_distance_function != _NOT_GIVEN and main_similarity_function is None:
            main_similarity_function = main_distance_function
            logger.warning(
                "%s: main_distance_function is deprecated, use main_similarity_function instead.", self.label
            )
        self.main_similarity_function = (
            SimilarityFunction(main_similarity_function) if main_similarity_function else None
        )
        names: list[Any] = list(similarity_fn_names or [])
        if not names and self.main_similarity_function is not None:
            names = [self.main_similarity_function]
        self.similarity_fn_names: list[str] = check_similarity_names(self.label, names, self.similarity_names)
        self.margin = _margins(self.label, margin, self.similarity_names)
        self.csv_file = "_".join(["triplet_evaluation", *filter(None, [name]), "results.csv"])

    @classmethod
    def from_input_examples(cls, examples: Sequence[Any], **kwargs: Any) -> TripletEvaluator:
        """Make one from `InputExample`s: anchor, positive and negative each."""
        return cls(
            [example.texts[0] for example in examples],
            [example.texts[1] for example in examples],
            [example.texts[2] for example in examples],
            **kwargs,
        )

    def metric_keys(self, scorer: Scorer) -> list[str]:
        """`<function>_accuracy`, and `max_accuracy` when there are several functions."""
        names = self._names(scorer)
        return [f"{name}_accuracy" for name in ([*names, "max"] if len(names) > 1 else names)]

    def primary_key(self, scorer: Scorer, metrics: Mapping[str, float] | None = None) -> str:
        """Accuracy of the main function, of the only one, or the maximum."""
        names = self._names(scorer)
        if self.main_similarity_function is not None and self.main_similarity_function.value in names:
            return f"{self.main_similarity_function.value}_accuracy"
        return "max_accuracy" if len(names) > 1 else f"{names[0]}_accuracy"

    def csv_columns(self, scorer: Scorer) -> list[tuple[str, str]]:
        """Accuracy of each function."""
        return [(f"accuracy_{name}", f"{name}_accuracy") for name in self._names(scorer)]

    def log_lines(self, scorer: Scorer, metrics: Mapping[str, float]) -> Sequence[str]:
        """A line a function."""
        return [
            f"Accuracy {name.capitalize()} Similarity:\t{metrics[f'{name}_accuracy']:.2%}"
            for name in self._names(scorer)
        ]

    def wants(self, scorer: Scorer) -> list[Wish]:
        """Anchors as queries, the others as documents."""
        as_query, as_document = self.options(task="query"), self.options(task="document")
        return [Wish(self.anchors, as_query), Wish([*self.positives, *self.negatives], as_document)]

    def score(self, scorer: Scorer) -> dict[str, float]:
        """Compare each anchor with its positive and its negative."""
        names = self._names(scorer)
        num_triplets = len(self.anchors)
        # Both comparisons in one call: all texts are encoded together, in batches of more even length.
        similarities = scorer.pairwise(
            [*self.anchors, *self.anchors],
            [*self.positives, *self.negatives],
            names,
            self.options(task="query"),
            self.options(task="document"),
        )
        metrics, right = {}, {}
        num_nonfinite = 0
        for name in names:
            positive, negative = similarities[name].reshape(2, num_triplets)
            unknown = int((~(positive.isfinite() & negative.isfinite())).sum())
            num_nonfinite = max(num_nonfinite, unknown)
            is_right = positive > negative + self.margin[name]
            right[f"{name}_accuracy"] = is_right
            metrics[f"{name}_accuracy"] = math.nan if unknown else int(is_right.sum()) / num_triplets
        self.keep(range(num_triplets), right)
        if num_nonfinite:
            warn_nonfinite(self.label, num_nonfinite, num_triplets, "triplets have similarities that")
        if len(names) > 1:
            metrics["max_accuracy"] = maximum(list(metrics.values()))
        return metrics

    def get_config_dict(self) -> dict[str, Any]:
        """Settings that the model card shows: the margins unless all are 0."""
        return {**({"margin": self.margin} if any(self.margin.values()) else {}), **super().get_config_dict()}

    def _names(self, scorer: Scorer) -> list[str]:
        return self.similarity_fn_names or [scorer.similarity_fn_name]


def _margins(label: str, margin: float | Mapping[str, float] | None, functions: Sequence[str]) -> dict[str, float]:
    given: Mapping[str, float]
    if margin is None:
        given = {}
    elif isinstance(margin, (int, float)):
        given = dict.fromkeys(functions, margin)
    elif isinstance(margin, Mapping):
        given = margin
    else:
        raise ValueError(f"{label}: margin={margin!r} is neither a number nor a dictionary of numbers.")
    unknown = sorted(set(given) - set(functions))
    if unknown:
        raise ValueError(f"{label}: margin has unexpected keys {unknown}; allowed are {', '.join(functions)}.")
    for name, value in given.items():
        if not math.isfinite(value):
            raise ValueError(f"{label}: the margin of {name} is {value!r}; it must be finite.")
    return {name: given.get(name, 0) for name in functions}
