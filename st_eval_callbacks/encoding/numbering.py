"""Inputs as numbers, so that a list that comes again need not be looked at text by text."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]

MAX_BYTES = 384 * 2**20
"""Most memory that what is known of a model's inputs may take from one evaluation to the next, in bytes."""

# What an input costs besides itself (an entry, its number, a place in the list), and a place in a remembered list.
_INPUT_BYTES = 128
_PLACE_BYTES = 16


class Numbering:
    """Numbers distinct inputs from 0 up, in the order in which they first come.

    Lists are remembered with a copy, and known again by comparing with it: that takes a few nanoseconds a text where
    the texts are the same objects, and is right for any list whatever happened to it meanwhile.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._numbers: defaultdict[Hashable, int] = defaultdict(itertools.count().__next__)
        self._keys: list[Hashable] = []
        self._lists: dict[Hashable, tuple[list[Any], Numbers]] = {}
        self._num_places = 0

    def __len__(self) -> int:
        """How many distinct inputs have a number."""
        return len(self._keys)

    @property
    def num_bytes(self) -> int:
        """Memory used besides the inputs themselves, estimated, in bytes."""
        return len(self._keys) * _INPUT_BYTES + self._num_places * _PLACE_BYTES

    def recall(self, texts: list[Any]) -> Numbers | None:
        """The numbers of a list of texts that came before; None if it did not.

        Args:
            texts: P inputs.

        Returns:
            (P,) numbers; shared, never write into it.
        """
        outline = _outline(texts)
        found = None if outline is None else self._lists.get(outline)
        return found[1] if found is not None and found[0] == texts else None

    def number(self, inputs: list[Any], keys: Sequence[Hashable]) -> Numbers:
        """Number a list that may come again; it is remembered if its keys are the inputs themselves.

        Args:
            inputs: P inputs.
            keys: Their keys.

        Returns:
            (P,) numbers; shared, never write into it.
        """
        numbers = self.assign(keys)
        outline = _outline(inputs)
        if keys is inputs and outline is not None:
            self._num_places += 0 if outline in self._lists else len(inputs)
            self._lists[outline] = (list(inputs), numbers)
        return numbers

    def assign(self, keys: Sequence[Hashable]) -> Numbers:
        """Number inputs, those that have none included.

        Args:
            keys: P keys.

        Returns:
            (P,) numbers.
        """
        numbers = np.fromiter(map(self._numbers.__getitem__, keys), dtype=np.int64, count=len(keys))
        num_new = len(self._numbers) - len(self._keys)
        self._keys += reversed(list(itertools.islice(reversed(self._numbers), num_new)))
        return numbers

    def find(self, keys: Sequence[Hashable]) -> Numbers:
        """(len(keys),) numbers of inputs, -1 for those that have none."""
        return np.fromiter(map(self._numbers.get, keys, itertools.repeat(-1)), dtype=np.int64, count=len(keys))

    def keys(self, numbers: Numbers) -> list[Hashable]:
        """The keys of numbers, in their order."""
        if len(numbers) and (numbers == np.arange(numbers[0], numbers[0] + len(numbers))).all():
            return self._keys[numbers[0] : numbers[0] + len(numbers)]
        return list(map(self._keys.__getitem__, numbers.tolist()))


class Same:
    """Stands for an input that cannot be hashed, such as an image: equal to itself only.

    Args:
        one: The input.
    """

    __slots__ = ("one",)

    def __init__(self, one: Any) -> None:
        self.one = one

    def __eq__(self, other: object) -> bool:
        """Whether both stand for one object."""
        return isinstance(other, Same) and other.one is self.one

    def __hash__(self) -> int:
        """That of the object's identity."""
        return id(self.one)


def key_of(one: Any) -> Hashable:
    """What tells an input apart: a text itself, anything else with its type, since 1, 1.0 and True are equal."""
    if isinstance(one, str):
        return one
    key = (type(one), one)
    try:
        hash(key)
    except TypeError:
        return Same(one)
    return key


def input_of(key: Any) -> Any:
    """The input that has a key."""
    return key if isinstance(key, str) else key.one if isinstance(key, Same) else key[1]


# By model, so that it goes when the model goes. What processes number together is kept apart from what one of them
# numbers alone, since they must give the same numbers: texts are dealt out by them.
_ALONE: WeakKeyDictionary[Any, Numbering] = WeakKeyDictionary()
_TOGETHER: WeakKeyDictionary[Any, Numbering] = WeakKeyDictionary()


def numbering_of(model: Any, *, is_together: bool = False) -> Numbering:
    """What is known of a model's inputs since earlier evaluations; anew when it has grown too large.

    Args:
        model: Any object; one that can't be held weakly gets an empty numbering each time.
        is_together: Whether all processes make the same calls here.

    Returns:
        The numbering.
    """
    kept = _TOGETHER if is_together else _ALONE
    try:
        found = kept.get(model)
        if found is None or found.num_bytes > MAX_BYTES:
            found = kept[model] = Numbering()
        return found
    except TypeError:
        return Numbering()


def _outline(texts: list[Any]) -> tuple[int, Any, Any, Any] | None:
    """What lists of texts or pairs that may be equal have in common; None for lists of other things."""
    if not texts:
        return None
    first, middle, last = texts[0], texts[len(texts) // 2], texts[-1]
    if not all(map(_is_text, (first, middle, last))):
        return None
    return len(texts), first, middle, last


def _is_text(one: Any) -> bool:
    """Whether it is a text, or a pair of texts as a tuple: such lists are equal where their texts are."""
    if isinstance(one, tuple):
        return len(one) == 2 and isinstance(one[0], str) and isinstance(one[1], str)
    return isinstance(one, str)
