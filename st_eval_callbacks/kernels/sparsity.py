"""How sparse embeddings are, and what comparing them costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from .sparse_rows import SparseRows


@dataclass(frozen=True, eq=False)
class Usage:
    """How often each column is used by some rows.

    Attributes:
        num_rows: How many rows there are.
        counts: (V,) int64, rows whose component is not 0, by column.

    Example:
        >>> import torch
        >>> usage = Usage.of(SparseRows.of(torch.tensor([[0.0, 2.0, 1.0], [0.0, 1.0, 0.0]])))
        >>> usage.active_dims, usage.sparsity_ratio, usage.flops(usage)
        (1.5, 0.5, 1.25)
    """

    num_rows: int
    counts: Tensor

    @classmethod
    def none(cls, width: int) -> Usage:
        """That of no rows."""
        return cls(0, torch.zeros(width, dtype=torch.int64))

    @classmethod
    def of(cls, rows: SparseRows) -> Usage:
        """That of rows."""
        return cls(len(rows), torch.bincount(rows.columns, minlength=rows.width).cpu())

    def __add__(self, other: Usage) -> Usage:
        """That of both's rows."""
        return Usage(self.num_rows + other.num_rows, self.counts + other.counts)

    def gathered(self, gather: Callable[[Tensor], list[Tensor]]) -> Usage:
        """That of the rows of all processes, given what gathers a tensor of each."""
        nums, counts = gather(torch.tensor([self.num_rows])), gather(self.counts)
        return reduce(Usage.__add__, (Usage(int(num), one.cpu()) for num, one in zip(nums, counts, strict=True)))

    @property
    def active_dims(self) -> float:
        """Mean number of components of a row that are not 0; 0 without rows."""
        return int(self.counts.sum()) / self.num_rows if self.num_rows else 0.0

    @property
    def sparsity_ratio(self) -> float:
        """Mean share of components that are 0, in [0, 1]."""
        return sparsity_ratio(self.active_dims, len(self.counts))

    def flops(self, other: Usage) -> float:
        """Mean number of columns that a row of this and one of the other have in common.

        That is how many products a score takes, the FLOPS of Paria et al., "Minimizing FLOPs to Learn Efficient Sparse
        Representations", https://arxiv.org/abs/2004.05665.
        """
        if not self.num_rows or not other.num_rows:
            return 0.0
        return float(torch.dot(self.counts.double() / self.num_rows, other.counts.double() / other.num_rows))


def pooled(usages: Iterable[Usage]) -> Usage:
    """That of the rows of all; at least one."""
    return reduce(Usage.__add__, usages)


def sparsity_ratio(active_dims: float, width: int) -> float:
    """Share of the components that are 0 where so many of `width` are not."""
    return 1.0 - active_dims / width if width else 1.0
