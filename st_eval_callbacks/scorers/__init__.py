"""One adapter for each kind of model, so that a task is written once for all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer, SparseEncoder

from .cross_encoder import CrossEncoderScorer, num_labels
from .dense import DenseScorer
from .multi_vector import MultiVectorScorer
from .scorer import Scorer, SearchResult, Similarity, Wish

__all__ = [
    "CrossEncoderScorer",
    "DenseScorer",
    "MultiVectorScorer",
    "Scorer",
    "SearchResult",
    "Similarity",
    "Wish",
    "num_labels",
    "scorer_for",
]

# The first class that a model is an instance of decides; None stands for a kind without an adapter.
_ADAPTERS: list[tuple[type, Callable[[Any], Scorer] | None]] = [
    (SparseEncoder, None),
    (CrossEncoder, CrossEncoderScorer),
    (MultiVectorEncoder, MultiVectorScorer),
    (SentenceTransformer, DenseScorer),
]


def scorer_for(model: Any) -> Scorer:
    """The adapter for a model.

    Args:
        model: A model of sentence-transformers, or any object with `encode`, or with `predict` alone.

    Returns:
        A scorer.

    Raises:
        TypeError: When no adapter fits.
    """
    adapter: Callable[[Any], Scorer] | None = DenseScorer
    for kind, found in _ADAPTERS:
        if isinstance(model, kind):
            adapter = found
            break
    else:
        if not hasattr(model, "encode") and callable(getattr(model, "predict", None)):
            adapter = CrossEncoderScorer
    if adapter is None:
        raise TypeError(
            f"{type(model).__name__}: there is no adapter for this kind of model. SentenceTransformer and "
            "CrossEncoder and MultiVectorEncoder models can be evaluated, and objects with their encode or predict."
        )
    return adapter(model)
