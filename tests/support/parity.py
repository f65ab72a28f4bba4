"""An evaluator beside sentence-transformers' own of the same name."""

from __future__ import annotations

import csv
import logging
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from .models import WORDS

_NUMBER = re.compile(r"-?\d+\.\d+|nan")


def sentences(num: int, seed: int = 0, max_words: int = 9) -> list[str]:
    """Texts of 2 to `max_words` words that the tiny models know; some come twice."""
    chooser = random.Random(seed)
    words = [word for word in WORDS if word.isalpha()]
    texts = [" ".join(chooser.choices(words, k=chooser.randint(2, max_words))) for _ in range(num)]
    return [chooser.choice(texts) if chooser.random() < 0.1 else text for text in texts]


def read_csv(folder: Path, evaluator: Any) -> list[list[str]]:
    """All rows of an evaluator's CSV."""
    with (folder / evaluator.csv_file).open(newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream))


def assert_equal_to_peer(
    ours: Any,
    theirs: Any,
    model: Any,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    *,
    without: Sequence[str] = (),
    more_lines: Sequence[str] = (),
    tolerance: float = 1e-6,
) -> dict[str, float]:
    """Keys and their order, values, primary metric, CSV, card and log lines are those of the peer.

    Args:
        ours: The evaluator.
        theirs: The peer, made with the same arguments.
        model: The model.
        folder: Where both write.
        caplog: Pytest's fixture.
        without: Keys of the peer that ours leaves out on purpose.
        more_lines: Lines that ours logs and the peer does not.
        tolerance: Largest difference of values, absolute or relative.

    Returns:
        The result of ours.
    """
    named = ours.metric_names(model)
    lines, results = [], []
    for evaluator in (theirs, ours):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            results.append(evaluator(model, str(folder / ("ours" if evaluator is ours else "theirs")), 2, 30))
        lines.append([record.getMessage() for record in caplog.records if record.name != "httpx"])
    expected, result = results
    assert list(result) == [key for key in expected if key not in without]
    assert result == pytest.approx({key: expected[key] for key in result}, abs=tolerance, rel=tolerance)
    assert all(type(value) is float for value in result.values())
    assert named == list(result)
    assert ours.primary_metric == theirs.primary_metric
    # Some peers never call the constructor that sets it.
    assert ours.greater_is_better == getattr(theirs, "greater_is_better", True)
    assert ours.description == theirs.description
    assert ours.get_config_dict() == theirs.get_config_dict()
    assert list(ours.get_config_dict()) == list(theirs.get_config_dict())
    assert ours.csv_file == theirs.csv_file
    header, row = read_csv(folder / "ours", ours)
    peer_header, peer_row = read_csv(folder / "theirs", theirs)
    assert header == peer_header
    assert row[:2] == peer_row[:2]
    values, peer_values = ([float(value) for value in one] for one in (row, peer_row))
    assert values == pytest.approx(peer_values, abs=tolerance, rel=tolerance)
    kept = [line for line in lines[1] if line not in more_lines]
    assert [_NUMBER.sub("#", line) for line in kept] == [_NUMBER.sub("#", line) for line in lines[0]]
    # Digits after the point may round either way.
    numbers, peer_numbers = ([float(n) for line in one for n in _NUMBER.findall(line)] for one in (kept, lines[0]))
    assert numbers == pytest.approx(peer_numbers, abs=1e-2, rel=1e-4)
    return dict(result)
