"""How models of each kind are asked for embeddings or predictions, where the fast path does not drive them itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sentence_transformers import MultiVectorEncoder, SparseEncoder

from .fallback import encode_by_model
from .multi_vector import encode_multi_vector
from .options import EncodeOptions
from .predictions import PredictOptions, predict_by_model
from .sparse import encode_sparse
from .tables import Table

EncodeRows = Callable[[Any, Sequence[Any], EncodeOptions], Table]

# By class: the first that a model is an instance of decides; a dense matrix is what all others are asked for.
_KINDS: list[tuple[type, EncodeRows]] = [
    (MultiVectorEncoder, encode_multi_vector),
    (SparseEncoder, encode_sparse),
]


def encode_rows(model: Any, inputs: Sequence[Any], options: EncodeOptions) -> Table:
    """Encode inputs in one call of the model's own method.

    Args:
        model: Any object with `encode`.
        inputs: At least one input, of any kind the model takes.
        options: How they are encoded, but for truncation and normalisation.

    Returns:
        One row an input, whole.

    Raises:
        TypeError: When the model has no `encode`, or none of `predict` where pairs are to be scored.
        ValueError: When the result is not one row an input.
    """
    if isinstance(options, PredictOptions):
        return predict_by_model(model, inputs, options)
    for kind, encode in _KINDS:
        if isinstance(model, kind):
            return encode(model, inputs, options)
    return encode_by_model(model, inputs, options)
