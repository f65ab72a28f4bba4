"""What the documents show works."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
from support.loop import pairs
from support.models import tiny_model

ROOT = Path(__file__).parents[1]


def blocks(name: str) -> list[str]:
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def test_the_readmes_block_trains_and_writes_results(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    model = tiny_model()
    names = {
        "SentenceTransformerTrainer": SentenceTransformerTrainer,
        "model": model,
        "loss": MultipleNegativesRankingLoss(model),
        "train_dataset": pairs(200),
        "args": SentenceTransformerTrainingArguments(
            output_dir=str(tmp_path),
            per_device_train_batch_size=2,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            save_strategy="steps",
            save_steps=100,
            max_steps=110,
            dataloader_pin_memory=False,
        ),
        "queries": {"q": "cat"},
        "corpus": {"d": "a cat", "e": "the dog"},
        "relevant_docs": {"q": {"d"}},
        "left": ["cat", "dog", "fish"],
        "right": ["a cat", "a bird", "tree"],
        "scores": [1.0, 0.4, 0.1],
    }
    [block] = blocks("README.md")
    exec(block, names)
    lines = (tmp_path / "evaluation_results.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in lines] == ["steps", "0", "25", "50", "75", "100", "110"]


@pytest.mark.parametrize("name", ["docs/own_evaluator.md"])
def test_every_block_of_the_document_runs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    names = {"model": tiny_model()}
    for block in blocks(name):
        exec(block, names)
    assert "dev_mean_margin" in capsys.readouterr().out


@pytest.mark.parametrize("path", [*ROOT.glob("docs/*.md"), ROOT / "README.md"], ids=lambda path: path.name)
def test_every_link_to_a_file_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def test_the_grid_of_tasks_and_kinds_of_model_is_what_the_code_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    grid = importlib.import_module("grid")
    text = grid.PAGE.read_text(encoding="utf-8")
    assert grid.renewed(text) == text, "python docs/grid.py writes the tables anew"
