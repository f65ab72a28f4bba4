"""Inputs through the methods of a model that makes several vectors an input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..kernels.ragged_rows import RaggedRows, offsets_of
from .fallback import encode_method
from .options import EncodeOptions

# Inputs in one call: a list of as many small tensors is held until they are joined.
_CALL_SIZE = 8192
_DEFAULT_BATCH_SIZE = 32


def encode_multi_vector(model: Any, inputs: Sequence[Any], options: EncodeOptions) -> RaggedRows:
    """Encode inputs by `encode_query`, `encode_document` or `encode`, the longest first over all calls.

    Args:
        model: A MultiVectorEncoder.
        inputs: At least one input.
        options: How they are encoded. Truncation and normalisation are left to the caller.

    Returns:
        The vectors of each input, on the device the model returns them on.

    Raises:
        ValueError: When the result is not one matrix an input.
    """
    method, _ = encode_method(model, options.task)
    arguments: dict[str, Any] = {"show_progress_bar": options.show_progress_bar}
    for name in ("batch_size", "prompt", "prompt_name"):
        if getattr(options, name) is not None:
            arguments[name] = getattr(options, name)
    batch_size = options.batch_size or _DEFAULT_BATCH_SIZE
    # Whole batches a call: as many inputs make as many passes on every process.
    call_size = -(-_CALL_SIZE // batch_size) * batch_size
    order = _longest_first(inputs) if len(inputs) > call_size else np.arange(len(inputs))
    parts = []
    for start in range(0, len(inputs), call_size):
        asked = [inputs[place] for place in order[start : start + call_size]]
        parts.append(_joined(model, method(asked, **arguments), len(asked)))
    return parts[0] if len(parts) == 1 else _in_order(parts, torch.from_numpy(order))


def _in_order(parts: list[RaggedRows], order: Tensor) -> RaggedRows:
    """Rows of parts at their places, each part let go once it is copied."""
    lengths = torch.empty(len(order), dtype=torch.int64)
    lengths[order] = torch.cat([part.lengths for part in parts])
    offsets = offsets_of(lengths)
    vectors = parts[0].vectors.new_empty((int(offsets[-1]), parts[0].dim))
    end = len(order)
    while parts:
        part = parts.pop()
        places = order[end - len(part) : end]
        end -= len(part)
        shift = (offsets[places] - part.offsets[:-1]).repeat_interleave(part.lengths)
        vectors[(shift + torch.arange(len(part.vectors))).to(vectors.device)] = part.vectors
    return RaggedRows(vectors, offsets)


def _joined(model: Any, result: Any, num_inputs: int) -> RaggedRows:
    each = [row.detach() if isinstance(row, Tensor) else torch.from_numpy(np.ascontiguousarray(row)) for row in result]
    if len(each) != num_inputs or any(row.ndim != 2 for row in each):
        shapes = ", ".join(str(tuple(row.shape)) for row in each[:3])
        raise ValueError(
            f"{type(model).__name__} returned {len(each)} embeddings of shape {shapes} for {num_inputs} inputs; one "
            "(tokens, d) matrix an input is needed."
        )
    return RaggedRows.of(each)


def _longest_first(inputs: Sequence[Any]) -> Any:
    lengths = np.fromiter((len(one) if isinstance(one, str) else 0 for one in inputs), np.int64, len(inputs))
    return np.argsort(-lengths, kind="stable")
