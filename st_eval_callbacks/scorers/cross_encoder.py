"""Models that read two texts together and score the pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

from ..encoding import PredictOptions, session
from .scorer import Wish


class CrossEncoderScorer:
    """A CrossEncoder, or any object with its `predict`, as a scorer.

    Predictions go through the session that is open; without one, each call opens its own.

    Args:
        model: The model.

    Raises:
        TypeError: When the model has no `predict`.
    """

    kind = "cross_encoder"

    def __init__(self, model: Any) -> None:
        """Check that the model can score pairs."""
        if not callable(getattr(model, "predict", None)):
            raise TypeError(f"{type(model).__name__} has no predict(pairs, ...), so it cannot score pairs.")
        self.model = model

    @property
    def similarity_fn_name(self) -> str:
        """There is none.

        Raises:
            TypeError: Always.
        """
        self._refuse("similarity function")

    def prepare(self, wishes: Sequence[Wish]) -> None:
        """Score together what tasks will ask for; without an open session nothing would keep it.

        Args:
            wishes: What they will ask for, pairs with `PredictOptions`.
        """
        with session() as current:
            current.prefetch(self.model, [(wish.inputs, wish.options) for wish in wishes])

    def predict(self, pairs: Sequence[Any], options: PredictOptions | None = None) -> Tensor:
        """Score P pairs, each distinct one once in an evaluation, whoever asks.

        Args:
            pairs: Pairs of texts, as tuples (known again fastest) or lists, or whatever the model takes.
            options: How they are scored.

        Returns:
            (P,) scores, or (P, num_labels) where there are several labels, after the activation function; at least
            float32, on the model's device.

        Raises:
            TypeError: When `pairs` is a single pair.
            ValueError: For a prompt name the model does not have, or a result that is not one row a pair.
        """
        if not len(pairs):
            return torch.empty(0)
        with session() as current:
            rows: Tensor = current.lookup(self.model, pairs, options or PredictOptions()).rows()
        return rows

    def embed(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: there are no embeddings.

        Raises:
            TypeError: Always.
        """
        self._refuse("embeddings")

    def pairwise(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: there are no embeddings to compare.

        Raises:
            TypeError: Always.
        """
        self._refuse("embeddings")

    def search(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: there are no embeddings to search.

        Raises:
            TypeError: Always.
        """
        self._refuse("embeddings")

    def _refuse(self, what: str) -> NoReturn:
        raise TypeError(f"{type(self.model).__name__} (a {self.kind} model) has no {what}; it scores pairs of texts.")


def num_labels(model: Any) -> int:
    """How many outputs a cross-encoder has for a pair; 1 where it does not say."""
    return int(getattr(model, "num_labels", 1))
