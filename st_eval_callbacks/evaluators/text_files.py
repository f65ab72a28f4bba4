"""Lines of text files, packed or not, and the values in them; errors say in which line."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any


def json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of a file of JSON lines, each with where it stands, for messages."""
    with opened(existing(path)) as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            place = f"{path}, line {number}"
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{place} is no JSON: {error}.") from error
            if not isinstance(row, dict):
                raise ValueError(f"{place} is no JSON object: {line[:80]!r}.")
            yield place, row


def first_name(row: Mapping[str, Any], names: Sequence[str], place: str) -> str:
    """The first of some names that a row has."""
    for name in names:
        if name in row:
            return name
    raise ValueError(f"{place} has none of {', '.join(names)}: it has {', '.join(row)}.")


def needed(row: Mapping[str, Any], name: str, place: str) -> Any:
    """A value that a row must have."""
    if name not in row:
        raise ValueError(f"{place} has no {name!r}: it has {', '.join(row)}.")
    return row[name]


def text_of(row: Mapping[str, Any], name: str, place: str) -> str:
    """A value that a row must have, as text; what is null is empty."""
    value = needed(row, name, place)
    return "" if value is None else str(value)


def gain_of(value: Any, place: str) -> float:
    """A finite number."""
    if not (is_number(value) and math.isfinite(float(value))):
        raise ValueError(f"{place}: {value!r} is no gain.")
    return float(value)


def is_number(value: Any) -> bool:
    """Whether something reads as a number."""
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def is_there(path: Path) -> bool:
    """Whether a file is there, or is as `.gz`."""
    return path.exists() or path.with_name(f"{path.name}.gz").exists()


def existing(path: Path) -> Path:
    """A path whose file is there, or is as `.gz`."""
    if not is_there(path):
        raise FileNotFoundError(f"{path} is missing (also as {path.name}.gz).")
    return path


def opened(path: Path) -> IO[str]:
    """The lines of a file, packed or not; a mark of its byte order is no text."""
    if path.suffix == ".gz" or not path.exists():
        return gzip.open(
            path if path.exists() else path.with_name(f"{path.name}.gz"), "rt", encoding="utf-8-sig", newline="\n"
        )
    return path.open(encoding="utf-8-sig", newline="\n")
