"""Several vectors a row: as many as an input has tokens, without padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class RaggedRows:
    """N rows of any number of vectors each, one after another in one matrix.

    Args:
        vectors: (T, d) vectors of all rows, in the order of the rows.
        offsets: (N + 1,) int64, ascending from 0 to T: row i is ``vectors[offsets[i]:offsets[i + 1]]``.

    Raises:
        ValueError: for vectors that are no matrix, or offsets that don't fit them.

    Attributes:
        vectors: (T, d) vectors, never to be written: rows that were taken out may share them.
        offsets: (N + 1,) int64 on the CPU, where work is planned.

    Example:
        >>> import torch
        >>> rows = RaggedRows.of([torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[3.0, 4.0]])])
        >>> len(rows), rows.lengths.tolist(), rows.take(torch.tensor([1, 0])).vectors.tolist()
        (2, [2, 1], [[3.0, 4.0], [1.0, 0.0], [0.0, 1.0]])
    """

    def __init__(self, vectors: Tensor, offsets: Tensor) -> None:
        offsets = offsets.detach().to("cpu", torch.int64)
        if vectors.ndim != 2 or offsets.ndim != 1 or not len(offsets):
            raise ValueError(f"vectors must be (T, d) and offsets (N + 1,), got {vectors.shape} and {offsets.shape}")
        if int(offsets[0]) or int(offsets[-1]) != len(vectors) or bool((offsets.diff() < 0).any()):
            raise ValueError(f"offsets must ascend from 0 to the number of vectors, {len(vectors)}")
        self.vectors = vectors.detach()
        self.offsets = offsets

    @classmethod
    def of(cls, rows: Sequence[Tensor]) -> RaggedRows:
        """Join rows that are given one by one.

        Args:
            rows: N matrices (n_i, d) of one type on one device, at least one.

        Returns:
            The rows, a copy.

        Raises:
            ValueError: for no rows, or rows that are no matrices of one width.
        """
        if not len(rows) or any(row.ndim != 2 or row.shape[1] != rows[0].shape[1] for row in rows):
            shapes = ", ".join(str(tuple(row.shape)) for row in rows[:3])
            raise ValueError(f"rows must be at least one matrix (n, d) of one width d, got {shapes or 'none'}")
        return cls(torch.cat(list(rows)), offsets_of(torch.tensor([len(row) for row in rows])))

    @classmethod
    def of_padded(cls, rows: Tensor, mask: Tensor | None = None) -> RaggedRows:
        """Drop the padding of rows.

        Args:
            rows: (N, n, d) vectors.
            mask: (N, n), not 0 where a vector counts; None leaves out vectors that are all 0, as
                sentence-transformers does.

        Returns:
            The rows, a copy.

        Raises:
            ValueError: for shapes that don't fit.
        """
        if rows.ndim != 3 or (mask is not None and mask.shape != rows.shape[:2]):
            shape = None if mask is None else tuple(mask.shape)
            raise ValueError(f"padded rows must be (N, n, d) with a mask (N, n), got {tuple(rows.shape)} and {shape}")
        counts = rows.ne(0).any(dim=2) if mask is None else mask.bool()
        return cls(rows[counts], offsets_of(counts.sum(dim=1)))

    def __len__(self) -> int:
        """N."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Tensor:
        """(N,) int64 number of vectors of each row, on the CPU."""
        return self.offsets.diff()

    @property
    def dim(self) -> int:
        """Width d of the vectors."""
        return self.vectors.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the vectors are."""
        return self.vectors.device

    @property
    def num_bytes(self) -> int:
        """Memory of the rows, in bytes."""
        return self.vectors.numel() * self.vectors.element_size() + self.offsets.numel() * 8

    def part(self, start: int, end: int) -> RaggedRows:
        """Rows from one place to another, without a copy of their vectors."""
        offsets = self.offsets[start : end + 1]
        return RaggedRows(self.vectors[int(offsets[0]) : int(offsets[-1])], offsets - offsets[0])

    def take(self, index: Tensor) -> RaggedRows:
        """Some rows.

        Args:
            index: (P,) int64 places.

        Returns:
            P rows in the order of the index; their vectors are copied unless the rows stand in a run.
        """
        index = index.cpu()
        if len(index) and bool((index.diff() == 1).all()):
            return self.part(int(index[0]), int(index[-1]) + 1)
        lengths = self.lengths[index]
        offsets = offsets_of(lengths)
        places = (self.offsets[index] - offsets[:-1]).repeat_interleave(lengths)
        places += torch.arange(len(places))
        return RaggedRows(self.vectors.index_select(0, places.to(self.device)), offsets)

    def joined(self, others: Sequence[RaggedRows]) -> RaggedRows:
        """These rows and others, one after another; a copy."""
        each = [self, *others]
        return RaggedRows(torch.cat([one.vectors for one in each]), offsets_of(torch.cat([o.lengths for o in each])))

    def truncated(self, dim: int) -> RaggedRows:
        """The leading dimensions of each vector, without a copy."""
        return RaggedRows(self.vectors[:, :dim], self.offsets)

    def normalised(self) -> RaggedRows:
        """Each vector in length 1; a copy."""
        return RaggedRows(torch.nn.functional.normalize(self.vectors, dim=1), self.offsets)

    def gathered(self, gather: Callable[[Tensor], list[Tensor]]) -> list[RaggedRows]:
        """The rows of all processes, given what gathers a tensor of each."""
        return [
            RaggedRows(*pair) for pair in zip(gather(self.vectors), map(offsets_of, gather(self.lengths)), strict=True)
        ]

    def split(self) -> list[Tensor]:
        """N matrices (n_i, d), views."""
        return list(torch.split(self.vectors, self.lengths.tolist()))

    def padded(self) -> Tensor:
        """(N, n, d) vectors, each row filled up with zeros to the longest; a copy."""
        longest = int(self.lengths.max()) if len(self) else 0
        table = self.vectors.new_zeros((len(self), longest, self.dim))
        counts = torch.arange(longest) < self.lengths[:, None]
        table[counts.to(self.device)] = self.vectors
        return table


def offsets_of(lengths: Tensor) -> Tensor:
    """(N + 1,) int64 where each row begins, and where the last one ends.

    >>> offsets_of(torch.tensor([2, 0, 1])).tolist()
    [0, 2, 2, 3]
    """
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
