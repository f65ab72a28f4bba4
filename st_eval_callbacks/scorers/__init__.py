"""One adapter for each kind of model, so that a task is written once for all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer, SparseEncoder

from .cross_encoder import CrossEncoderScorer, num_labels
from .dense import DenseScorer
from .forms import Form
from .multi_vector import MultiVectorScorer
from .scorer import Scorer, SearchResult, Similarity, Wish
from .sparse import SparseScorer

__all__ = [
    "CrossEncoderScorer",
    "DenseScorer",
    "Form",
    "MultiVectorScorer",
    "Scorer",
    "SearchResult",
    "Similarity",
    "SparseScorer",
    "Wish",
    "num_labels",
    "scorer_for",
]

# The first class that a model is an instance of decides.
_ADAPTERS: list[tuple[type, Callable[[Any], Scorer]]] = [
    (SparseEncoder, SparseScorer),
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
        TypeError: When the model has neither.
    """
    for kind, adapter in _ADAPTERS:
        if isinstance(model, kind):
            return adapter(model)
    if not hasattr(model, "encode") and callable(getattr(model, "predict", None)):
        return CrossEncoderScorer(model)
    return DenseScorer(model)
