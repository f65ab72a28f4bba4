"""Fine-tune a model to search API documentation, and watch it get better while it trains.

The data are the docstrings of the installed numpy, scipy and scikit-learn: the summary line is the query, the rest is
the document. Two evaluators look at the model at two intervals: a small one every few steps, full retrieval each
quarter of an epoch. The best model is loaded at the end. On two CPU cores this takes about five minutes.

    python examples/search_api_docs.py              # a new run
    python examples/search_api_docs.py --resume     # goes on where a run was stopped, by Ctrl-C or otherwise
    python examples/search_api_docs.py --model sentence-transformers/all-mpnet-base-v2
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib.util
import json
import math
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

PACKAGES = ("numpy", "scipy", "sklearn")
NOT_FOR_USERS = {"tests", "testing", "conftest", "_lib", "externals", "distutils", "f2py"}
MIN_QUERY_WORDS, MAX_QUERY_WORDS, MIN_DOCUMENT_WORDS = 3, 40, 20
DEV_SHARE = 5  # one text in five is held out

MAX_SEQ_LENGTH = 96
BATCH_SIZE = 32
LEARNING_RATE = 5e-5
NUM_SMALL_QUERIES, NUM_SMALL_DOCUMENTS = 100, 200

QUESTIONS = (
    "find the peaks of a noisy signal",
    "fill in missing values of a table before fitting",
    "where does a function of one variable cross zero",
)


class Pair(NamedTuple):
    """One docstring: where it stands, its summary line and the text below that."""

    name: str
    query: str
    document: str


def find_docstrings(package: str) -> Iterator[tuple[str, str]]:
    """Yield (dotted name, docstring) of the public functions and classes of an installed package.

    The source is parsed and not imported: nothing of the package runs, and the order is always the same.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"{package} is not installed: its docstrings are the data of this example")
    folder = Path(spec.submodule_search_locations[0])
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        if NOT_FOR_USERS.isdisjoint(parts):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                    yield ".".join([*parts, node.name]), ast.get_docstring(node) or ""


def collect_pairs(packages: Sequence[str] = PACKAGES) -> list[Pair]:
    """Turn docstrings into pairs in which every name, every query and every document is there only once."""
    pairs: list[Pair] = []
    seen: set[str] = set()
    for package in packages:
        for name, docstring in find_docstrings(package):
            summary, _, rest = docstring.partition("\n\n")
            query, document = " ".join(summary.split()), " ".join(rest.split())
            long_enough = len(document.split()) >= MIN_DOCUMENT_WORDS
            if not long_enough or not MIN_QUERY_WORDS <= len(query.split()) <= MAX_QUERY_WORDS:
                continue
            keys = {name, query.lower(), document.lower()}
            if not keys & seen:
                seen |= keys
                pairs.append(Pair(name, query, document))
    return pairs


def is_dev(pair: Pair) -> bool:
    """Tell whether a pair is held out. The text alone decides, so the answer is the same in every run."""
    return int(hashlib.sha256(pair.query.lower().encode()).hexdigest(), 16) % DEV_SHARE == 0


def split_pairs(pairs: Sequence[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Split pairs into (train, dev)."""
    return [pair for pair in pairs if not is_dev(pair)], [pair for pair in pairs if is_dev(pair)]
