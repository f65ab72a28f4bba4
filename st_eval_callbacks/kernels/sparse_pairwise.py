"""Similarity of listed pairs of sparse rows, under several functions in one pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .pairwise import is_run
from .product import full_precision
from .similarity import check_similarity_name
from .sparse_rows import SparseRows

# Largest dense buffer, in elements: one side of a block of pairs is spread out in it.
_MAX_BUFFER = 2 * 2**20
_MAX_PAIRS = 512


def sparse_pairwise(
    names: Sequence[str],
    left: SparseRows,
    right: SparseRows,
    left_index: Tensor | None = None,
    right_index: Tensor | None = None,
    block_size: int | None = None,
) -> dict[str, Tensor]:
    """Score listed pairs under several similarities in one pass.

    The components of one side are spread out in a buffer, a block of pairs at a time, and read at the columns of the
    other side. A pair with a component that is NaN or infinite has the score NaN.

    Args:
        names: any of ``SIMILARITY_NAMES``.
        left: U rows of width V.
        right: W rows of width V.
        left_index: (P,) row of ``left`` in each pair; None for all rows in order.
        right_index: (P,) row of ``right`` in each pair; None for all rows in order.
        block_size: how many pairs are read at once; None takes what keeps the buffer small. The scores do not
            depend on it.

    Returns:
        For each name (P,) scores, float32 or float64.

    Raises:
        ValueError: for an unknown name, rows of different width, or two lists of different length.

    Example:
        >>> import torch
        >>> rows = SparseRows.of(torch.tensor([[3.0, 4.0], [0.0, 2.0]]))
        >>> scores = sparse_pairwise(["cosine", "manhattan"], rows, rows, torch.tensor([0, 0]), torch.tensor([0, 1]))
        >>> scores["cosine"], scores["manhattan"]
        (tensor([1.0000, 0.8000]), tensor([-0., -5.]))
    """
    for name in names:
        check_similarity_name(name)
    if left.width != right.width:
        raise ValueError(f"rows must have one width, got {left.width} and {right.width}")
    num_pairs = len(left) if left_index is None else len(left_index)
    if num_pairs != (len(right) if right_index is None else len(right_index)):
        raise ValueError("the two sides list different numbers of pairs")
    if block_size is None:
        block_size = min(max(_MAX_BUFFER // max(left.width, 1), 1), _MAX_PAIRS)
    dtype = torch.float64 if torch.float64 in (left.values.dtype, right.values.dtype) else torch.float32
    with full_precision(left.device):
        results = {name: torch.empty(num_pairs, dtype=dtype, device=left.device) for name in names}
        first = _Side(left, left_index, names, dtype)
        sides = first, _Side(right, right_index, names, dtype, first if left is right else None)
        buffer = left.values.new_zeros(min(block_size, num_pairs) * left.width, dtype=dtype)
        for start in range(0, num_pairs, block_size):
            _score(results, *sides, slice(start, min(start + block_size, num_pairs)), buffer)
        wrong = sides[0].is_wrong() | sides[1].is_wrong()
        for scores in results.values():
            scores.masked_fill_(wrong, torch.nan)
    return results


class _Side:
    """The rows of one side of the pairs, block by block."""

    _counts: Tensor
    _wrong: Tensor
    _plain: Tensor | None
    _unit: Tensor | None
    _lengths: Tensor | None

    def __init__(
        self,
        rows: SparseRows,
        index: Tensor | None,
        names: Sequence[str],
        dtype: torch.dtype,
        same: _Side | None = None,
    ) -> None:
        self._rows, self._width, self._index = rows, rows.width, index
        self._places: slice | Tensor = slice(0)
        self._offsets = rows.offsets
        if same is not None:
            # The same rows on both sides: what is known of them need not be found again.
            self._counts, self._wrong = same._counts, same._wrong
            self._plain, self._unit, self._lengths = same._plain, same._unit, same._lengths
            return
        self._counts, self._wrong = rows.counts, rows.nonfinite()
        self._plain = rows.values.to(dtype) if any(name != "cosine" for name in names) else None
        self._unit = self._lengths = None
        if "cosine" in names:
            lengths = rows.lengths()
            self._unit, self._lengths = rows.normalised(lengths).values.to(dtype), lengths.to(dtype)

    def read(self, pairs: slice) -> Tensor:
        """(C,) place in the buffer of each component of a block; values are those of this block from now on."""
        index = None if self._index is None else self._index[pairs]
        start = pairs.start if index is None else int(index[0])
        # Rows that follow one another are read where they are.
        if index is None or is_run(index):
            bounds = self._rows.offsets[start : start + pairs.stop - pairs.start + 1]
            self._places = slice(int(bounds[0]), int(bounds[-1]))
            self._offsets = bounds - bounds[0]
            base = self._bases(self._offsets.diff())
        else:
            counts = self._counts[index]
            self._offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
            base = self._bases(counts)
            shift = (self._rows.offsets[index] - self._offsets[:-1]).repeat_interleave(counts, output_size=len(base))
            self._places = shift.add_(torch.arange(len(base), device=base.device))
        return base.add_(self._rows.columns[self._places])

    def plain(self) -> Tensor:
        """(C,) values as they are."""
        assert self._plain is not None
        return self._plain[self._places]

    def unit(self) -> Tensor:
        """(C,) values of rows of length 1."""
        assert self._unit is not None
        return self._unit[self._places]

    def lengths(self, pairs: slice) -> Tensor:
        """(B,) lengths of the rows; 1 for those that stay as they are."""
        assert self._lengths is not None
        return self._lengths[pairs if self._index is None else self._index[pairs]]

    def spread(self, values: Tensor) -> Tensor:
        """(C,) value of the row of each component, of (B,) values."""
        return values.repeat_interleave(self._offsets.diff())

    def sums(self, values: Tensor) -> Tensor:
        """(B,) float64 sum over each row of the block, of (C,) values."""
        found: Tensor = torch.segment_reduce(values.double(), "sum", offsets=self._offsets, unsafe=True)
        return found

    def is_wrong(self) -> Tensor:
        """(P,) bool, which pairs have a component here that is NaN or infinite."""
        return self._wrong if self._index is None else self._wrong[self._index]

    def _bases(self, counts: Tensor) -> Tensor:
        """(C,) where the row of each component begins in the buffer."""
        starts = torch.arange(0, len(counts) * self._width, self._width, device=counts.device)
        return starts.repeat_interleave(counts)


def _score(results: dict[str, Tensor], left: _Side, right: _Side, pairs: slice, buffer: Tensor) -> None:
    """Score one block; the buffer holds zeros before and after."""
    at_left, at_right = left.read(pairs), right.read(pairs)
    if len(results) == 1 and "cosine" in results:
        buffer[at_left] = left.unit()
        results["cosine"][pairs] = right.sums(buffer[at_right].mul_(right.unit()))
    else:
        buffer[at_left] = left.plain()
        opposite, values = buffer[at_right], right.plain()
        if "cosine" in results:
            # Divided only now: what is read at random is read once for all functions.
            unit = opposite / right.spread(left.lengths(pairs))
            results["cosine"][pairs] = right.sums(unit.mul_(right.unit()))
        if "dot" in results:
            results["dot"][pairs] = right.sums(opposite * values)
        if "euclidean" in results or "manhattan" in results:
            # What the right side has no component beside is left to the left side, so that nothing cancels.
            buffer[at_right] = 0
            alone, apart = buffer[at_left].double(), opposite.double().sub_(values)
            if "euclidean" in results:
                squares = left.sums(alone.square()).add_(right.sums(apart.square()))
                results["euclidean"][pairs] = squares.sqrt_().neg_()
            if "manhattan" in results:
                results["manhattan"][pairs] = left.sums(alone.abs_()).add_(right.sums(apart.abs_())).neg_()
    buffer[at_left] = 0
