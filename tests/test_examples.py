"""Each example runs, in a small form: fewer texts, the same code. What it promises is looked up in what it leaves."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from support.processes import environment

EXAMPLES = Path(__file__).parents[1] / "examples"
# Constants of the modules that make them short; then those of one module.
SMALL = {"NUM_TRAIN": 24, "NUM_DEV": 12, "NUM_RANKED": 4, "NUM_CANDIDATES": 4, "BATCH_SIZE": 8, "NUM_LAYERS": 1}
SMALL_OF = {
    "two_intervals": {"NUM_TRAIN": 80, "NUM_JUDGED": 4},
    "resume": {"EVALUATE_EVERY": 1, "SAVE_EVERY": 1, "STOP_AT": 2},
    "custom_evaluator": {"NUM_SPREAD": 4},
    "evaluate_checkpoints": {"EVERY": 1},
}
METRICS = {
    "matryoshka": "docs_64_cosine_ndcg@10",
    "sparse": "few_dot_ndcg@10",
    "cross_encoder": "docs_ndcg@10",
    "multi_vector": "docs_maxsim_ndcg@10",
    "two_intervals": "docs_cosine_ndcg@10",
    "early_stopping": "docs_cosine_ndcg@10",
    "custom_evaluator": "docs_mean_rank",
}


@pytest.fixture(autouse=True)
def examples_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


def run(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    module = importlib.import_module(name)
    for constant, value in {**SMALL, **SMALL_OF.get(name, {})}.items():
        if hasattr(module, constant):
            monkeypatch.setattr(module, constant, value)
    assert module.main(["--output-dir", str(folder), *arguments]) == 0
    return module


def results_in(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "evaluation_results.csv", index_col="steps")


@pytest.mark.slow
@pytest.mark.parametrize("name", METRICS)
def test_an_example_trains_evaluates_and_saves(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(name, tmp_path, monkeypatch)
    results = results_in(tmp_path)
    assert results[METRICS[name]].notna().sum() >= 2
    metric = "mean_rank" if name == "custom_evaluator" else "ndcg@10"
    assert metric in (tmp_path / "final" / "README.md").read_text(encoding="utf-8")
    out = capsys.readouterr().out
    assert f"The model, with its card: {tmp_path / 'final'}" in out.replace("best model", "model")
    if (check := CHECKS.get(name)) is not None:
        check(tmp_path, results, out)


def intervals_are_kept(folder: Path, results: pd.DataFrame, out: str) -> None:
    assert list(results["sts_spearman_cosine"].dropna().index) == [0, 2, 4, 6, 8, 10]
    assert list(results["docs_cosine_ndcg@10"].dropna().index) == [0, 3, 5, 8, 10]


def stopped_early_with_the_best(folder: Path, results: pd.DataFrame, out: str) -> None:
    [stopped_at] = map(int, re.findall(r"Stopped at step (\d+) of 30\n", out))
    assert stopped_at == results.index[-1] < 30
    best_step = results[results["is_best"] == 1].index[-1]
    assert len(results.loc[best_step:]) == 1 + importlib.import_module("early_stopping").PATIENCE
    best = folder / f"checkpoint-{best_step}"
    assert f"The best, which was loaded: {best} ({results['docs_cosine_ndcg@10'][best_step]:.4f})" in out
    weights = "model.safetensors"
    assert (folder / "final" / weights).read_bytes() == (best / weights).read_bytes()


def lowest_mean_rank_was_kept(folder: Path, results: pd.DataFrame, out: str) -> None:
    from search_api_docs import small_split
    from sentence_transformers import SentenceTransformer

    trained = results.loc[1:]
    best_step = trained[trained["is_best"] == 1].index[-1]
    assert trained["docs_mean_rank"][best_step] == trained["docs_mean_rank"].min()
    assert results["spread"].between(0, 2).all()

    _, dev = small_split(SMALL["NUM_TRAIN"], SMALL["NUM_DEV"])
    model = SentenceTransformer(str(folder / "final"), device="cpu")
    scores = model.similarity(*(model.encode([getattr(pair, side) for pair in dev]) for side in ("query", "document")))
    ranks = 1 + (scores > scores.diagonal()[:, None]).sum(dim=1)
    assert trained["docs_mean_rank"][best_step] == pytest.approx(ranks.double().mean().item())
    assert trained["docs_worst_rank"][best_step] == ranks.max()


CHECKS = {
    "two_intervals": intervals_are_kept,
    "early_stopping": stopped_early_with_the_best,
    "custom_evaluator": lowest_mean_rank_was_kept,
}


@pytest.mark.slow
def test_a_model_that_gives_nan_has_no_mean_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    from search_api_docs import load_model

    model = load_model(None)
    evaluator = importlib.import_module("custom_evaluator").MeanRankEvaluator(["a", "b"], ["c", "d"], name="docs")
    assert 1 <= evaluator(model)["docs_mean_rank"] <= 2
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, torch.nan)
    assert pd.isna(list(evaluator(model).values())).all()


@pytest.mark.slow
def test_the_resumed_run_has_a_row_a_step_and_is_left_alone_when_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # It ends with 1 unless the rows are those of the uninterrupted run.
    run("resume", tmp_path, monkeypatch)
    checkpoint = tmp_path / "broken_off" / "checkpoint-1"
    assert f"Broken off after step 2; going on from {checkpoint}\n" in capsys.readouterr().out
    assert list(results_in(tmp_path / "broken_off").index) == [1, 2, 3]
    run("resume", tmp_path, monkeypatch)
    assert "Broken off after" not in capsys.readouterr().out
    assert list(results_in(tmp_path / "broken_off").index) == [1, 2, 3]


@pytest.mark.slow
def test_checkpoints_are_evaluated_on_texts_of_their_own_and_trained_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = run("evaluate_checkpoints", tmp_path, monkeypatch)
    out = capsys.readouterr().out
    dev_values = results_in(tmp_path)["dev_cosine_ndcg@10"]
    rows = re.findall(r"checkpoint-(\d)\s.*?(\d\.\d{4}).*?(\d\.\d{4})", out)
    assert [(int(step), value) for step, value, _ in rows] == [(i, f"{dev_values[i]:.4f}") for i in (1, 2, 3)]
    # The first of several best, as `max` finds it.
    by_dev = max(rows, key=lambda row: dev_values[int(row[0])])
    assert f"Best by dev: checkpoint-{by_dev[0]}, worth {by_dev[2]} on the test set\n" in out
    assert f"Best by test: checkpoint-{max(rows, key=lambda row: float(row[2]))[0]}\n" in out

    monkeypatch.delattr(module, "fine_tune")
    run("evaluate_checkpoints", tmp_path, monkeypatch)
    assert capsys.readouterr().out.endswith(out[out.index("Best by dev") :])


@pytest.mark.slow
def test_checkpoints_of_another_run_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "checkpoint-5" / "trainer_state.json"
    state.parent.mkdir()
    state.write_text('{"log_history": []}', encoding="utf-8")
    with pytest.raises(SystemExit):
        run("evaluate_checkpoints", tmp_path, monkeypatch)
    assert f"the checkpoints in {tmp_path} are not those of this example" in capsys.readouterr().err


ENCODED = r"process (\d) encoded (\d+) texts; best docs_cosine_ndcg@10 (\S+), by hand (\S+)\n"


@pytest.mark.slow
def test_one_process_encodes_all_and_two_share_with_the_same_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("many_processes", tmp_path / "one", monkeypatch)
    [(_, alone, *_)] = re.findall(ENCODED, capsys.readouterr().out)

    script = tmp_path / "small.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(EXAMPLES)!r})\nimport many_processes\n"
        f"vars(many_processes).update({ {key: SMALL[key] for key in ('NUM_TRAIN', 'NUM_DEV', 'BATCH_SIZE')}!r})\n"
        "raise SystemExit(many_processes.main())\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", str(script)]
    done = subprocess.run(
        [*command, "--output-dir", str(tmp_path / "two")],
        env=environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = re.findall(ENCODED, done.stdout)
    assert [index for index, *_ in told] == ["0", "1"]
    assert len({value for _, _, *values in told for value in values}) == 1
    assert "All values agree: yes\n" in done.stdout
    # In each evaluation, half of the queries and as many documents.
    share = len(results_in(tmp_path / "two")) * SMALL["NUM_DEV"]
    assert all(share <= int(count) < int(alone) for _, count, *_ in told)


def test_every_example_is_run_here() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == {*METRICS, "search_api_docs", "resume", "evaluate_checkpoints", "many_processes"}


@pytest.mark.slow
def test_the_demo_trains_and_answers_its_questions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("search_api_docs", tmp_path, monkeypatch, "--num-pairs", "120", "--epochs", "3")
    assert "fill the holes" in capsys.readouterr().out
    assert len(results_in(tmp_path)) >= 2
