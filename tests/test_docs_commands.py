"""Every command that a page shows is one that exists, with options that exist; those of `st-eval` are run."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from accelerate.commands.launch import launch_command_parser
from support.loop import make_trainer
from support.models import tiny_model
from test_docs import PAGES, ROOT, blocks, retrieval, with_blocks
from torch.distributed.run import get_args_parser

from st_eval_callbacks import EvaluatorCallback, Scheduled
from st_eval_callbacks.cli import main


def commands(block: str) -> list[list[str]]:
    """The words of each command of a block, without comments and assignments."""
    lines = block.replace("\\\n", " ").splitlines()
    found = [shlex.split(line, comments=True) for line in lines if not re.match(r"\w+=\$\(", line)]
    return [words for words in found if words]


def check(words: list[str], run_st_eval: Callable[[list[str]], None] | None = None) -> None:
    """Fail when a command does not exist or does not take what it is given."""
    program, *rest = words
    if program == "make":
        targets = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)[0].split()
        assert rest[0] in targets
    elif program == "python":
        source = (ROOT / rest[0]).read_text(encoding="utf-8")
        assert all(f'"{option}"' in source for option in rest[1:] if option.startswith("--"))
    elif program == "pip":
        [package] = [one for one in rest if not one.startswith("-") and one != "install"]
        name, extra = re.fullmatch(r"([\w.-]+)(?:\[(\w+)\])?", package).groups()  # type: ignore[union-attr]
        project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        assert name == "." or f'name = "{name}"' in project
        assert extra is None or re.search(rf"^{extra} = \[", project, re.M)
    elif program == ".":
        # The environment that `make` makes.
        assert f"VENV := {rest[0].partition('/')[0]}\n" in (ROOT / "Makefile").read_text(encoding="utf-8")
    elif program == "srun":
        check(rest, run_st_eval)
    elif program == "torchrun":
        # The parser takes what follows the script's name for the script.
        options = get_args_parser().parse_args([word.replace("$SLURM_NNODES", "2") for word in rest])
        if options.module:
            assert options.training_script == "st_eval_callbacks"
            check(["st-eval", *options.training_script_args], run_st_eval)
        else:
            assert options.training_script == "train.py" or (ROOT / options.training_script).exists()
    elif words[:2] == ["accelerate", "launch"]:
        launch_command_parser().parse_args([word.replace("$NODE", "0") for word in rest[1:]])
    elif program == "st-eval":
        if run_st_eval is not None:
            run_st_eval(rest)
    else:
        raise AssertionError(f"{shlex.join(words)}: no test knows how to check this")


@pytest.mark.parametrize("page", with_blocks("bash"), ids=lambda path: path.name)
def test_every_command_exists_with_its_options(page: Path) -> None:
    for block in blocks(page, "bash"):
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)
        for words in commands(block):
            check(words)


@pytest.mark.slow
@pytest.mark.usefixtures("matplotlib_is_there")
def test_every_st_eval_command_of_the_pages_works_on_a_run_of_the_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # What the example leaves, in small, and a model by the name that the pages use.
    callback = EvaluatorCallback(
        [Scheduled(retrieval("docs"), every=7, at_start=True), Scheduled(retrieval("small"), every=5)],
        keep_per_query=True,
    )
    make_trainer("runs/search_api_docs", [callback], max_steps=70, save_strategy="steps", save_steps=7).train()
    tiny_model().save_pretrained("minilm")
    monkeypatch.syspath_prepend(str(ROOT))
    page = ROOT / "docs" / "command_line.md"
    [build] = blocks(page, "python")
    demo = importlib.import_module("examples.search_api_docs")
    pairs = demo.collect_pairs()[:150]
    monkeypatch.setattr(demo, "collect_pairs", lambda: pairs)
    Path("evaluators.py").write_text(build, encoding="utf-8")
    done = []

    def run(arguments: list[str]) -> None:
        assert main(arguments) == 0, arguments
        done.append(arguments[0])

    for one in PAGES:
        for block in blocks(one, "bash"):
            for words in commands(block):
                check(words, run)
    assert {"show", "plot", "rank", "run", "compare"} <= set(done)


def test_what_does_not_exist_is_found() -> None:
    for line in (
        "make dome",
        "python examples/nothing.py",
        "torchrun --num_procs 2 train.py",
        "ls",
        "pip install x[y]",
    ):
        with pytest.raises((AssertionError, SystemExit, OSError)):
            check(shlex.split(line))
