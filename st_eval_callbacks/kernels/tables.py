"""Kernels that take embeddings of any kind: each hands a table on to the kernel that knows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import pairwise as dense
from .similarity import all_pairs as dense_all_pairs
from .sparse_pairwise import sparse_pairwise
from .sparse_product import SparseQueries
from .sparse_rows import SparseRows


def pairwise(
    names: Sequence[str],
    left: Any,
    right: Any,
    left_index: Tensor | None = None,
    right_index: Tensor | None = None,
    block_size: int | None = None,
) -> dict[str, Tensor]:
    """Score listed pairs of rows under several similarities in one pass.

    Args:
        names: any of ``SIMILARITY_NAMES``.
        left: U rows: a matrix or sparse rows.
        right: W rows of the same kind and width.
        left_index: (P,) row of ``left`` in each pair; None for all rows in order.
        right_index: (P,) row of ``right`` in each pair; None for all rows in order.
        block_size: how many pairs are read at once; None takes what suits the device. The scores do not depend on it.

    Returns:
        For each name (P,) scores, float32 or float64.

    Raises:
        ValueError: for an unknown name, rows of another kind or width, or two lists of different length.
    """
    if check_same_kind(left, right) is SparseRows:
        return sparse_pairwise(names, left, right, left_index, right_index, block_size)
    return dense.pairwise(names, left, right, left_index, right_index, block_size)


def all_pairs(name: str, queries: Any, documents: Any) -> Tensor:
    """Score every query against every document.

    Args:
        name: one of ``SIMILARITY_NAMES``.
        queries: Q rows: a matrix or sparse rows.
        documents: N rows of the same kind and width.

    Returns:
        (Q, N) scores, float32 or float64.

    Raises:
        ValueError: for an unknown name or rows of another kind or width.
    """
    if check_same_kind(queries, documents) is not SparseRows:
        return dense_all_pairs(name, queries, documents)
    dtype = torch.promote_types(queries.widened().values.dtype, documents.widened().values.dtype)
    scorer = SparseQueries(name, queries, dtype)
    block = scorer.block(documents)
    out = torch.empty(len(queries), block.num_columns, dtype=dtype, device=queries.device)
    return scorer.scores(slice(0, len(queries)), block, out)[:, : block.num]


def num_nonfinite(table: Any) -> int:
    """How many rows have a component that is NaN or infinite."""
    if isinstance(table, Tensor):
        return int((~table.isfinite().all(dim=1)).sum())
    found: int = table.num_nonfinite()
    return found


def check_same_kind(left: Any, right: Any) -> type:
    """The kind of two tables: `Tensor` or the class of both.

    Raises:
        ValueError: when they are of different kinds.
    """
    kinds = [Tensor if isinstance(one, Tensor) else type(one) for one in (left, right)]
    if kinds[0] is not kinds[1]:
        names = ["dense embeddings" if kind is Tensor else kind.__name__ for kind in kinds]
        raise ValueError(f"{names[0]} and {names[1]} cannot be compared.")
    return kinds[0]
