"""Sections of the report: tables of text with their notes and verdicts, for the terminal and for Markdown."""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch

_PACKAGES = (
    "st-eval-callbacks",
    "sentence-transformers",
    "torch",
    "transformers",
    "numpy",
    "scikit-learn",
    "scipy",
    "faiss-cpu",
    "pytrec-eval-terrier",
    "ranx",
)


@dataclass
class Verdict:
    """Whether a bar was reached.

    Attributes:
        row: What was measured.
        bar: What was to be reached.
        value: What was reached.
        reached: None where the bar is not judged: it is one for another size.
    """

    row: str
    bar: str
    value: str
    reached: bool | None


@dataclass
class Section:
    """One table.

    Attributes:
        title: Its heading.
        header: Names of its columns.
        rows: Cells.
        notes: Sentences below it.
        verdicts: The bars it holds.
        picture: File name of a plot that belongs to it.
        brief: Places of the columns that a terminal shows; None for all.
    """

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    picture: str | None = None
    brief: tuple[int, ...] | None = None

    def markdown(self) -> str:
        lines = [f"## {self.title}", "", _line(self.header), _line("---" for _ in self.header)]
        lines += [_line(row) for row in self.rows]
        if self.picture:
            lines += ["", f"![{self.title}]({self.picture})"]
        return "\n".join([*lines, *(f"\n{note}" for note in self.notes), ""])

    def table(self) -> Any:
        """The same for the terminal."""
        from rich import box
        from rich.table import Table

        table = Table(title=self.title, title_justify="left", box=box.SIMPLE_HEAD)
        columns = range(len(self.header)) if self.brief is None else self.brief
        for column in columns:
            table.add_column(self.header[column], overflow="fold")
        for row in self.rows:
            table.add_row(*(row[column] for column in columns))
        return table


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def seconds_text(seconds: float) -> str:
    """Three figures; below a second in thousandths."""
    if math.isnan(seconds):
        return "-"
    return (
        f"{seconds * 1000:.3g} ms"
        if seconds < 0.9995
        else f"{seconds:.3g} s"
        if seconds < 999.5
        else f"{seconds:.0f} s"
    )


def mib_text(mib: float | None) -> str:
    """Whole MiB."""
    return "-" if mib is None else f"{mib:,.0f}"


def reached_text(verdicts: Iterable[Verdict]) -> str:
    """One word for each bar."""
    words = {None: "not judged", True: "yes", False: "**no**"}
    return ", ".join(words[verdict.reached] for verdict in verdicts) or "-"


def processor() -> str:
    """Name of the processor."""
    path = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", path.read_text(encoding="utf-8"), re.M) if path.exists() else None
    return found[1].strip() if found else platform.processor() or platform.machine()


def versions() -> str:
    """Versions of all that is measured, or the word that it is not there."""
    found = []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{name} not installed")
    return ", ".join([f"Python {platform.python_version()}", *found])


def machine() -> str:
    """Processor, cores and memory."""
    capability = torch.backends.cpu.get_cpu_capability()
    return (
        f"{processor()} ({capability}), {os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB, "
        f"{platform.system()} {platform.machine()}"
    )


def page(sections: Iterable[Section], facts: Iterable[tuple[str, str]]) -> str:
    """The whole report in Markdown."""
    sections = list(sections)
    judged = [verdict for section in sections for verdict in section.verdicts if verdict.reached is not None]
    missed = [verdict for verdict in judged if not verdict.reached]
    lines = ["# Benchmark results", "", "Written by `python -m benchmarks`; do not edit.", ""]
    lines += [f"* {name}: {value}" for name, value in facts]
    if judged:
        lines.append(f"* Bars reached: {len(judged) - len(missed)} of {len(judged)}")
        lines += [f"  * missed: {one.row}: {one.value} where {one.bar} is wanted" for one in missed]
    return "\n".join([*lines, "", *(section.markdown() for section in sections)])
