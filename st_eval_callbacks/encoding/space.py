"""The embeddings of one model, prompt and task that one evaluation keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]
import torch
from torch import Tensor

from .numbering import Numbers
from .tables import Table, joined, num_bytes


class Space:
    """Whole embeddings by the numbers of their inputs, in one growing table.

    Args:
        model: The model; held so that its identity stays its own while the space lives.

    Attributes:
        model: The model.
        num_rows: Rows in use.
    """

    def __init__(self, model: Any) -> None:
        """Start empty."""
        self.model = model
        self.num_rows = 0
        self._rows: Numbers = np.empty(0, dtype=np.int64)
        self._storage: Tensor | None = None
        # What is no matrix grows part by part and is joined when it is read.
        self._parts: list[Any] = []

    @property
    def table(self) -> Any:
        """The num_rows rows kept; (0, 0) before the first."""
        if self._parts:
            self._parts = [joined(self._parts)]
            return self._parts[0]
        return torch.empty(0, 0) if self._storage is None else self._storage[: self.num_rows]

    @property
    def num_bytes(self) -> int:
        """Memory of the table, in bytes, including what is reserved."""
        return sum(map(num_bytes, self._parts if self._storage is None else [self._storage]))

    def rows(self, numbers: Numbers) -> Numbers:
        """(P,) row of each of P inputs, -1 where it is not kept."""
        highest = int(numbers.max(initial=-1))
        if highest >= len(self._rows):
            grown = np.full(max(highest + 1, 2 * len(self._rows)), -1, dtype=np.int64)
            grown[: len(self._rows)] = self._rows
            self._rows = grown
        return self._rows[numbers]

    def missing(self, numbers: Numbers) -> Numbers:
        """Distinct numbers, ascending, of inputs that are not kept."""
        absent = numbers[self.rows(numbers) < 0]
        if not len(absent):
            return absent
        # Marks tell what is distinct faster than sorting does.
        marks = np.zeros(len(self._rows), dtype=bool)
        marks[absent] = True
        return np.flatnonzero(marks)

    def index(self, numbers: Numbers) -> Tensor:
        """(P,) int64 row of each of P kept inputs, on the table's device."""
        return torch.from_numpy(self.rows(numbers)).to(self.table.device)

    def reserve(self, num_rows: int, like: Table) -> None:
        """Make room for more rows of a matrix at once, so that later additions don't copy it.

        Args:
            num_rows: How many will be added.
            like: A table of the same kind, width, type and device.
        """
        if not isinstance(like, Tensor):
            return
        needed = self.num_rows + num_rows
        if self._storage is None or len(self._storage) < needed:
            grown = like.new_empty((needed, like.shape[1]))
            if self._storage is not None:
                grown[: self.num_rows] = self.table
            self._storage = grown

    def add(self, numbers: Numbers, embeddings: Table) -> None:
        """Keep embeddings.

        Args:
            numbers: Distinct numbers of inputs that are not kept yet.
            embeddings: As many whole rows; not copied if they are the first.
        """
        if not len(numbers):
            return
        start, end = self.num_rows, self.num_rows + len(numbers)
        if not isinstance(embeddings, Tensor):
            self._parts.append(embeddings)
        elif self._storage is None:
            self._storage = embeddings
        else:
            self.reserve(len(numbers), embeddings)
            self._storage[start:end] = embeddings
        self.rows(numbers)
        self._rows[numbers] = np.arange(start, end)
        self.num_rows = end


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
