"""The command line: ``python -m benchmarks``."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

# Before a library reads them: nothing may ask a hub, and a pool of threads does not survive a fork.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from .compare import Settings
    from .registry import Group

app = typer.Typer(add_completion=False)

RESULTS = Path(__file__).parent / "results.md"


@app.command()
def main(
    quick: Annotated[
        bool, typer.Option("--quick", help="Smaller sizes: two minutes, and bars are not judged.")
    ] = False,
    smallest: Annotated[bool, typer.Option("--smallest", hidden=True)] = False,
    only: Annotated[list[str] | None, typer.Option(help="Measure this group; may be given several times.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Most rounds a row; rows that take long run fewer.")] = 5,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch and faiss.")] = 1,
    output: Annotated[Path, typer.Option(help="Where the results go; plots go beside them.")] = RESULTS,
) -> None:
    """Measure st_eval_callbacks against sentence-transformers, and others where they apply."""
    with quiet():
        from .compare import Settings
        from .registry import GROUPS

        unknown = [name for name in only or [] if name not in {group.name for group in GROUPS}]
        if unknown:
            known = ", ".join(group.name for group in GROUPS)
            raise typer.BadParameter(f"there is no group {unknown[0]!r}; there are {known}.", param_hint="--only")
        groups = [group for group in GROUPS if not only or group.name in only]
        size = "smallest" if smallest else "quick" if quick else "full"
        output.parent.mkdir(parents=True, exist_ok=True)
        measure(groups, Settings(size, rounds, threads, folder=str(output.parent)), output)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what libraries log and warn of out of the terminal."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)


def measure(groups: Sequence[Group], settings: Settings, output: Path) -> None:
    """Measure groups one after another; what is there is written after each."""
    from .compare import use_threads
    from .report import Section, page

    use_threads(settings.threads)
    started, load_before = time.perf_counter(), _load()
    sections: list[Section] = []
    console = Console()
    # Without a thread that refreshes it: a forked child would inherit its locks and not the thread.
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    options = {"auto_refresh": False, "redirect_stdout": False, "redirect_stderr": False}
    with Progress(*columns, console=console, **options) as progress:
        task = progress.add_task("starting", total=len(groups))

        def say(text: str) -> None:
            progress.update(task, description=text)
            progress.refresh()

        for number, group in enumerate(groups, start=1):
            for section in group.run(replace(settings, say=say)):
                sections.append(section)
                progress.print(section.table())
            facts = [
                ("Date", datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")),
                ("Run", f"{settings.size}; {', '.join(one.name for one in groups[:number])}"),
                ("Seconds", f"{time.perf_counter() - started:.0f}"),
                ("Load (1, 5, 15 minutes)", f"{load_before} at the start, {_load()} at the end"),
                *_machine(settings),
            ]
            output.write_text(page(sections, facts), encoding="utf-8")
            progress.advance(task)
            progress.refresh()
    console.print(f"Written to {output}")


def _machine(settings: Settings) -> list[tuple[str, str]]:
    from .measure import can_measure_memory
    from .report import machine, versions
    from .retrieval import chosen_product

    memory = "by forked children" if can_measure_memory() else "not measured: this system has no /proc that tells it"
    return [
        ("Machine", machine()),
        ("Threads", str(settings.threads)),
        ("Peak memory", memory),
        ("Matrix product taken for float32", chosen_product(384)),
        ("Versions", versions()),
    ]


def _load() -> str:
    return " ".join(f"{load:.2f}" for load in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown"


if __name__ == "__main__":
    app()
