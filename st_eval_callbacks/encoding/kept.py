"""What one evaluation keeps: spaces of rows, and the numbers that tell inputs apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from typing import Any

import numpy as np

from .. import distributed
from .numbering import Numbering, Numbers, numbering_of
from .request import Request
from .space import Space


class Kept:
    """Spaces and numberings of an event, by request."""

    def __init__(self) -> None:
        """Start empty."""
        self._spaces: dict[Hashable, Space] = {}
        self._numberings: dict[tuple[int, bool], tuple[Any, Numbering]] = {}
        self._passing = Numbering()
        self._own_numberings: defaultdict[int, Numbering] = defaultdict(Numbering)

    @property
    def num_bytes(self) -> int:
        """Memory of all rows, in bytes."""
        return sum(space.num_bytes for space in self._spaces.values())

    def space(self, request: Request, *, is_own: bool = False) -> Space:
        """What all processes keep alike; or what this one keeps of streams, which is the same without others."""
        # Rows go by numbers, and those given together are others than those given alone.
        is_together = distributed.shares().num > 1
        key = (request.space_key, is_together, is_together and is_own)
        return self._spaces.setdefault(key, Space(request.model))

    def numbering_of(self, model: Any) -> Numbering:
        """The numbering of a model's inputs, which outlives the event."""
        is_together = distributed.shares().num > 1
        found = self._numberings.get((id(model), is_together))
        if found is None:
            # The model is held so that its identity stays its own.
            found = (model, numbering_of(model, is_together=is_together))
            self._numberings[id(model), is_together] = found
        return found[1]

    def numbering(self, request: Request) -> Numbering:
        """The numbering of a request's inputs."""
        return self.numbering_of(request.model) if request.is_lasting else self._passing

    def own_numbering(self, request: Request) -> Numbering:
        """Numbers for what this process keeps of streams: it sees others than the other processes do.

        Numbers that all share must be given in one order, for what is encoded together is dealt out by them.
        """
        if distributed.shares().num == 1:
            return self.numbering(request)
        return self._own_numberings[id(request.model)]

    def numbers(self, request: Request) -> Numbers:
        """(P,) numbers of a request's inputs; never write into them."""
        numbering = self.numbering(request)
        known = request.numbers if request.numbers is not None else numbering.recall(request.inputs)
        return numbering.number(request.inputs, request.keys) if known is None else known


def rows_of(space: Space, numbering: Numbering, keys: list[Hashable]) -> Numbers:
    """(len(keys),) row of each input in a space, -1 where it is not kept."""
    if not space.num_rows:
        return np.full(len(keys), -1, dtype=np.int64)
    known = numbering.find(keys)
    return np.where(known < 0, -1, space.rows(known.clip(0)))
