"""Mutual best match of two lists of embeddings, as translation matching needs it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from .product import full_precision
from .shares import ALONE, Shares
from .similarity import QueryScorer, widen
from .sparse_product import Block, SparseQueries
from .sparse_rows import SparseRows

_BLOCK_ROWS, _MAX_BLOCK_COLUMNS = 512, 4096
# Product kernels treat whole tiles alike and odd tails differently.
_TILE = 512


class Match(NamedTuple):
    """Best matches of each row of one list in the other.

    Attributes:
        correct: (N,) bool, whether the best match has the right text.
        best_index: (N,) int64, the first of the best matches.
        best_score: (N,) cosine similarity of the best match; NaN if the row has a NaN score, whose index then counts.
    """

    correct: Tensor
    best_index: Tensor
    best_score: Tensor


def match_accuracy(
    source: Tensor | SparseRows,
    target: Tensor | SparseRows,
    source_ids: Tensor,
    target_ids: Tensor,
    shares: Shares = ALONE,
) -> tuple[Match, Match]:
    """Match each source with its most similar target and the reverse, by cosine similarity.

    Row i of both lists belong together. A match is correct if the text at the first maximum equals the right text, so
    that repeated texts count (as in sentence-transformers' ``TranslationEvaluator``). The (N, N) scores never exist as
    a whole.

    Args:
        source: (N, d) embeddings, or N sparse rows.
        target: The same of the other list.
        source_ids: (N,) ids of the source texts; equal texts have equal ids.
        target_ids: (N,) ids of the target texts; equal texts have equal ids.
        shares: who else computes blocks of scores; all have the same inputs and get the same matches.

    Returns:
        The matches of the sources among the targets, and of the targets among the sources.

    Raises:
        ValueError: for shapes that don't fit.

    Example:
        >>> import torch
        >>> source, target = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0, 2.0], [0.0, 3.0]])
        >>> ids = torch.tensor([0, 1])
        >>> forward, backward = match_accuracy(source, target, ids, ids)
        >>> forward.correct, backward.best_index
        (tensor([ True, False]), tensor([1, 1]))
    """
    if isinstance(source, SparseRows) is not isinstance(target, SparseRows):
        raise ValueError("source and target are embeddings of different kinds")
    if len(source.shape) != 2 or source.shape != target.shape:
        raise ValueError(f"embeddings must be two (N, d), got {tuple(source.shape)} and {tuple(target.shape)}")
    if source_ids.shape != source.shape[:1] or target_ids.shape != source.shape[:1]:
        raise ValueError("source_ids and target_ids must have one id for each row")
    num_rows = len(source)
    with full_precision(source.device):
        num_columns = _block_columns(num_rows)
        blocks: _Blocks
        if isinstance(source, SparseRows) and isinstance(target, SparseRows):
            blocks = _SparseBlocks(source, target, num_columns)
        else:
            assert isinstance(source, Tensor)
            assert isinstance(target, Tensor)
            blocks = _DenseBlocks(source, target, num_columns)
        forward, backward = _Best(num_rows, blocks.buffer), _Best(num_rows, blocks.buffer)
        own = shares.part(-(-num_rows // _BLOCK_ROWS))
        for first_column in range(0, num_rows, num_columns):
            columns = slice(first_column, min(first_column + num_columns, num_rows))
            blocks.start(columns)
            shares.pause()
            for first_row in range(own.start * _BLOCK_ROWS, min(own.stop * _BLOCK_ROWS, num_rows), _BLOCK_ROWS):
                rows = slice(first_row, min(first_row + _BLOCK_ROWS, num_rows))
                scores = blocks.scores(rows)
                forward.update(scores, rows, first_column)
                backward.update(scores.T, columns, first_row)
        if shares.num > 1:
            forward.merge(shares)
            backward.merge(shares)
        return forward.match(target_ids), backward.match(source_ids)


class _Blocks(Protocol):
    """Cosine similarity of sources and targets, block by block."""

    buffer: Tensor

    def start(self, columns: slice) -> None:
        """Prepare the targets of the next blocks."""
        ...

    def scores(self, rows: slice) -> Tensor:
        """(rows, columns) scores; valid until the next call."""
        ...


class _DenseBlocks:
    def __init__(self, source: Tensor, target: Tensor, num_columns: int) -> None:
        source, self._target = widen(source), widen(target)
        dtype = torch.promote_types(source.dtype, self._target.dtype)
        self._scorer = QueryScorer("cosine", source.to(dtype))
        self._block = torch.zeros(num_columns, source.shape[1], dtype=dtype, device=source.device)
        self._width = 0
        self.buffer = self._block.new_empty(_BLOCK_ROWS * num_columns)

    def start(self, columns: slice) -> None:
        self._width = columns.stop - columns.start
        # Padded to the full shape: odd tails round differently on some kernels.
        self._block[: self._width] = self._target[columns]
        self._block[self._width :] = 0
        self._scorer.prepare(self._block)

    def scores(self, rows: slice) -> Tensor:
        num_rows, num_columns = rows.stop - rows.start, len(self._block)
        out = self.buffer[: num_rows * num_columns].view(num_rows, num_columns)
        return self._scorer.score(rows, self._block, out)[:, : self._width]


class _SparseBlocks:
    def __init__(self, source: SparseRows, target: SparseRows, num_columns: int) -> None:
        dtype = torch.promote_types(source.widened().values.dtype, target.widened().values.dtype)
        self._target = target
        self._scorer = SparseQueries("cosine", source, dtype)
        self._block: Block | None = None
        self.buffer = torch.empty(_BLOCK_ROWS * num_columns, dtype=dtype, device=source.device)

    def start(self, columns: slice) -> None:
        self._block = self._scorer.block(self._target.part(columns.start, columns.stop))

    def scores(self, rows: slice) -> Tensor:
        assert self._block is not None
        num_rows = rows.stop - rows.start
        out = self.buffer[: num_rows * self._block.num_columns].view(num_rows, self._block.num_columns)
        return self._scorer.scores(rows, self._block, out)[:, : self._block.num]


def _block_columns(num_rows: int) -> int:
    """Columns of a block, such that blocks of one shape cover all with little padding."""
    num_blocks = max(-(-num_rows // _MAX_BLOCK_COLUMNS), 1)
    return max(-(-num_rows // (num_blocks * _TILE)), 1) * _TILE


class _Best:
    """The first best match of each row while blocks pass in ascending order."""

    def __init__(self, num_rows: int, like: Tensor) -> None:
        self.scores = like.new_full((num_rows,), float("-inf"))
        self.index = torch.zeros(num_rows, dtype=torch.int64, device=like.device)

    def update(self, scores: Tensor, rows: slice, first_column: int) -> None:
        """Take a block of (rows, B) scores."""
        best = scores.amax(dim=1)
        known = self.scores[rows]
        # A tie keeps the earlier match; a NaN is kept for good, as in numpy's argmax.
        better = ((best > known) | (best.isnan() & ~known.isnan())).nonzero().squeeze(1)
        if len(better):
            # Maxima are cheap and positions are not, so they are looked up only where the best changes.
            self.scores[rows].index_copy_(0, better, best[better])
            self.index[rows].index_copy_(0, better, scores.index_select(0, better).argmax(dim=1) + first_column)

    def merge(self, shares: Shares) -> None:
        """Take over what others found in their blocks, which stand before this one's or after."""
        found = zip(shares.gather(self.scores), shares.gather(self.index), strict=True)
        self.scores, self.index = (one.clone() for one in next(found))
        for scores, index in found:
            better = (scores > self.scores) | (scores.isnan() & ~self.scores.isnan())
            self.scores[better], self.index[better] = scores[better], index[better]

    def match(self, ids: Tensor) -> Match:
        """Compare the best matches' texts with the right ones."""
        ids = ids.to(self.index.device)
        return Match(ids[self.index] == ids, self.index, self.scores)
