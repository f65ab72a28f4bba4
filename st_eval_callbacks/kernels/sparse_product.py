"""Scores of sparse queries against blocks of sparse documents; no dense matrix of documents is ever made on a CPU.

A block of documents is turned round, so that it lists the documents of each column; a query then only meets documents
it has a column in common with. On other devices both sides are spread out in small dense tiles of the columns that
queries use, because adding up in arbitrary order would give equal documents different scores.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .similarity import check_similarity_name
from .sparse_rows import SparseRows

# Products of components made at once where they are listed one by one: some 30 bytes each.
_MAX_LISTED = 2**20
# Elements of a dense tile of documents.
_MAX_TILE = 16 * 2**20
# Product kernels treat whole tiles alike and odd tails differently.
_TILE = 512
# Documents stand in groups of this many, as the selection of the best reads them.
_GROUP = 32


@dataclass(frozen=True, eq=False)
class Block:
    """Some documents, ready to be scored.

    Attributes:
        num: B, how many documents there are.
        num_columns: B, rounded up to whole groups.
        rows: (B, U) the documents, in the columns that queries use.
        turned: (U, num_columns) the documents of each of these columns; None where dense tiles are used.
        size: (B,) float64 length squared (euclidean) or sum of magnitudes (manhattan) of the whole documents.
        wrong: (B,) bool, which documents have a component that is NaN or infinite; None for none.
    """

    num: int
    num_columns: int
    rows: SparseRows
    turned: SparseRows | None
    size: Tensor | None
    wrong: Tensor | None


class SparseQueries:
    """A fixed set of queries, scored against blocks of documents.

    A pair has the same score in whatever block it stands. A pair with a component that is NaN or infinite has the
    score NaN. Distances are computed in float64, so that equal rows are at distance 0.

    Args:
        name: one of ``SIMILARITY_NAMES``.
        queries: Q rows of width V.
        dtype: the type of the scores, float32 or float64.
    """

    def __init__(self, name: str, queries: SparseRows, dtype: torch.dtype) -> None:
        check_similarity_name(name)
        self._name, self._dtype, self._width = name, dtype, queries.width
        self._is_distance = name in ("euclidean", "manhattan")
        self._inner = torch.float64 if self._is_distance else dtype
        wrong = queries.nonfinite()
        self._wrong = wrong if wrong.any() else None
        queries = self._prepared(queries)
        self._size = self._sizes(queries)
        used = torch.zeros(queries.width, dtype=torch.bool, device=queries.device)
        used[queries.columns.long()] = True
        self._num_used = int(used.sum())
        # The place of each column among those that queries use, -1 for the others.
        self._place = torch.where(used, used.cumsum(0) - 1, -1).int()
        self._queries = self._in_used(queries)

    def __len__(self) -> int:
        """Q."""
        return len(self._queries)

    def block(self, documents: SparseRows) -> Block:
        """Prepare documents.

        Args:
            documents: B rows of width V.

        Returns:
            What ``scores`` takes.
        """
        wrong = documents.nonfinite()
        documents = self._prepared(documents)
        rows = self._in_used(documents)
        num_columns = -(-len(rows) // _GROUP) * _GROUP
        on_cpu = rows.device.type == "cpu"
        return Block(
            len(rows),
            num_columns,
            rows,
            _turned(rows, num_columns) if on_cpu else None,
            self._sizes(documents),
            wrong if wrong.any() else None,
        )

    def scores(self, rows: slice, block: Block, out: Tensor) -> Tensor:
        """Score some queries against a block.

        Args:
            rows: which queries.
            block: B prepared documents.
            out: (rows, num_columns) contiguous buffer of the type of the scores, which is overwritten.

        Returns:
            ``out``, whose first B columns hold the scores.
        """
        queries = self._queries.part(rows.start, rows.stop)
        inner = out if out.dtype == self._inner else out.new_empty(out.shape, dtype=self._inner)
        if self._name == "manhattan":
            self._manhattan(queries, rows, block, inner)
        else:
            self._dot(queries, block, inner)
            if self._name == "euclidean":
                assert self._size is not None
                assert block.size is not None
                inner.mul_(-2).add_(self._size[rows, None])
                inner[:, : block.num].add_(block.size)
                inner.clamp_min_(0).sqrt_().neg_()
        if inner is not out:
            out.copy_(inner)
        if block.wrong is not None:
            out[:, : block.num].masked_fill_(block.wrong, torch.nan)
        if self._wrong is not None:
            out.masked_fill_(self._wrong[rows, None], torch.nan)
        return out

    def _prepared(self, rows: SparseRows) -> SparseRows:
        return (rows.normalised() if self._name == "cosine" else rows).widened(self._inner)

    def _sizes(self, rows: SparseRows) -> Tensor | None:
        if not self._is_distance:
            return None
        return rows.sums(rows.values.square() if self._name == "euclidean" else rows.values.abs())

    def _in_used(self, rows: SparseRows) -> SparseRows:
        """The components in columns that queries use, which are numbered anew in the same order."""
        if rows.width != self._width:
            raise ValueError(f"documents must be (B, {self._width}), got {rows.shape}")
        place = self._place.index_select(0, rows.columns)
        kept = rows if self._num_used == self._width else rows.where(place >= 0)
        return SparseRows(kept.offsets, self._place.index_select(0, kept.columns), kept.values, self._num_used)

    def _dot(self, queries: SparseRows, block: Block, out: Tensor) -> None:
        if block.turned is None:
            _by_tiles(queries, block.rows, lambda left, right: torch.mm(left, right.T), out)
        elif not _by_mkl(queries, block.turned, out):
            _by_lists(queries, block.turned, torch.mul, out)

    def _manhattan(self, queries: SparseRows, rows: slice, block: Block, out: Tensor) -> None:
        """The magnitudes of both sides, less what they have in common."""
        assert self._size is not None
        assert block.size is not None
        if block.turned is None:
            _by_tiles(queries, block.rows, lambda left, right: torch.cdist(left, right, p=1.0), out)
            unused = block.size - block.rows.sums(block.rows.values.abs())
            out[:, : block.num].add_(unused).neg_()
            return
        _by_lists(queries, block.turned, lambda one, other: one.abs() + other.abs() - (one - other).abs(), out)
        out.sub_(self._size[rows, None])
        out[:, : block.num].sub_(block.size)
        out.clamp_max_(0)


def _turned(rows: SparseRows, num_columns: int) -> SparseRows:
    """The rows of each column, in ascending order: a (U, num_columns) matrix."""
    columns = rows.columns.numpy()
    # Keys of 16 bits are sorted by counting, several times faster than wider ones.
    keys = columns.astype(np.uint16) if rows.width <= 2**16 else columns
    order = torch.from_numpy(keys.argsort(kind="stable"))
    ends = torch.bincount(rows.columns, minlength=rows.width).cumsum(0)
    row = rows.row_index.int().index_select(0, order)
    return SparseRows(torch.cat([ends.new_zeros(1), ends]), row, rows.values.index_select(0, order), num_columns)


def _by_mkl(queries: SparseRows, turned: SparseRows, out: Tensor) -> bool:
    """(Q, B) products of sparse matrices into a dense one, where torch was built with what that takes."""
    if not torch.backends.mkl.is_available():  # type: ignore[no-untyped-call]
        return False
    if not len(queries.columns) or not len(turned.columns):
        out.zero_()
        return True
    with warnings.catch_warnings():
        # Said once a process; the values are checked against other products in the tests.
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        left, right = (
            torch.sparse_csr_tensor(one.offsets.int(), one.columns, one.values, one.shape, check_invariants=False)
            for one in (queries, turned)
        )
    torch.mm(left, right, out=out)
    return True


def _by_lists(
    queries: SparseRows, turned: SparseRows, function: Callable[[Tensor, Tensor], Tensor], out: Tensor
) -> None:
    """Sums of a function of the two components in each column that both have, which are listed one by one."""
    out.zero_()
    flat, num_columns = out.view(-1), out.shape[1]
    counts = turned.counts.index_select(0, queries.columns.long())
    starts = turned.offsets.index_select(0, queries.columns.long())
    row, ends = queries.row_index, counts.cumsum(0)
    first = 0
    while first < len(counts):
        before = int(ends[first]) - int(counts[first])
        last = max(int(torch.searchsorted(ends, before + _MAX_LISTED, right=True)), first + 1)
        part = slice(first, last)
        entry = torch.arange(first, last).repeat_interleave(counts[part])
        place = torch.arange(before, before + len(entry)) - (ends - counts)[entry] + starts[entry]
        document = turned.columns.index_select(0, place)
        found = function(queries.values.index_select(0, entry), turned.values.index_select(0, place))
        flat.index_add_(0, row.index_select(0, entry) * num_columns + document, found)
        first = last


def _by_tiles(
    queries: SparseRows, rows: SparseRows, function: Callable[[Tensor, Tensor], Tensor], out: Tensor
) -> None:
    """A function of dense tiles: the queries, and so many documents that a tile stays small."""
    left = queries.dense()
    size = max(_MAX_TILE // max(rows.width, 1) // _TILE, 1) * _TILE
    tile = left.new_zeros(size, rows.width)
    for start in range(0, len(rows), size):
        part = rows.part(start, min(start + size, len(rows)))
        places = part.row_index, part.columns.long()
        tile[places] = part.values
        out[:, start : start + len(part)] = function(left, tile)[:, : len(part)]
        tile[places] = 0
