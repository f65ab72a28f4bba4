"""How an evaluator keeps the values of single queries, pairs or items."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor

from ..writers.files import safe_name
from ..writers.per_query import ItemValues, items_folder, items_path, write_items

Column: TypeAlias = "Tensor | Sequence[float] | float"
"""A value for each item, or one for all."""

_PREFIX: ContextVar[str] = ContextVar("prefix", default="")


class KeepsItems:
    """What `Evaluator` adds for `keep_per_query`.

    Attributes:
        keep_per_query: Whether values of single items are kept.
        per_query: Those of the last call; None when none were kept.
    """

    keep_per_query: bool = False
    per_query: ItemValues | None = None

    name: str
    csv_file: str

    def keep(
        self, ids: Sequence[Any], values: Mapping[str, Column] | None = None, raw: Mapping[str, Column] | None = None
    ) -> None:
        """Hand the values of single items over; called by `score`, does nothing unless `keep_per_query`.

        Args:
            ids: What names each of N items, such as the ids of queries.
            values: (N,) values by the key (without the name) of the metric that is their mean, with NaN for items that
                do not count in it; a number stands for N of them.
            raw: (N,) values that are no metric's parts, by name.

        Raises:
            ValueError: When a column has another length.
        """
        if not self.keep_per_query:
            return
        each = [{key: _numbers(column, len(ids)) for key, column in (given or {}).items()} for given in (values, raw)]
        named = {self.logged_key(key): column for key, column in each[0].items()}
        self.per_query = ItemValues(list(ids), named, each[1])

    def settle_items(self, metrics: Mapping[str, float]) -> None:
        """Where a metric (by its key without the name) is NaN, so is the value of each item."""
        undefined = {self.logged_key(key) for key, value in metrics.items() if value != value}
        if self.per_query is not None and undefined:
            nothing = [math.nan] * len(self.per_query.ids)
            values = {key: nothing if key in undefined else one for key, one in self.per_query.values.items()}
            self.per_query = replace(self.per_query, values=values)

    def write_items(self, folder: Path, epoch: float, steps: int) -> None:
        """Write what was kept, if anything was."""
        if self.per_query is not None:
            write_items(items_path(folder, self._items_file(_PREFIX.get()), epoch, steps), self.per_query)

    def items_folder(self, prefix: str) -> str:
        """Name of the folder of its files where a callback puts a prefix before its keys."""
        return items_folder(self._items_file(prefix))

    def _items_file(self, prefix: str) -> str:
        own = getattr(self, "csv_file", None) or "_".join(filter(None, [type(self).__name__, self.name]))
        return self.file_logged_under(prefix, own)

    def file_logged_under(self, prefix: str, own: str) -> str:
        """Name of a file of the evaluator where a callback puts a prefix before its keys.

        Without a name of its own the evaluator's files may have the names of another's.

        Args:
            prefix: What the callback puts before keys that do not start with it; "" for nothing.
            own: The name by the evaluator's own account.
        """
        return own if not prefix or f"{self.name}_".startswith(f"{prefix}_") else f"{prefix}_{own}"

    def file_name(self, own: str) -> str:
        """The same for the prefix that keys are logged under now, as a file name that stays in its folder."""
        return safe_name(self.file_logged_under(_PREFIX.get(), own))

    def logged_key(self, key: str) -> str:
        """The key in the log (without "eval_") of a metric, given its key without the name."""
        return with_prefix(_PREFIX.get(), self._named(key))

    def _named(self, key: str) -> str:
        return f"{self.name}_{key}" if self.name else key


def joined_items(each: Sequence[ItemValues | None]) -> ItemValues | None:
    """The values that several evaluators kept of the same items, side by side; None when they kept none."""
    kept = [one for one in each if one is not None]
    if not kept:
        return None
    return ItemValues(kept[0].ids, {key: column for one in kept for key, column in one.values.items()}, kept[0].raw)


@contextmanager
def logged_under(prefix: str) -> Iterator[None]:
    """Evaluators that run inside keep items under the keys that are logged.

    Args:
        prefix: What is put before keys that do not start with it; "" for nothing.
    """
    token = _PREFIX.set(prefix)
    try:
        yield
    finally:
        _PREFIX.reset(token)


def with_prefix(prefix: str, key: str) -> str:
    """A key that starts with a prefix.

    Examples:
        >>> with_prefix("dev", "cosine_ap"), with_prefix("dev", "dev_cosine_ap"), with_prefix("", "cosine_ap")
        ('dev_cosine_ap', 'dev_cosine_ap', 'cosine_ap')
    """
    return key if not prefix or key == prefix or key.startswith(f"{prefix}_") else f"{prefix}_{key}"


def _numbers(column: Column, num: int) -> list[float]:
    if isinstance(column, (int, float)):
        return [float(column)] * num
    return [float(one) for one in (column.tolist() if isinstance(column, Tensor) else column)]
