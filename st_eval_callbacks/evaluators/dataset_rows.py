"""Rows of Hugging Face datasets: of the hub, or of a local folder in the hub's layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

_LOADERS = {".parquet": "parquet", ".jsonl": "json", ".json": "json"}


def read_rows(dataset_id: str, subset: str, split: str, columns: Sequence[str]) -> Any:
    """The rows of one split of one subset, with at least the given columns.

    Raises:
        ValueError: When they cannot be loaded, or lack a column.
    """
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise ImportError("these data are loaded with datasets: pip install datasets") from error
    files = sorted(path for path in Path(dataset_id, subset).glob(f"{split}*") if _is_of(path, split))
    try:
        if files:
            loader = _LOADERS[files[0].suffix]
            rows = load_dataset(loader, data_files={split: [str(path) for path in files]}, split=split)
        else:
            rows = load_dataset(dataset_id, subset, split=split)
    except Exception as error:
        raise ValueError(f"Could not load subset '{subset}' split '{split}' from dataset '{dataset_id}'.") from error
    missing = [column for column in columns if column not in rows.column_names]
    if missing:
        raise ValueError(
            f"Subset '{subset}' split '{split}' from dataset '{dataset_id}' is missing required columns: {missing}."
        )
    return rows


def _is_of(path: Path, split: str) -> bool:
    """Whether a file holds a split or a part of it: NanoNQ.jsonl, NanoNQ-0-of-1.parquet, but not NanoNQ2.jsonl."""
    return path.suffix in _LOADERS and path.name.removeprefix(split)[0] in ".-"
