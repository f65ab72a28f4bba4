"""Each example runs, in a small form: fewer texts, the same code."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
# Constants of the module that make it short.
SMALL = {"NUM_TRAIN": 24, "NUM_DEV": 12, "NUM_RANKED": 4, "NUM_CANDIDATES": 4, "BATCH_SIZE": 8, "NUM_LAYERS": 1}
METRICS = {
    "matryoshka": "docs_64_cosine_ndcg@10",
    "sparse": "few_dot_ndcg@10",
    "cross_encoder": "docs_ndcg@10",
    "multi_vector": "docs_maxsim_ndcg@10",
}


@pytest.fixture(autouse=True)
def examples_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


def run(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    module = importlib.import_module(name)
    for constant, value in SMALL.items():
        if hasattr(module, constant):
            monkeypatch.setattr(module, constant, value)
    assert module.main(["--output-dir", str(folder), *arguments]) == 0
    return module


@pytest.mark.slow
@pytest.mark.parametrize("name", METRICS)
def test_an_example_trains_evaluates_and_saves(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(name, tmp_path, monkeypatch)
    results = pd.read_csv(tmp_path / "evaluation_results.csv")
    assert results[METRICS[name]].notna().sum() >= 2
    assert (tmp_path / "final" / "README.md").read_text(encoding="utf-8").count("ndcg@10") > 0
    assert f"The model, with its card: {tmp_path / 'final'}" in capsys.readouterr().out.replace("best model", "model")


def test_every_example_is_run_here() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == {*METRICS, "search_api_docs"}


@pytest.mark.slow
def test_the_demo_trains_and_answers_its_questions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("search_api_docs", tmp_path, monkeypatch, "--num-pairs", "120", "--epochs", "3")
    assert "fill the holes" in capsys.readouterr().out
    assert len(pd.read_csv(tmp_path / "evaluation_results.csv")) >= 2
