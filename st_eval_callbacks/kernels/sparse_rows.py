"""Embeddings most of whose components are 0: only the others are kept, row after row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class SparseRows:
    """N rows of which the components that are not 0 are kept, in ascending order of their columns.

    Attributes:
        offsets: (N + 1,) int64, where the components of each row begin, and where the last one's end.
        columns: (C,) int32 column of each component.
        values: (C,) its value, of any float type.
        width: Number of columns, V.

    Example:
        >>> import torch
        >>> rows = SparseRows.of(torch.tensor([[0.0, 2.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 3.0]]))
        >>> len(rows), rows.offsets, rows.columns
        (3, tensor([0, 1, 1, 3]), tensor([1, 0, 2], dtype=torch.int32))
    """

    offsets: Tensor
    columns: Tensor
    values: Tensor
    width: int

    @classmethod
    def of(cls, embeddings: Tensor) -> SparseRows:
        """Rows of a matrix.

        Args:
            embeddings: (N, V), dense or in one of torch's sparse layouts COO and CSR.

        Returns:
            Its rows, on the same device.

        Raises:
            ValueError: when it is no matrix.
        """
        if embeddings.ndim != 2:
            raise ValueError(f"embeddings must be (N, V), got {tuple(embeddings.shape)}")
        embeddings = embeddings.detach()
        num_rows, width = embeddings.shape
        if embeddings.layout == torch.sparse_csr:
            offsets, columns = embeddings.crow_indices().long(), embeddings.col_indices().int()
            return cls(offsets, columns, embeddings.values(), width)
        if embeddings.layout == torch.sparse_coo:
            whole = embeddings.coalesce()
            row, column = whole.indices()
            return cls(_offsets(row, num_rows), column.int(), whole.values(), width)
        flat = embeddings.reshape(-1)
        places = _places_not_zero(flat)
        row = places // max(width, 1)
        return cls(_offsets(row, num_rows), (places - row * width).int(), flat[places], width)

    def __len__(self) -> int:
        """N."""
        return len(self.offsets) - 1

    @property
    def shape(self) -> tuple[int, int]:
        """(N, V)."""
        return len(self), self.width

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.values.device

    @property
    def num_bytes(self) -> int:
        """Memory of the tensors, in bytes."""
        return sum(one.numel() * one.element_size() for one in self.tensors())

    @property
    def counts(self) -> Tensor:
        """(N,) int64 components of each row that are not 0."""
        return self.offsets.diff()

    @property
    def row_index(self) -> Tensor:
        """(C,) int64 row of each component."""
        return torch.arange(len(self), device=self.device).repeat_interleave(self.counts)

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Offsets, columns and values."""
        return self.offsets, self.columns, self.values

    # -- as a session keeps them --------------------------------------------------------------------------------------

    def take(self, index: Tensor) -> SparseRows:
        """Some rows, in the order of a (P,) int64 index; a copy."""
        counts = self.counts[index]
        offsets = _with_zero(counts.cumsum(0))
        shift = (self.offsets[index] - offsets[:-1]).repeat_interleave(counts)
        places = shift.add_(torch.arange(len(shift), device=self.device))
        return SparseRows(
            offsets, self.columns.index_select(0, places), self.values.index_select(0, places), self.width
        )

    def part(self, start: int, stop: int) -> SparseRows:
        """Rows that follow one another; columns and values are views."""
        offsets = self.offsets[start : max(stop, start) + 1]
        first, last = (int(offsets[0]), int(offsets[-1])) if len(offsets) else (0, 0)
        if not len(offsets):
            offsets = self.offsets[-1:]
            first = last = int(offsets[0])
        return SparseRows(offsets - first, self.columns[first:last], self.values[first:last], self.width)

    def joined(self, others: Sequence[SparseRows]) -> SparseRows:
        """These rows and those of others, one after another.

        Raises:
            ValueError: when they differ in width.
        """
        parts = [self, *others]
        if len({part.width for part in parts}) > 1:
            raise ValueError(f"rows have different widths: {', '.join(str(part.width) for part in parts)}")
        dtype = self.values.dtype
        return SparseRows(
            _with_zero(torch.cat([part.counts for part in parts]).cumsum(0)),
            torch.cat([part.columns for part in parts]),
            torch.cat([part.values.to(dtype) for part in parts]),
            self.width,
        )

    def truncated(self, dim: int) -> SparseRows:
        """The leading columns."""
        if dim >= self.width:
            return self
        return replace(self.where(self.columns < dim), width=dim)

    def normalised(self, lengths: Tensor | None = None) -> SparseRows:
        """Each row in length 1, given its `lengths` where they are known; one without components stays as it is."""
        rows = self.widened()
        lengths = self.lengths() if lengths is None else lengths
        return replace(rows, values=rows.values / lengths.repeat_interleave(rows.counts))

    def lengths(self) -> Tensor:
        """(N,) what each row is divided by to get length 1, in the type it is scored in; 1 for a row of zeros."""
        rows = self.widened()
        found = rows.sums(rows.values.square()).sqrt_()
        # Also rows whose components are too small to be squared stay as they are.
        return found.masked_fill_(found == 0, 1)

    def gathered(self, gather: Callable[[Tensor], list[Tensor]]) -> list[SparseRows]:
        """The rows of all processes, given what gathers a tensor of each."""
        offsets, columns, values = map(gather, self.tensors())
        return [SparseRows(*each, self.width) for each in zip(offsets, columns, values, strict=True)]

    # -- for kernels --------------------------------------------------------------------------------------------------

    def to(self, device: torch.device | str) -> SparseRows:
        """The same on a device."""
        return SparseRows(self.offsets.to(device), self.columns.to(device), self.values.to(device), self.width)

    def cpu(self) -> SparseRows:
        """The same in main memory."""
        return self.to("cpu")

    def widened(self, dtype: torch.dtype | None = None) -> SparseRows:
        """The same in the type it is scored in: float64 stays, all else becomes float32, unless another is given."""
        if dtype is None:
            dtype = torch.float64 if self.values.dtype == torch.float64 else torch.float32
        return replace(self, values=self.values.to(dtype))

    def sums(self, values: Tensor) -> Tensor:
        """(N,) sum over each row of (C,) values, added up in float64; rounded once."""
        found: Tensor = torch.segment_reduce(values.double(), "sum", offsets=self.offsets)
        return found.to(values.dtype)

    def num_nonfinite(self) -> int:
        """How many rows have a component that is NaN or infinite."""
        return int(self.nonfinite().sum())

    def nonfinite(self) -> Tensor:
        """(N,) bool, which rows have a component that is NaN or infinite."""
        marks = torch.zeros(len(self), dtype=torch.bool, device=self.device)
        wrong = ~self.values.isfinite()
        if wrong.any():
            marks[self.row_index[wrong]] = True
        return marks

    def dense(self) -> Tensor:
        """(N, V) as a dense matrix."""
        table = self.values.new_zeros(self.shape)
        table[self.row_index, self.columns.long()] = self.values
        return table

    def as_tensor(self) -> Tensor:
        """(N, V) as a coalesced COO tensor, which is what sentence-transformers' functions take."""
        indices = torch.stack([self.row_index, self.columns.long()])
        return torch.sparse_coo_tensor(indices, self.values, self.shape, is_coalesced=True, check_invariants=False)

    def as_vectors(self) -> list[Tensor]:
        """N coalesced (V,) COO tensors."""
        bounds, columns = self.offsets.tolist(), self.columns.long()[None]
        return [
            torch.sparse_coo_tensor(
                columns[:, start:stop],
                self.values[start:stop],
                (self.width,),
                is_coalesced=True,
                check_invariants=False,
            )
            for start, stop in zip(bounds, bounds[1:], strict=False)
        ]

    def where(self, kept: Tensor) -> SparseRows:
        """Those components alone that a (C,) bool tensor marks."""
        passed = _with_zero(kept.cumsum(0))
        return SparseRows(passed[self.offsets], self.columns[kept], self.values[kept], self.width)


def _with_zero(ends: Tensor) -> Tensor:
    return torch.cat([ends.new_zeros(1), ends])


def _offsets(row: Tensor, num_rows: int) -> Tensor:
    return _with_zero(torch.bincount(row, minlength=num_rows).cumsum(0))


def _places_not_zero(flat: Tensor) -> Tensor:
    """Where a vector is not 0; on a CPU numpy finds these several times faster."""
    if flat.device.type == "cpu":
        found: Any = np.flatnonzero((flat != 0).numpy())
        return torch.from_numpy(found)
    return flat.nonzero().squeeze(1)
