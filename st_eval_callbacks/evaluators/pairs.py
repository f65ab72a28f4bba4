"""What evaluators of cross-encoders share: pairs, prompts, predictions."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from ..encoding import PredictOptions
from ..scorers import Scorer, Wish, num_labels
from .base import Evaluator

logger = logging.getLogger(__name__)


class PairEvaluator(Evaluator):
    """Base of the evaluators of cross-encoders: pairs are scored once in an evaluation, whoever asks.

    Args:
        prompt_name: Key of the model's `prompts`; None takes the model's default prompt.
        **settings: See `Evaluator`.
    """

    kinds: ClassVar[tuple[str, ...]] = ("cross_encoder",)

    def __init__(self, *, prompt_name: str | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self.prompt_name = prompt_name
        self._pairs: list[Any] = []

    def options(self, **given: Any) -> PredictOptions:
        """How pairs are scored: the evaluator's settings, and what is given here."""
        return PredictOptions(**{**vars(super().options()), "prompt_name": self.prompt_name, **given})

    def scorer(self, model: Any) -> Scorer:
        """The model behind the interface that tasks use.

        Raises:
            TypeError: When this task makes no sense for this kind of model.
            ValueError: When the model has no prompt of the given name.
        """
        scorer = super().scorer(model)
        prompts = getattr(model, "prompts", None)
        if self.prompt_name is not None and isinstance(prompts, Mapping) and self.prompt_name not in prompts:
            raise ValueError(
                f"{self.label}: prompt_name={self.prompt_name!r}, but the model's prompts are {list(prompts)}."
            )
        return scorer

    def wants(self, scorer: Scorer) -> list[Wish]:
        """All pairs."""
        return [Wish(self._pairs, self.options())]

    def predictions(self, scorer: Scorer) -> Tensor:
        """(P,) scores of the pairs, or (P, num_labels), on the host.

        Raises:
            ValueError: When they are not as many a pair as the model has labels.
        """
        scores = scorer.predict(self._pairs, self.options()).cpu()
        expected = num_labels(scorer.model)
        if (1 if scores.ndim == 1 else scores.shape[1]) != expected:
            raise ValueError(
                f"{self.label}: the model has num_labels={expected}, but its predictions for {len(self._pairs)} pairs "
                f"have the shape {tuple(scores.shape)}."
            )
        return scores

    def check_one_label(self, scorer: Scorer) -> None:
        """Refuse models that give a pair more than one score.

        Raises:
            ValueError: Says how many it gives.
        """
        if (found := num_labels(scorer.model)) != 1:
            raise ValueError(
                f"{self.label} needs one score a pair, but {type(scorer.model).__name__} has num_labels={found}; "
                "CrossEncoderClassificationEvaluator takes models with several labels."
            )

    def warn_if_collapsed(self, scores: Tensor) -> None:
        """Say so when all pairs have the same score."""
        # A few tell at once that they differ, which they nearly always do.
        if len(scores) > 1 and all(bool((part == scores[0]).all()) for part in (scores[:100], scores)):
            logger.warning(
                "%s: all %d pairs have the same prediction: the model has collapsed, or its activation function "
                "is saturated.",
                self.label,
                len(scores),
            )


def num_nonfinite(scores: Tensor) -> int:
    """How many scores are NaN or infinite."""
    # A finite sum has finite parts, and is found several times as fast.
    return 0 if bool(scores.sum().isfinite()) else int((~scores.isfinite()).sum())


def checked_pairs(label: str, pairs: Sequence[Any]) -> list[Any]:
    """Pairs as tuples, which are known again from one evaluation to the next.

    Raises:
        ValueError: When one is a single text or has not two parts.
    """
    for number, pair in enumerate(pairs):
        if isinstance(pair, (str, Mapping)) or not hasattr(pair, "__len__") or len(pair) != 2:
            raise ValueError(f"{label}: pair {number} is {pair!r}; it must have two parts.")
    return [pair if type(pair) is tuple else tuple(pair) for pair in pairs]
