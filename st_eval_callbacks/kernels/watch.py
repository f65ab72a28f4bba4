"""Scores of chosen (query, document) pairs, read while blocks of scores pass."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class Watch:
    """Reads the scores of chosen pairs out of the blocks they appear in.

    Args:
        query_index: (W,) row of each pair's query.
        position: (W,) position of each pair's document.
        num_queries: Q.
        block_size: documents in a full block; every block but the last is full.

    Raises:
        ValueError: for lists of different length or values out of range.
    """

    def __init__(self, query_index: Tensor, position: Tensor, num_queries: int, block_size: int) -> None:
        queries, positions = (np.asarray(values.cpu(), dtype=np.int64) for values in (query_index, position))
        if queries.shape != positions.shape or queries.ndim != 1:
            raise ValueError("watched queries and positions must be two lists of equal length")
        if len(queries) and (queries.min() < 0 or queries.max() >= num_queries or positions.min() < 0):
            raise ValueError(f"watched queries must be in [0, {num_queries}) and positions not negative")
        keys = positions // block_size * num_queries + queries
        self._order = keys.argsort(kind="stable")
        self._keys = keys[self._order]
        self._queries, self._positions = queries[self._order], positions[self._order]
        self._num_queries, self._block_size = num_queries, block_size
        self.scores = torch.full((len(queries),), float("nan"))

    def start(self, dtype: torch.dtype, device: torch.device) -> None:
        """Settle dtype and device of the scores.

        Args:
            dtype: the dtype scores have.
            device: the device scores are on.
        """
        self.scores = self.scores.to(device, dtype)

    def read(self, scores: Tensor, rows: slice, first_position: int, num_documents: int) -> None:
        """Take the watched scores out of one block.

        Args:
            scores: (rows, B) scores.
            rows: which queries these are.
            first_position: position of the first column's document.
            num_documents: how many leading columns stand for documents.
        """
        first_key = first_position // self._block_size * self._num_queries
        low, high = np.searchsorted(self._keys, [first_key + rows.start, first_key + rows.stop])
        columns = self._positions[low:high] - first_position
        seen = columns < num_documents
        pairs = (self._queries[low:high] - rows.start, columns, self._order[low:high])
        row, column, to = (torch.from_numpy(values[seen]).to(scores.device) for values in pairs)
        self.scores[to] = scores[row, column]
