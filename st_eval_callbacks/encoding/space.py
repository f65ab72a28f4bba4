"""The embeddings of one model, prompt and task that one evaluation keeps."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]
import torch
from torch import Tensor


class Space:
    """Whole embeddings by input, in one growing table.

    Args:
        model: The model; held so that its identity stays its own while the space lives.

    Attributes:
        model: The model.
        rows: Row of each kept input.
    """

    def __init__(self, model: Any) -> None:
        """Start empty."""
        self.model = model
        self.rows: dict[Hashable, int] = {}
        self._storage: Tensor | None = None

    @property
    def table(self) -> Tensor:
        """(len(rows), d) embeddings kept; (0, 0) before the first."""
        return torch.empty(0, 0) if self._storage is None else self._storage[: len(self.rows)]

    @property
    def num_bytes(self) -> int:
        """Memory of the table, in bytes, including what is reserved."""
        return 0 if self._storage is None else self._storage.numel() * self._storage.element_size()

    def missing(self, keys: Sequence[Hashable], inputs: Sequence[Any]) -> dict[Hashable, Any]:
        """Distinct inputs that are not kept.

        Args:
            keys: Keys of inputs.
            inputs: The inputs themselves.

        Returns:
            Input by key, in the order in which keys first appear.
        """
        if not self.rows:
            return dict(zip(keys, inputs, strict=True))
        # Mostly nothing is missing, which sets tell faster than a loop.
        new = set(keys).difference(self.rows)
        if not new:
            return {}
        return {key: one for key, one in zip(keys, inputs, strict=True) if key in new}

    def reserve(self, num_rows: int, like: Tensor) -> None:
        """Make room for more rows at once, so that later additions don't copy the table.

        Args:
            num_rows: How many will be added.
            like: An embedding table of the same width, type and device.
        """
        needed = len(self.rows) + num_rows
        if self._storage is None or len(self._storage) < needed:
            grown = like.new_empty((needed, like.shape[1]))
            if self._storage is not None:
                grown[: len(self.rows)] = self.table
            self._storage = grown

    def add(self, keys: Sequence[Hashable], embeddings: Tensor) -> None:
        """Keep embeddings.

        Args:
            keys: Distinct keys that are not kept yet.
            embeddings: (len(keys), d) whole embeddings; not copied if they are the first.
        """
        if not keys:
            return
        start = len(self.rows)
        if self._storage is None:
            self._storage = embeddings
        else:
            self.reserve(len(keys), embeddings)
            self._storage[start : start + len(keys)] = embeddings
        self.rows.update(zip(keys, range(start, start + len(keys)), strict=True))

    def index(self, keys: Sequence[Hashable]) -> Tensor:
        """(len(keys),) int64 row of each kept key, on the table's device."""
        rows = np.fromiter(map(self.rows.__getitem__, keys), dtype=np.int64, count=len(keys))
        return torch.from_numpy(rows).to(self.table.device)


def free_memory(device: torch.device) -> int:
    """Memory that can still be allocated on a device, in bytes.

    Args:
        device: The device.

    Returns:
        On CUDA what the device has free and what torch holds unused; else what the machine has available.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(psutil.virtual_memory().available)
