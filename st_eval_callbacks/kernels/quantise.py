"""Embeddings in fewer bits: what a vector store keeps of them, as numbers that can be compared."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

Precision = Literal["float32", "int8", "uint8", "binary", "ubinary"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
_BINS = 255


def check_precision(precision: str) -> None:
    """Refuse a precision that does not exist.

    Raises:
        ValueError: Says what there is.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision!r}: one of {', '.join(PRECISIONS)}.")


def needs_ranges(precision: str) -> bool:
    """Whether each component is laid into bins between its lowest and its highest value.

    >>> needs_ranges("int8"), needs_ranges("binary")
    (True, False)
    """
    return precision in ("int8", "uint8")


def ranges_of(embeddings: Tensor) -> Tensor:
    """Lowest and highest value of each component.

    Args:
        embeddings: Shape ``(N, d)``, N at least 1.

    Returns:
        Shape ``(2, d)``, float32.
    """
    values = embeddings.float()
    return torch.stack([values.amin(dim=0), values.amax(dim=0)])


def quantise(embeddings: Tensor, precision: str, ranges: Tensor | None = None) -> Tensor:
    """Quantise embeddings as sentence-transformers does, and give what is left of them as float32.

    "int8" and "uint8" lay each component into 255 equal steps between its lowest and its highest value and count them
    from -128 or 0; what lies outside falls into the first or the last. "binary" and "ubinary" keep whether a component
    is above 0, which is 1 or 0 here, whichever way a store packs it. A component of NaN stays NaN.

    Args:
        embeddings: Shape ``(N, d)``.
        precision: One of ``PRECISIONS``; "float32" leaves the values as they are.
        ranges: Shape ``(2, d)``, of ``ranges_of``; needed for "int8" and "uint8".

    Returns:
        Shape ``(N, d)``, float32.

    Raises:
        ValueError: When there is no such precision, or it needs ranges and has none.

    >>> ranges = torch.tensor([[0.0, 0.0], [255.0, 510.0]])
    >>> quantise(torch.tensor([[0.0, 255.0], [300.0, 510.0]]), "int8", ranges).tolist()
    [[-128.0, -1.0], [127.0, 127.0]]
    >>> quantise(torch.tensor([[-0.1, 0.0, 0.2]]), "binary").tolist()
    [[0.0, 0.0, 1.0]]
    """
    check_precision(precision)
    values = embeddings.float()
    if precision == "float32":
        return values
    if not needs_ranges(precision):
        return torch.where(values.isnan(), values, (values > 0).float())
    if ranges is None:
        raise ValueError(f"precision={precision!r} needs the ranges of the components.")
    low, high = ranges.to(values.device)
    # A component that never varies has one bin.
    step = torch.where(high > low, (high - low) / _BINS, torch.ones_like(low))
    bins: Tensor = ((values - low) / step).floor().clamp(0, _BINS)
    return bins if precision == "uint8" else bins - 128
