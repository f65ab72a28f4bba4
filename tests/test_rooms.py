"""The rooms of the package, in order: each imports only from those above it."""

from __future__ import annotations

import ast
import importlib
import operator
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "st_eval_callbacks"
FOLDER = Path(__file__).resolve().parents[1] / PACKAGE

# `__init__` and `__main__` are the doors: they may import every room, and no room goes through them.
ROOMS = (
    "kernels",
    "measures",
    "schedule",
    "checkpoints",
    "history",
    "writers",
    "distributed",
    "encoding",
    "scorers",
    "evaluators",
    "tasks",
    "evaluation",
    "report",
    "trainer_watch",
    "trainer_link",
    "trials",
    "selection",
    "plan",
    "run_record",
    "event",
    "best",
    "callback",
    "cli",
    "__init__",
    "__main__",
)

DOORS = {"__init__", "__main__"}

# Only these may be imported from outside, by the rooms that are about numbers alone.
ONLY = {"kernels": {"torch", "numpy"}, "measures": set(), "schedule": set(), "history": {"pandas"}}

# What a room of numbers must not touch in the standard library.
NOT_IN = {
    "kernels": {"io", "logging", "multiprocessing", "os", "pathlib", "shutil", "socket", "subprocess", "tempfile"},
    "schedule": {"datetime", "time"},
}

# What only one room may know, as dotted names of what is imported or looked up.
ONE_ROOM = {
    "distributed": ("torch.distributed", "accelerate"),
    "trainer_link": ("sys._getframe", "inspect.stack", "inspect.currentframe", "traceback.walk_stack"),
}

# Slow to import or part of an extra: imported inside the functions that need them.
LATE = ("pandas", "rich", "matplotlib", "datasets", "typer", "pyarrow", "IPython")


def room_of(path: Path) -> str:
    return path.relative_to(FOLDER).with_suffix("").parts[0]


def imported_names(tree: ast.AST, module: str, is_package: bool) -> Iterator[str]:
    """Yield the full dotted name of all that is imported anywhere in a module, also inside functions."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            source = ".".join(part for part in (base, node.module) if part)
            yield from (f"{source}.{alias.name}" for alias in node.names)


def used_names(tree: ast.AST) -> Iterator[str]:
    """Yield every dotted name that is looked up, with `import x as y` undone."""
    full = {
        alias.asname: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.asname
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            first, _, rest = ast.unparse(node).partition(".")
            yield f"{full.get(first, first)}.{rest}"


def is_within(name: str, outer: str) -> bool:
    return name == outer or name.startswith(outer + ".")


def problems_of(source: str, room: str, module: str, is_package: bool = False) -> list[str]:
    """Return what a module of a room imports or uses and must not."""
    tree = ast.parse(source)
    imported = list(imported_names(tree, module, is_package))
    problems = []
    for name in imported:
        first, _, rest = name.partition(".")
        if first == PACKAGE:
            target = rest.partition(".")[0]
            if target not in ROOMS:
                problems.append(f"{name} is in no room")
            elif ROOMS.index(target) > ROOMS.index(room):
                problems.append(f"{target} is below {room}")
        elif first in NOT_IN.get(room, set()):
            problems.append(f"{first} is not for {room}")
        elif room in ONLY and first not in ONLY[room] and first not in sys.stdlib_module_names:
            problems.append(f"{first} is not for {room}")
    for owner, secrets in ONE_ROOM.items():
        if room != owner:
            names = {*imported, *used_names(tree)}
            problems += [f"{s} is for {owner} alone" for s in secrets if any(is_within(name, s) for name in names)]
    return problems


def late_imports_at_top(source: str) -> list[str]:
    """Return the late packages that importing a module would import, whatever the `if` or `try` around them."""
    found: list[str] = []
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            waiting += node.orelse
            continue
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        found += [late for late in LATE if any(is_within(name, late) for name in names)]
        waiting += ast.iter_child_nodes(node)
    return found


MODULES = sorted(FOLDER.rglob("*.py"))
IDS = [str(path.relative_to(FOLDER)) for path in MODULES]


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_a_module_imports_only_from_the_rooms_above_it(path: Path) -> None:
    parts = path.relative_to(FOLDER.parent).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    module = ".".join(parts[:-1] if is_package else parts)
    assert room_of(path) in ROOMS
    assert problems_of(path.read_text(encoding="utf-8"), room_of(path), module, is_package) == []


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_a_module_imports_slow_packages_only_inside_functions(path: Path) -> None:
    assert late_imports_at_top(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("room", "source", "problems"),
    [
        ("scorers", "from ..encoding import Session", []),
        ("scorers", "from .. import evaluators", ["evaluators is below scorers"]),
        ("scorers", "def f():\n    from ..callback import x", ["callback is below scorers"]),
        ("scorers", "import st_eval_callbacks.report", ["report is below scorers"]),
        ("scorers", "from st_eval_callbacks import EvaluatorCallback", [f"{PACKAGE}.EvaluatorCallback is in no room"]),
        ("kernels", "import math, numpy as np\nfrom torch import Tensor", []),
        ("kernels", "import scipy.stats", ["scipy is not for kernels"]),
        ("kernels", "import os.path", ["os is not for kernels"]),
        ("schedule", "from time import monotonic", ["time is not for schedule"]),
        ("history", "import torch", ["torch is not for history"]),
        ("scorers", "from torch import distributed", ["torch.distributed is for distributed alone"]),
        ("scorers", "import torch.distributed as dist", ["torch.distributed is for distributed alone"]),
        ("scorers", "import torch as t\nt.distributed.barrier()", ["torch.distributed is for distributed alone"]),
        ("scorers", "from accelerate import PartialState", ["accelerate is for distributed alone"]),
        ("distributed", "import torch.distributed, accelerate", []),
        ("scorers", "import sys\nsys._getframe(1).f_back", ["sys._getframe is for trainer_link alone"]),
        ("scorers", "from inspect import stack", ["inspect.stack is for trainer_link alone"]),
        ("trainer_link", "import sys\nsys._getframe(1)", []),
    ],
)
def test_the_check_finds_what_breaks_the_order(room: str, source: str, problems: list[str]) -> None:
    assert problems_of(source, room, f"{PACKAGE}.{room}.module") == problems


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import pandas as pd", ["pandas"]),
        ("try:\n    from rich.table import Table\nexcept ImportError:\n    pass", ["rich"]),
        ("class A:\n    import datasets", ["datasets"]),
        ("if TYPE_CHECKING:\n    import pandas", []),
        ("def f():\n    import matplotlib.pyplot", []),
        ("from .rich import x", []),
    ],
)
def test_the_check_finds_slow_packages_at_the_top(source: str, found: list[str]) -> None:
    assert late_imports_at_top(source) == found


def test_the_design_names_the_rooms_in_the_same_order() -> None:
    design = (FOLDER.parent / "docs" / "design.md").read_text(encoding="utf-8")
    section = design.split("## The rooms")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]*) \|", section, re.M)
    named = [name for row in rows for name in re.findall(r"`(\w+)(?:/|\.py)`", row)]
    built = {room_of(path) for path in MODULES}
    assert named == [room for room in ROOMS if room in built - DOORS]


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("code", [f"import {PACKAGE}", f"import {PACKAGE}.cli", f"import {PACKAGE}.report"])
def test_importing_the_package_by_name_loads_neither_torch_nor_any_slow_package(code: str) -> None:
    heavy = ("torch", "transformers", "sentence_transformers", "numpy", "scipy", *LATE)
    assert run_python(f"{code}; import sys; print(*[name for name in {heavy} if name in sys.modules])").split() == []


def test_every_name_of_the_package_is_there_and_so_are_its_rooms() -> None:
    code = f"import {PACKAGE} as p; print(*[name for name in p.__all__ if not hasattr(p, name) or name not in dir(p)])"
    assert run_python(code).split() == []
    assert run_python(f"import {PACKAGE} as p; print(p.evaluators.__name__)").split() == [f"{PACKAGE}.evaluators"]
    with pytest.raises(AttributeError, match="has no attribute 'EvaluatorCalback'"):
        operator.attrgetter("EvaluatorCalback")(importlib.import_module(PACKAGE))


@pytest.mark.slow
def test_importing_the_package_loads_no_slow_package_that_its_libraries_do_not_load_themselves() -> None:
    # sentence-transformers itself imports some of them where they are installed.
    libraries = "import torch, transformers, accelerate, sentence_transformers, sentence_transformers.base.evaluation"
    shown = f"import sys; print(*[name for name in {LATE} if name in sys.modules])"
    loaded = run_python(f"{libraries}; from transformers import Trainer; {shown}").split()
    assert set(run_python(f"from {PACKAGE} import *; {shown}").split()) <= set(loaded)
