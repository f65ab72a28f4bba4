"""Values of single queries or pairs that a run has kept, by metric and step."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from ..writers.per_query import item_files, read_items


class KeptItems:
    """What is in `eval/per_query` of a run, read when it is asked for.

    Args:
        folder: The `output_dir` of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._files = item_files(folder / "eval")
        self._read: dict[int, dict[str, dict[str, float]]] = {}

    @property
    def steps(self) -> list[int]:
        """Steps of which anything was kept, ascending."""
        return sorted({step for files in self._files.values() for step in files})

    def at(self, step: int) -> dict[str, dict[str, float]]:
        """Value by item id, by metric that is a mean and has a value.

        Raises:
            ValueError: When a file is none of per-query values.
            ImportError: When a file is Parquet and pyarrow is not installed.
        """
        if step not in self._read:
            found: dict[str, dict[str, float]] = {}
            for files in self._files.values():
                if step in files:
                    items = read_items(files[step])
                    ids = _distinct(items.ids)
                    for metric, values in items.values.items():
                        if any(math.isfinite(value) for value in values):
                            found[metric] = dict(zip(ids, values, strict=True))
            self._read[step] = found
        return self._read[step]


def _distinct(ids: Iterable[str]) -> list[str]:
    """Ids of which the second of the same text has " (2)" behind it, and so on: 7 and "7" are two items."""
    counts: Counter[str] = Counter()
    found = []
    for one in ids:
        counts[one] += 1
        found.append(one if counts[one] == 1 else f"{one} ({counts[one]})")
    return found
