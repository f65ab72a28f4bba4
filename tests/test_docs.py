"""What the documents show works: each block of each page is run."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from support.loop import pairs
from support.models import tiny_model

from st_eval_callbacks.evaluators import EmbeddingSimilarityEvaluator, InformationRetrievalEvaluator

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
LANGUAGES = {"python", "bash", "text"}


def blocks(page: Path, language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return [text for kind, text in found if kind == language]


def with_blocks(language: str) -> list[Path]:
    return [page for page in PAGES if blocks(page, language)]


def retrieval(name: str) -> InformationRetrievalEvaluator:
    return InformationRetrievalEvaluator({"q": "cat"}, {"d": "a cat", "e": "the dog"}, {"q": {"d"}}, name=name)


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a reader of the pages has at hand: a model, data, arguments, evaluators."""
    monkeypatch.chdir(tmp_path)
    model = tiny_model()
    settings = {
        "per_device_train_batch_size": 2,
        "max_steps": 110,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    left, right, scores = ["cat", "dog", "fish"], ["a cat", "a bird", "tree"], [1.0, 0.4, 0.1]
    return {
        "SentenceTransformerTrainer": SentenceTransformerTrainer,
        "SentenceTransformerTrainingArguments": SentenceTransformerTrainingArguments,
        "model": model,
        "loss": MultipleNegativesRankingLoss(model),
        "train_dataset": pairs(200),
        "settings": settings,
        "args": SentenceTransformerTrainingArguments(
            output_dir="runs/docs", save_strategy="steps", save_steps=100, **settings
        ),
        "queries": {"q": "cat"},
        "corpus": {"d": "a cat", "e": "the dog"},
        "relevant_docs": {"q": {"d"}},
        "left": left,
        "right": right,
        "scores": scores,
        "docs": retrieval("docs"),
        "small": retrieval("small"),
        "sts": EmbeddingSimilarityEvaluator(left, right, scores, name="sts"),
    }


@pytest.mark.parametrize("page", with_blocks("python"), ids=lambda path: path.name)
def test_every_python_block_runs_after_those_above_it(page: Path, names: dict[str, Any]) -> None:
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), names)


def test_the_readmes_block_trains_and_writes_results(names: dict[str, Any]) -> None:
    exec(blocks(ROOT / "README.md", "python")[0], names)
    lines = Path("runs/docs/evaluation_results.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in lines] == ["steps", "0", "25", "50", "75", "100", "110"]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_block_says_what_it_is(page: Path) -> None:
    kinds = re.findall(r"^```(\w*)\n.*?^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    assert set(kinds) <= LANGUAGES


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("name", ["grid", "keys"])
def test_the_tables_of_evaluators_are_what_the_code_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    writer = importlib.import_module(name)
    text = writer.PAGE.read_text(encoding="utf-8")
    assert writer.renewed(text) == text, f"python docs/{name}.py writes the table anew"
