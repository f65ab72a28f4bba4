"""Inputs through a `SparseEncoder`, whose embeddings become sparse rows a portion at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from ..kernels.sparse_rows import SparseRows
from .fallback import encode_method
from .options import EncodeOptions

_BATCH_SIZE = 32
# Inputs in one call where it returns sparse tensors, of a few kilobytes each.
_SPARSE_ROWS = 1024


def encode_sparse(model: Any, inputs: Sequence[Any], options: EncodeOptions) -> SparseRows:
    """Encode inputs, longest first, in calls of the model's own method that return few enough rows to be kept whole.

    Args:
        model: A `SparseEncoder`.
        inputs: At least one input.
        options: How they are encoded; `max_active_dims` goes to the model, truncation is left to the caller.

    Returns:
        One row an input, on the device the model returns them on.

    Raises:
        ValueError: When the result is not one row an input.
    """
    method, _ = encode_method(model, options.task)
    batch_size = options.batch_size or _BATCH_SIZE
    # On an accelerator the model would cut its sparse batches into rows one by one, and wait for each.
    as_sparse = getattr(getattr(model, "device", None), "type", "cpu") == "cpu"
    arguments: dict[str, Any] = {
        "batch_size": batch_size,
        "show_progress_bar": False,
        "convert_to_tensor": True,
        "convert_to_sparse_tensor": as_sparse,
        "max_active_dims": options.max_active_dims,
        "prompt": options.prompt,
        "prompt_name": options.prompt_name,
    }
    size = max(_SPARSE_ROWS, batch_size) if as_sparse else batch_size
    lengths = np.array([len(one) if isinstance(one, str) else 0 for one in inputs])
    order = np.argsort(-lengths, kind="stable")
    parts = []
    with tqdm(total=len(inputs), desc="Encoding", unit="text", disable=not options.show_progress_bar) as bar:
        for start in range(0, len(inputs), size):
            chosen = [inputs[place] for place in order[start : start + size]]
            rows = _as_rows(method(chosen, **arguments))
            if len(rows) != len(chosen):
                raise ValueError(f"{type(model).__name__} returned {len(rows)} embeddings for {len(chosen)} inputs.")
            parts.append(rows)
            bar.update(len(chosen))
    back = torch.from_numpy(np.argsort(order)).to(parts[0].device)
    return parts[0].joined(parts[1:]).take(back)


def _as_rows(result: Any) -> SparseRows:
    if isinstance(result, SparseRows):
        return result
    if not isinstance(result, Tensor):
        result = torch.stack([torch.as_tensor(one) for one in result])
    return SparseRows.of(result)
