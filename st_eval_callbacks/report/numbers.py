"""Values as text, and how wide text is."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable


def value_format(values: Iterable[float]) -> str:
    """The format that fits all of a metric's values: four decimals, or digits for the very large and small."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    if largest >= 10_000:
        return ".6g"
    return ".4g" if 0 < largest < 0.01 else ".4f"


def text_width(text: str) -> int:
    """Places a text takes on a terminal; letters of East Asian scripts take two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def fold(name: str, width: int) -> list[str]:
    """Break a long name into lines, behind "_", "-" or "/" where there is one.

    Args:
        name: The name.
        width: Most places a line, >= 1.

    Returns:
        Lines that joined are the name.

    Examples:
        >>> fold("quora_dev_cosine_ndcg@10", 12)
        ['quora_dev_', 'cosine_', 'ndcg@10']
    """
    lines = [""]
    for piece in _pieces(name):
        if lines[-1] and text_width(lines[-1] + piece) > width:
            lines.append("")
        for letter in piece:
            if lines[-1] and text_width(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return lines


def _pieces(name: str) -> list[str]:
    pieces = [""]
    for letter in name:
        pieces[-1] += letter
        if letter in "_-/":
            pieces.append("")
    return pieces
