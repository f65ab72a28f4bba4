"""Batches of tokenised texts: how large they are, what they consist of, how they reach the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .token_store import TYPE_BIT, Layout

# A CPU is fastest while a batch stays in its cache; a GPU needs work enough to fill it.
_CPU_BUDGET, _GPU_BUDGET = 1024, 32768
# Looking vectors up costs memory traffic only: the budget just bounds a batch.
_BAG_BUDGET = 1 << 18


def token_budget(device: torch.device, is_bag: bool = False) -> int:
    """Most padded tokens in a batch.

    Args:
        device: Where the model is.
        is_bag: Whether texts are bags of tokens, that is the model is static.

    Returns:
        Number of tokens.
    """
    if is_bag:
        return _BAG_BUDGET
    return _CPU_BUDGET if device.type == "cpu" else _GPU_BUDGET


def num_chars(one: Any) -> int:
    """How long a text or a pair of texts is, in characters; 0 for anything else."""
    if isinstance(one, str):
        return len(one)
    return sum(map(num_chars, one)) if isinstance(one, tuple) else 0


def collate(layout: Layout, rows: Sequence[bytes]) -> dict[str, Any]:
    """Features of a batch.

    Args:
        layout: What the model wants.
        rows: For each text what `tokens.tokenise` says.

    Returns:
        Features by name, tensors on the CPU.
    """
    flat = torch.from_numpy(np.frombuffer(b"".join(rows), dtype=np.int32).astype(np.int64))
    lengths = torch.tensor([len(row) // 4 for row in rows])
    if layout.is_bag:
        return {"input_ids": flat, "offsets": torch.cumsum(lengths, dim=0) - lengths, **layout.constants}
    width = int(lengths.max())
    positions = torch.arange(width)
    mask = positions >= width - lengths[:, None] if layout.pads_left else positions < lengths[:, None]
    ids = torch.full(mask.shape, layout.pad_id)
    ids[mask] = flat & ~(1 << TYPE_BIT)
    features = {"input_ids": ids, "attention_mask": mask.long(), **layout.constants}
    if layout.has_types:
        types = features["token_type_ids"] = torch.zeros_like(ids)
        types[mask] = flat >> TYPE_BIT
    return features


def to_device(features: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Features with their tensors on a device; copies to a CUDA device don't wait for it.

    Args:
        features: Features by name, tensors on the CPU.
        device: Where to.

    Returns:
        A new dict.
    """
    return {name: _moved(value, device) if isinstance(value, Tensor) else value for name, value in features.items()}


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
