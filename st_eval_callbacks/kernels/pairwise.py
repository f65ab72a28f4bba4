"""Similarity of listed pairs, under several functions in one pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .product import full_precision
from .similarity import EPS, check_similarity_name, scoring_dtype

# A table up to this size, of rows that repeat, is normalised once for cosine; a copy of a larger one would be felt.
_MAX_COPY_BYTES = 16 * 2**20


def pairwise(
    names: Sequence[str],
    left: Tensor,
    right: Tensor,
    left_index: Tensor | None = None,
    right_index: Tensor | None = None,
    block_size: int | None = None,
) -> dict[str, Tensor]:
    """Score listed pairs under several similarities in one pass.

    Rows are read by index in blocks, so that many pairs over few distinct texts never copy the embeddings as a whole.

    Args:
        names: any of ``SIMILARITY_NAMES``.
        left: (U, d) embeddings.
        right: (V, d) embeddings.
        left_index: (P,) row of ``left`` in each pair; None for all rows in order.
        right_index: (P,) row of ``right`` in each pair; None for all rows in order.
        block_size: how many pairs are read at once; None takes what suits the device. The scores do not depend on it.

    Returns:
        For each name (P,) scores, float32 or float64.

    Raises:
        ValueError: for an unknown name, shapes that don't fit, or two lists of different length.

    Example:
        >>> import torch
        >>> table = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
        >>> scores = pairwise(["cosine", "manhattan"], table, table, torch.tensor([0, 0]), torch.tensor([0, 1]))
        >>> scores["cosine"], scores["manhattan"]
        (tensor([1.0000, 0.8000]), tensor([-0., -5.]))
    """
    for name in names:
        check_similarity_name(name)
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[1]:
        raise ValueError(f"embeddings must be (U, d) and (V, d), got {tuple(left.shape)} and {tuple(right.shape)}")
    num_pairs = len(left) if left_index is None else len(left_index)
    if num_pairs != (len(right) if right_index is None else len(right_index)):
        raise ValueError("the two sides list different numbers of pairs")
    if block_size is None:
        # On a CPU what is read should stay in its cache; elsewhere starting a kernel is what costs.
        block_size = 1024 if left.device.type == "cpu" else 16384
    dtype = scoring_dtype(left, right)
    with full_precision(left.device):
        results = {name: torch.empty(num_pairs, dtype=dtype, device=left.device) for name in names}
        size = min(block_size, num_pairs)
        first, second = _Side(left, left_index, size, dtype), _Side(right, right_index, size, dtype)
        if "cosine" in results:
            first.measure(alone=len(results) == 1)
            second.measure(first, alone=len(results) == 1)
        spare = left.new_empty((size, left.shape[1]), dtype=dtype)
        for start in range(0, num_pairs, block_size):
            rows = slice(start, min(start + block_size, num_pairs))
            _score(results, first, second, rows, spare[: rows.stop - start])
    return results


class _Side:
    """The rows of one side of the pairs, block by block."""

    def __init__(self, table: Tensor, index: Tensor | None, block_size: int, dtype: torch.dtype) -> None:
        self._start = 0
        if index is not None and is_run(index):
            self._start, index = int(index[0]), None
        self._table, self._index = table.detach(), index
        self._buffer = table.new_empty((block_size, table.shape[1]), dtype=dtype)
        self._lengths: Tensor | None = None
        self._is_normal = False

    def measure(self, other: _Side | None = None, *, alone: bool) -> None:
        """Take the length of each row of the table once, where there are fewer than pairs.

        Elsewhere a row is measured while it is at hand.

        Args:
            other: Another side that may know the lengths.
            alone: Whether rows are wanted in length 1 only.
        """
        if self._index is None or len(self._table) >= len(self._index):
            return
        if other is not None and other._lengths is not None and _is_same(self._table, other._table):
            self._lengths = other._lengths
        else:
            self._lengths = _row_lengths(self._table, self._buffer.dtype)
        if alone and self._table.numel() * self._buffer.element_size() <= _MAX_COPY_BYTES:
            self._table, self._is_normal = self._table.to(self._buffer.dtype) / self._lengths, True

    def read(self, rows: slice) -> Tensor:
        """(B, d) embeddings; never to be written."""
        if self._index is None:
            found = self._table[self._start + rows.start : self._start + rows.stop]
            return found.to(self._buffer.dtype)
        index, buffer = self._index[rows], self._buffer[: rows.stop - rows.start]
        if self._table.dtype == buffer.dtype:
            return torch.index_select(self._table, 0, index, out=buffer)
        return buffer.copy_(self._table.index_select(0, index))

    def normalised(self, read: Tensor, rows: slice) -> Tensor:
        """The rows just read, in length 1, which may be written; overwrites them where they are a copy."""
        if self._is_normal:
            return read
        if self._lengths is None or self._index is None:
            lengths = _lengths_of(read)
        else:
            lengths = self._lengths.index_select(0, self._index[rows])
        return torch.div(read, lengths, out=self._buffer[: len(read)])


def _score(results: dict[str, Tensor], left: _Side, right: _Side, rows: slice, spare: Tensor) -> None:
    a, b = left.read(rows), right.read(rows)
    if "dot" in results:
        torch.sum(torch.mul(a, b, out=spare), dim=1, out=results["dot"][rows])
    if "euclidean" in results or "manhattan" in results:
        torch.sub(a, b, out=spare)
        if "euclidean" in results:
            torch.linalg.vector_norm(spare, dim=1, out=results["euclidean"][rows]).neg_()
        if "manhattan" in results:
            torch.sum(spare.abs_(), dim=1, out=results["manhattan"][rows]).neg_()
    if "cosine" in results:
        a, b = left.normalised(a, rows), right.normalised(b, rows)
        torch.sum(a.mul_(b), dim=1, out=results["cosine"][rows])


def _is_same(one: Tensor, other: Tensor) -> bool:
    return (one.data_ptr(), one.shape, one.stride(), one.dtype) == (
        other.data_ptr(),
        other.shape,
        other.stride(),
        other.dtype,
    )


def is_run(index: Tensor) -> bool:
    """Whether rows follow one another, so that a slice of the table shows them without a copy."""
    if not len(index) or int(index[-1] - index[0]) != len(index) - 1:
        return False
    return bool((index.diff() == 1).all())


def _lengths_of(rows: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return lengths.clamp_min_(EPS)


def _row_lengths(table: Tensor, dtype: torch.dtype) -> Tensor:
    lengths = torch.empty(len(table), 1, dtype=dtype, device=table.device)
    for start in range(0, len(table), 4096):
        lengths[start : start + 4096] = _lengths_of(table[start : start + 4096].to(dtype))
    return lengths
