"""MaxSim of listed pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from .maxsim import EMPTY_DOCUMENT, check_maxsim_name
from .product import full_precision
from .ragged_rows import RaggedRows
from .similarity import scoring_dtype

# Numbers in one block: the vectors of both sides and their products.
_CPU_ELEMENTS, _GPU_ELEMENTS = 2**20, 2**26
# Lengths are rounded up to these, so that a pair's shape, and with it the rounding of its score, is its own matter.
_LEFT_STEP, _RIGHT_STEP = 4, 16


def maxsim_pairs(
    names: Sequence[str],
    left: RaggedRows,
    right: RaggedRows,
    left_index: Tensor | None = None,
    right_index: Tensor | None = None,
) -> dict[str, Tensor]:
    """Score listed pairs.

    A pair's score does not depend on the others listed, so that equal pairs have equal scores.

    Args:
        names: any of ``MAXSIM_NAMES``.
        left: U rows, the queries.
        right: V rows, the documents, of the same width.
        left_index: (P,) row of ``left`` in each pair; None for all rows in order.
        right_index: (P,) row of ``right`` in each pair; None for all rows in order.

    Returns:
        For each name (P,) scores, float32 or float64, on the device of ``left``.

    Raises:
        ValueError: for an unknown name, different widths, or two lists of different length.

    Example:
        >>> import torch
        >>> rows = RaggedRows.of([torch.eye(2), torch.tensor([[0.5, 2.0]])])
        >>> maxsim_pairs(["maxsim", "meanmaxsim"], rows, rows, torch.tensor([0, 0]), torch.tensor([0, 1]))
        {'maxsim': tensor([2.0000, 2.5000]), 'meanmaxsim': tensor([1.0000, 1.2500])}
    """
    for name in names:
        check_maxsim_name(name)
    if left.dim != right.dim:
        raise ValueError(f"vectors of both sides must have one width, got {left.dim} and {right.dim}")
    first = torch.arange(len(left)) if left_index is None else left_index.cpu()
    second = torch.arange(len(right)) if right_index is None else right_index.cpu()
    if len(first) != len(second):
        raise ValueError("the two sides list different numbers of pairs")
    num_left, num_right = left.lengths[first], right.lengths[second]
    dtype = scoring_dtype(left.vectors, right.vectors)
    scores = torch.zeros(len(first), dtype=dtype, device=left.device)
    budget = _CPU_ELEMENTS if left.device.type == "cpu" else _GPU_ELEMENTS
    with full_precision(left.device):
        for pairs, left_size, right_size in _blocks(num_left, num_right, left.dim, budget):
            queries = _padded(left, first[pairs], left_size, dtype)
            documents = _padded(right, second[pairs], right_size, dtype).to(left.device)
            best = torch.bmm(documents, queries.transpose(1, 2)).amax(dim=1)
            # Added vector by vector, so that the order is always the same.
            best.masked_fill_((torch.arange(left_size) >= num_left[pairs][:, None]).to(best.device), 0)
            total = best[:, 0].clone()
            for step in range(1, left_size):
                total += best[:, step]
            scores[pairs.to(scores.device)] = total
        scores.masked_fill_((num_right == 0).to(scores.device), EMPTY_DOCUMENT)
        divisor = num_left.clamp_min(1).to(scores.device)
        return {name: scores / divisor if name == "meanmaxsim" else scores for name in names}


def _blocks(num_left: Tensor, num_right: Tensor, dim: int, budget: int) -> Iterator[tuple[Tensor, int, int]]:
    """Put pairs of one shape together; those with an empty side are in no block.

    Yields:
        (B,) places of the pairs, and how many vectors each side has when filled up.
    """
    if not len(num_left):
        return
    left_sizes = -(-num_left // _LEFT_STEP) * _LEFT_STEP
    right_sizes = -(-num_right // _RIGHT_STEP) * _RIGHT_STEP
    base = int(right_sizes.max()) + 1
    codes = (left_sizes * base + right_sizes).numpy()
    shapes, counts = np.unique(codes, return_counts=True)
    order = torch.from_numpy(codes.argsort(kind="stable"))
    for one, places in zip(shapes.tolist(), torch.split(order, counts.tolist()), strict=True):
        left_size, right_size = divmod(one, base)
        if left_size and right_size:
            each = (left_size + right_size) * dim + left_size * right_size
            for pairs in torch.split(places, max(budget // each, 1)):
                yield pairs, left_size, right_size


def _padded(rows: RaggedRows, index: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """(B, size, d) vectors of chosen rows that are not empty, filled up with their last one."""
    steps = torch.minimum(torch.arange(size), rows.lengths[index][:, None] - 1)
    places = (rows.offsets[index][:, None] + steps).view(-1)
    found = rows.vectors.index_select(0, places.to(rows.device)).to(dtype)
    return found.view(len(index), size, rows.dim)
