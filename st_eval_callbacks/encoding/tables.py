"""Embeddings of N inputs, whatever they are: a matrix, or what a kind of model has in its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

import torch
from torch import Tensor


class Rows(Protocol):
    """What stands for a matrix where a model has no dense vector an input: sparse rows, several vectors a row."""

    def __len__(self) -> int:
        """N."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        ...

    @property
    def num_bytes(self) -> int:
        """Memory of the tensors, in bytes."""
        ...

    def take(self, index: Tensor) -> Any:
        """Some rows, in the order of a (P,) int64 index; a copy."""
        ...

    def joined(self, others: Sequence[Any]) -> Any:
        """These rows and those of others, which are of the same class, one after another."""
        ...

    def truncated(self, dim: int) -> Any:
        """The leading dimensions of each vector."""
        ...

    def normalised(self) -> Any:
        """Each vector in length 1."""
        ...

    def gathered(self, gather: Callable[[Tensor], list[Tensor]]) -> list[Any]:
        """The rows of all processes, given what gathers a tensor of each."""
        ...


Table: TypeAlias = "Tensor | Rows"
_T = TypeVar("_T", Tensor, Any)


def num_bytes(table: Table) -> int:
    """Memory of a table, in bytes."""
    return table.numel() * table.element_size() if isinstance(table, Tensor) else table.num_bytes


def take(table: Any, index: Tensor) -> Any:
    """Rows of a table in the order of an index, a copy.

    Args:
        table: N rows.
        index: (P,) int64 places, on the table's device.

    Returns:
        A table of P rows.
    """
    return table.index_select(0, index) if isinstance(table, Tensor) else table.take(index)


def joined(tables: Sequence[Any]) -> Any:
    """Tables of one kind, one after another; at least one."""
    first = tables[0]
    if len(tables) == 1:
        return first
    return torch.cat(list(tables)) if isinstance(first, Tensor) else first.joined(tables[1:])


def truncated(table: Any, dim: int) -> Any:
    """The leading dimensions; a view where the table is a matrix."""
    return table[:, :dim] if isinstance(table, Tensor) else table.truncated(dim)


def normalised(table: Any) -> Any:
    """Vectors in length 1, a copy."""
    return torch.nn.functional.normalize(table, dim=1) if isinstance(table, Tensor) else table.normalised()


def gathered(table: Any, gather: Callable[[Tensor], list[Tensor]]) -> list[Any]:
    """The tables of all processes, in order."""
    return gather(table) if isinstance(table, Tensor) else list(table.gathered(gather))


def merged(parts: Sequence[Any], places: Sequence[Tensor]) -> Any:
    """One table of parts whose rows belong at given places.

    Args:
        parts: Tables of one kind; an empty one may be of any width.
        places: For each part the (n,) int64 places of its rows; together they are 0 to N - 1.

    Returns:
        N rows.
    """
    filled = [(part, place) for part, place in zip(parts, places, strict=True) if len(place)]
    if not filled:
        return parts[0]
    first = filled[0][0]
    if not isinstance(first, Tensor):
        order = torch.cat([place for _, place in filled])
        return joined([part for part, _ in filled]).take(order.argsort())
    table = first.new_empty((sum(len(place) for place in places), first.shape[1]))
    for part, place in filled:
        table[place.to(table.device)] = part
    return table
