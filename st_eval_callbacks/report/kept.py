"""Values of single queries or pairs that a run has kept, by metric and step."""

from __future__ import annotations

import math
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
                    for metric, values in items.values.items():
                        if any(math.isfinite(value) for value in values):
                            found[metric] = dict(zip(map(str, items.ids), values, strict=True))
            self._read[step] = found
        return self._read[step]
