"""Streams of inputs, chunk by chunk: encoded, read in order, and kept as far as there is room."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import distributed
from .encoder import Encoder, Progress
from .kept import Kept, rows_of
from .numbering import Numbering, Numbers, input_of
from .request import Request
from .space import Space, free_memory
from .tables import Table, merged, num_bytes, take

# Part of the free memory that embeddings of streamed inputs may take.
_CACHE_SHARE = 0.25


class Chunks:
    """Encodes chunks of streams for one event.

    Args:
        kept: What the event keeps.
        encoder: Encodes.
        room: Most bytes for rows of streams; None takes a part of what is free on the device.

    Attributes:
        room: Bytes that are left; None before the first chunk.
    """

    def __init__(self, kept: Kept, encoder: Encoder, room: int | None) -> None:
        self._kept = kept
        self._encoder = encoder
        self.room = room

    def reader(
        self, request: Request, num_left: int, spare: Any, progress: Progress, *, is_wanted_again: bool
    ) -> Callable[[int, int], Any]:
        """Encode a chunk of a stream and say how to read whole rows of it in order.

        Args:
            request: The inputs of the chunk.
            num_left: How many inputs of the stream are left, those of the chunk included.
            spare: An input that stands for the chunk where it is empty.
            progress: Told how many are done.
            is_wanted_again: Whether rows are worth keeping.

        Returns:
            A function of the first place and the one after the last, which gives the rows between.
        """
        space, numbering, local = (
            self._kept.space(request, is_own=True),
            self._kept.own_numbering(request),
            Numbering(),
        )
        places = local.assign(request.keys)
        keys = local.keys(np.arange(len(local)))
        rows = rows_of(space, numbering, keys)
        missing = np.flatnonzero(rows < 0)
        fresh = self._fresh(request, local.keys(missing), spare, progress)
        progress(len(places) - len(missing))
        if not len(missing) or (is_wanted_again and self._fits(space, fresh, num_left - len(places))):
            if len(missing):
                numbers = numbering.assign(local.keys(missing))
                space.add(numbers, fresh)
                rows[missing] = space.rows(numbers)
            return _reader(space.table, rows[places])
        if len(missing) == len(places):
            return lambda start, end: _slice(fresh, start, end)
        if len(missing) == len(keys):
            return _reader(fresh, places)
        fresh_rows = np.full(len(keys), -1, dtype=np.int64)
        fresh_rows[missing] = np.arange(len(missing))
        return _mixed_reader(space, rows[places], fresh, fresh_rows[places])

    def _fresh(self, request: Request, keys: list[Hashable], spare: Any, progress: Progress) -> Any:
        """Rows of inputs that this process does not keep for streams; those that all processes have are copied."""
        inputs = list(map(input_of, keys))
        shared = self._kept.space(request)
        rows = np.full(len(keys), -1, dtype=np.int64)
        if shared is not self._kept.space(request, is_own=True):
            rows = rows_of(shared, self._kept.numbering(request), keys)
        unknown = [one for one, row in zip(inputs, rows, strict=True) if row < 0]
        if not unknown and not distributed.is_sharded(request.model):
            return take(shared.table, torch.from_numpy(rows).to(shared.table.device))
        encoded = self._encoder.encode_own(request, unknown, progress, spare)
        if len(unknown) == len(inputs):
            return encoded
        is_new, table = torch.from_numpy(rows < 0), shared.table
        copied = take(table, torch.from_numpy(rows[rows >= 0]).to(table.device))
        return merged([encoded, copied], [is_new.nonzero()[:, 0], (~is_new).nonzero()[:, 0]])

    def _fits(self, space: Space, fresh: Table, num_to_come: int) -> bool:
        """Whether fresh rows of a stream may be kept; if so there is room for them, and for those to come."""
        if self.room is None:
            self.room = int(free_memory(fresh.device) * _CACHE_SHARE)
        size = num_bytes(fresh)
        if size > self.room:
            return False
        if num_to_come:
            row_bytes = max(size // max(len(fresh), 1), 1)
            space.reserve(min(len(fresh) + num_to_come, self.room // row_bytes), fresh)
        self.room -= size
        return True


def _slice(table: Table, start: int, end: int) -> Any:
    end = min(end, len(table))
    return table[start:end] if isinstance(table, Tensor) else table.take(torch.arange(start, end, device=table.device))


def _reader(table: Table, rows: Numbers) -> Callable[[int, int], Any]:
    index = torch.from_numpy(rows).to(table.device)
    return lambda start, end: take(table, index[start:end])


def _mixed_reader(space: Space, rows: Numbers, fresh: Table, fresh_rows: Numbers) -> Callable[[int, int], Any]:
    """Rows of which some are kept and others were encoded for this chunk only, where their kept row is -1."""
    kept_index, fresh_index = (torch.from_numpy(one).to(fresh.device) for one in (rows, fresh_rows))

    def read(start: int, end: int) -> Any:
        kept, new = kept_index[start:end], fresh_index[start:end]
        is_kept = kept >= 0
        parts = [take(space.table, kept[is_kept]), take(fresh, new[~is_kept])]
        return merged(parts, [is_kept.nonzero()[:, 0], (~is_kept).nonzero()[:, 0]])

    return read
