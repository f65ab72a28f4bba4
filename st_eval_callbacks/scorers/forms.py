"""Forms in which one embedding can be compared: so many of its dimensions, in so many bits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..encoding.tables import normalised, truncated
from ..kernels.quantise import needs_ranges, quantise, ranges_of

# Rows that are quantised at a time: a search scores about as many.
_PORTION = 4096


@dataclass(frozen=True)
class Form:
    """What is compared of whole embeddings.

    Attributes:
        truncate_dim: Leading dimensions that are kept; None keeps all.
        precision: Vectors get length 1, after truncation, and are quantised; None leaves them as they are.
        ranges: (2, d) lowest and highest value of each component; needed for "int8" and "uint8".
    """

    truncate_dim: int | None = None
    precision: str | None = None
    ranges: Tensor | None = None

    def of(self, rows: Any) -> Any:
        """Rows in this form, from whole ones."""
        rows = rows if self.truncate_dim is None else truncated(rows, self.truncate_dim)
        return rows if self.precision is None else quantise(normalised(rows.float()), self.precision, self.ranges)

    def portions(self, rows: Any) -> Iterator[Any]:
        """The same in portions, of which only one is in memory at a time where they are copies."""
        if self.precision is None:
            yield self.of(rows)
            return
        for start in range(0, len(rows), _PORTION):
            yield self.of(rows[start : start + _PORTION])

    @property
    def needs_ranges(self) -> bool:
        """Whether it has to be calibrated before use."""
        return self.precision is not None and self.ranges is None and needs_ranges(self.precision)

    def calibrated(self, rows: Any) -> Form:
        """This form with the ranges of some whole rows, where it needs any."""
        if not self.needs_ranges:
            return self
        plain = Form(self.truncate_dim, "float32")
        ranges = torch.stack([ranges_of(portion) for portion in plain.portions(rows)])
        return Form(self.truncate_dim, self.precision, torch.stack([ranges[:, 0].amin(0), ranges[:, 1].amax(0)]))
