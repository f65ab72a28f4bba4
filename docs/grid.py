"""Writes the grid of docs/evaluators.md from the code: which task takes which kind of model.

Run it with `python docs/grid.py`; a test tells when the page is out of date.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from st_eval_callbacks import evaluators
from st_eval_callbacks.evaluators.base import Evaluator

PAGE = Path(__file__).parent / "evaluators.md"
KINDS = ("dense", "sparse", "cross_encoder", "multi_vector")
TITLES = {
    "dense": "SentenceTransformer",
    "sparse": "SparseEncoder",
    "cross_encoder": "CrossEncoder",
    "multi_vector": "MultiVectorEncoder",
}
BEGIN, END = "<!-- written by docs/grid.py -->", "<!-- end of what is written -->"


def classes() -> Iterator[type[Evaluator]]:
    """All public evaluators that evaluate a model themselves."""
    for name in evaluators.__all__:
        found = getattr(evaluators, name)
        if isinstance(found, type) and issubclass(found, Evaluator) and found is not Evaluator:
            yield found


def task_of(kind: type[Evaluator]) -> str:
    """The task in a word: the name without the kind of model in front."""
    return re.sub(r"^(Sparse|CrossEncoder|MultiVector)|Evaluator", "", kind.__name__)


def cells() -> dict[str, dict[str, list[str]]]:
    """Names of the classes that a task has for a kind of model, by task and kind."""
    table: dict[str, dict[str, list[str]]] = {}
    for one in classes():
        row = table.setdefault(task_of(one), {kind: [] for kind in KINDS})
        for kind in one.kinds:
            row[kind].append(one.__name__)
    return table


def table() -> str:
    """The grid, in Markdown."""
    lines = [f"| task | {' | '.join(TITLES[kind] for kind in KINDS)} |", "|---|" + "---|" * len(KINDS)]
    for task, row in sorted(cells().items()):
        shown = ["<br>".join(f"`{name}`" for name in sorted(row[kind], key=len)) or "-" for kind in KINDS]
        lines.append(f"| {task} | {' | '.join(shown)} |")
    return "\n".join(lines)


def written(text: str, begin: str, end: str, new: str) -> str:
    """A text with what stands between two marks written anew."""
    found, count = re.subn(
        f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: f"{begin}\n\n{new}\n\n{end}", text, flags=re.DOTALL
    )
    if count != 1:
        raise ValueError(f"there are {count} places for {begin}, one is needed.")
    return found


def renewed(text: str) -> str:
    """The page with its grid written anew."""
    return written(text, BEGIN, END, table())


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
