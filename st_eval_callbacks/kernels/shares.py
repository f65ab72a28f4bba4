"""Work that is shared out: what a kernel must know of the others that do the rest of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


def _only(tensor: Tensor) -> list[Tensor]:
    return [tensor]


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Shares:
    """One of several that call the same kernel with the same inputs, each for a part of the work.

    Attributes:
        index: Which one this is, from 0.
        num: How many there are, at least 1.
        gather: Takes a tensor of each, whose first sizes may differ, and gives all of them to each, in order.
        pause: Called now and then by all the same number of times; raises when another has failed.
    """

    index: int = 0
    num: int = 1
    gather: Callable[[Tensor], list[Tensor]] = _only
    pause: Callable[[], None] = _nothing

    def part(self, total: int) -> slice:
        """This one's range of so many items; ranges differ in length by at most one.

        >>> [Shares(index, 3).part(7) for index in range(3)]
        [slice(0, 3, None), slice(3, 5, None), slice(5, 7, None)]
        """
        size, rest = divmod(total, self.num)
        start = self.index * size + min(self.index, rest)
        return slice(start, start + size + (self.index < rest))


ALONE = Shares()
"""All of the work."""
