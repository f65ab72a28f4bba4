"""What a model card says, read back from its file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard


def front_matter(folder: Path) -> dict[str, Any]:
    """The metadata at the head of a card, as YAML and nothing else reads it."""
    _, head, _ = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    found: dict[str, Any] = yaml.safe_load(head)
    return found


def card_metrics(folder: Path) -> dict[tuple[str, str], float]:
    """Value by `(name of the evaluator, metric)` in the card's model-index, as the hub's client reads it."""
    results = ModelCard.load(folder / "README.md").data.eval_results or []
    found = {(result.dataset_type, result.metric_type): float(result.metric_value) for result in results}
    assert len(found) == len(results), "a metric stands twice in the model-index"
    return found


def training_rows(folder: Path) -> list[dict[str, str]]:
    """The rows of the card's training table by column; those of the marked step still have their stars."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    lines = re.search(r"^\| Epoch .*\n(?:\|.*\n)+", text, re.MULTILINE)
    if lines is None:
        return []
    header, _, *rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in lines[0].splitlines()]
    return [dict(zip(header, row, strict=True)) for row in rows]


def marked_steps(rows: list[dict[str, str]]) -> list[int]:
    """Steps whose rows are in bold."""
    return [int(row["Step"].strip("*")) for row in rows if row["Step"].startswith("**")]


def text_without_times(folder: Path) -> list[str]:
    """The lines of a card, without those that say how long something took."""
    lines = (folder / "README.md").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not re.search(r"\d (seconds|minutes)$", line)]
