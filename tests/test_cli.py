"""The commands of `st-eval`, each on a small run that was really trained."""

from __future__ import annotations

import importlib.util
import io
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from support.loop import make_trainer
from support.models import tiny_cross_encoder, tiny_model, tiny_multi_vector_model, tiny_sparse_model
from support.processes import environment
from support.runs import run_of

from st_eval_callbacks import EvaluatorCallback, History, Scheduled, __version__
from st_eval_callbacks.cli import main
from st_eval_callbacks.cli.evaluators_file import load_build
from st_eval_callbacks.cli.measuring import own_folder
from st_eval_callbacks.cli.models import Kind, kind_of, load_model
from st_eval_callbacks.cli.problems import Problem
from st_eval_callbacks.evaluators import InformationRetrievalEvaluator, TripletEvaluator
from st_eval_callbacks.writers.per_query import ItemValues, items_path, write_items
from st_eval_callbacks.writers.run_file import write_run

TEXTS = [
    f"{size} {one} {does}"
    for size in ("a small", "the old")
    for one in ("cat", "dog", "fish")
    for does in ("sits", "runs")
]
METRIC = "r_cosine_ndcg@10"

EVALUATORS = """
from beside import TEXTS
from st_eval_callbacks import evaluators


def build(model):
    ids = {str(i): text for i, text in enumerate(TEXTS)}
    pairs = {i: {str((int(i) + 1) % len(TEXTS))} for i in ids}
    return [
        evaluators.InformationRetrievalEvaluator(ids, ids, pairs, name="r", keep_per_query=True),
        evaluators.TripletEvaluator(TEXTS, TEXTS[1:] + TEXTS[:1], TEXTS[2:] + TEXTS[:2], name="t"),
    ]


def sparse():
    return {"s": evaluators.SparseTripletEvaluator(TEXTS[:2], TEXTS[2:4], TEXTS[4:6])}


def multi_vector():
    return evaluators.MultiVectorTripletEvaluator(TEXTS[:2], TEXTS[2:4], TEXTS[4:6], name="m")


def cross_encoder(count=4):
    pairs = [[a, b] for a, b in zip(TEXTS[:count], TEXTS[2:])]
    return evaluators.CrossEncoderClassificationEvaluator(pairs, [0, 1, 0, 1], name="c")


def noisy(model):
    print("this is no JSON")
    return build(model)


def boom(model):
    def broken(model, output_path=None, epoch=-1, steps=-1):
        raise OSError("the disk is gone")

    return [*build(model), broken]


def unbuildable(model):
    raise KeyError("no such data")


def none():
    return []
"""


class Told(NamedTuple):
    """What a command told."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its stdout, read as strict JSON."""
        return json.loads(self.out, parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))


@pytest.fixture
def st_eval(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Told]:
    # Files of evaluators find what lies beside them.
    monkeypatch.setattr(sys, "path", [*sys.path])

    def call(*arguments: object) -> Told:
        capsys.readouterr()
        code = main([str(one) for one in arguments])
        return Told(code, *capsys.readouterr())

    return call


def train(folder: Path, learning_rate: float) -> None:
    ids = {str(i): text for i, text in enumerate(TEXTS)}
    callback = EvaluatorCallback(
        [
            Scheduled(
                InformationRetrievalEvaluator(ids, ids, {i: {str((int(i) + 1) % 12)} for i in ids}, name="r"),
                every=2,
                at_start=True,
            ),
            Scheduled(TripletEvaluator(TEXTS[:2], TEXTS[2:4], TEXTS[4:6], name="t"), every=4),
        ],
        keep_per_query=True,
    )
    settings = {"save_strategy": "steps", "save_steps": 4, "learning_rate": learning_rate}
    make_trainer(folder, [callback], **settings).train()


def forget(folder: Path) -> None:
    shutil.rmtree(folder / "eval" / "per_query")


def keep(folder: Path, step: int, values: dict[str, list[float]]) -> None:
    ids = [f"q{i}" for i in range(len(next(iter(values.values()))))]
    path = items_path(folder / "eval", "Information-Retrieval_evaluation_r_results.csv", steps=step)
    write_items(path, ItemValues(ids, values))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs `a` and `b`, the evaluators' file, and an empty folder."""
    folder = tmp_path_factory.mktemp("place")
    train(folder / "a", 1e-2)
    train(folder / "b", 1e-3)
    (folder / "empty").mkdir()
    (folder / "evals.py").write_text(EVALUATORS)
    (folder / "beside.py").write_text(f"TEXTS = {TEXTS!r}\n")
    return folder


def best_step(folder: Path) -> int:
    best = History.read(folder).best(METRIC)
    assert best is not None
    return best.step


# -- all commands -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["show", "plot", "rank", "compare", "run"])
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_each_command_tells_how_it_is_called_with_an_example(
    st_eval: Callable[..., Told], command: str, flag: str
) -> None:
    told = st_eval(command, flag)
    assert told.code == 0
    assert f"Example:\n    st-eval {command} " in told.out


def test_the_version_is_that_of_the_package(st_eval: Callable[..., Told]) -> None:
    assert st_eval("--version") == (0, f"st-eval-callbacks {__version__}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["shwo"],
        ["show"],
        ["show", "a", "--nonsense"],
        ["rank", "a"],
        ["rank", "a", "--by", METRIC, "--again"],
        ["rank", "a", "--by", METRIC, "--top", "0"],
        ["compare", "a"],
        ["run", "a"],
        ["run", "a", "--evaluators", "e.py", "--kind", "dens"],
    ],
    ids=" ".join,
)
def test_a_wrong_call_ends_with_2(st_eval: Callable[..., Told], arguments: list[str]) -> None:
    told = st_eval(*arguments)
    assert (told.code, told.out) == (2, "")
    assert "Usage:" in told.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "aa"], "there is no {}/aa. Did you mean 'a'?"),
        (["show", "empty"], "no evaluation_run.json and no trainer_state.json at {}/empty"),
        (["show", ""], "Runs in it: a, b."),
        (["show", "evals.py"], "{}/evals.py is not the log of a run"),
        (["show", "a/evaluation_results.csv"], "is not the log of a run"),
        (["plot", "empty"], "no evaluation_run.json"),
        (["rank", "empty", "--by", METRIC], "no evaluation_run.json"),
        (["rank", "a", "--by", "r_cosine_ndgc@10"], "there is no metric 'r_cosine_ndgc@10'. Did you mean '" + METRIC),
        (["rank", "a", "--by", "ndcg@10"], f"Did you mean '{METRIC}'?"),
        (["show", "a", "--metrics", "*ngcd*"], "no metric fits '*ngcd*'."),
        (["plot", "a", "--metric", "t_cosine_acuracy"], "Did you mean 't_cosine_accuracy'?"),
        (["plot", "a", "-o", "{}/curves.nonsense"], "the picture cannot be written to"),
        (["compare", "{}/a", "{}/c"], "there is no {}/c."),
        (["compare", "{}/a", "{}/b", "--step", "5"], "nothing was measured at step 5 of a; there is: 0, 2, 4, 6, 8."),
        (["compare", "{}/a", "{}/b", "--metric", "nothing"], "no metric fits 'nothing'."),
        (["run", "a", "--evaluators", "{}/evals.py"], "is the output_dir of a run; name a model in it, such as {}/a/"),
        (["run", "empty", "--evaluators", "{}/evals.py"], "there is no model in {}/empty"),
        (["run", "a/chekpoint-4", "--evaluators", "{}/evals.py"], "Did you mean 'checkpoint-4'?"),
        (
            ["run", "a/checkpoint-4", "--evaluators", "{}/eval.py"],
            "there is no file {}/eval.py. Did you mean 'evals.py'?",
        ),
        (
            ["run", "a/checkpoint-4", "--evaluators", "{}/evals.py:bild"],
            "no function 'bild' in {}/evals.py. Did you mean 'build'?",
        ),
        (["run", "a/checkpoint-4", "--evaluators", "{}/beside.py"], "no function 'build'"),
        (
            ["run", "a/checkpoint-4", "--evaluators", "no_such_module:build"],
            "ModuleNotFoundError: No module named 'no_such_module'",
        ),
        (
            ["run", "a/checkpoint-4", "--evaluators", "{}/evals.py:unbuildable"],
            "unbuildable() failed: KeyError: 'no such data'",
        ),
        (["run", "a/checkpoint-4", "--evaluators", "{}/evals.py:none"], "no evaluators were given"),
        (["run", "a/checkpoint-4", "--evaluators", "{}/evals.py:cross_encoder"], "does not fit SentenceTransformer"),
        (["rank", "a", "--by", "r_ndcg", "--again", "--evaluators", "{}/evals.py"], "there is no metric 'r_ndcg'."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.usefixtures("matplotlib_is_there")
def test_what_is_not_there_is_told_in_one_line_with_what_was_meant(
    st_eval: Callable[..., Told], place: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    command, first, *others = arguments
    output = ["--output", tmp_path / "results"] if command == "run" else []
    first = first if "{}" in first else "{}/" + first
    told = st_eval(command, *(one.replace("{}", str(place)) for one in [first, *others]), *output)
    assert (told.code, told.out) == (1, "")
    lines = [line for line in told.err.splitlines() if line.startswith("st-eval: ")]
    assert len(lines) == 1
    assert message.replace("{}", str(place)) in lines[0]
    assert "Traceback" not in told.err


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_without_the_packages_of_the_extra_it_says_how_to_get_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == package else find(name, *more)
    )
    assert main(["--help"]) == 1
    assert capsys.readouterr().err == f'st-eval needs {package}: pip install "st-eval-callbacks[report]"\n'
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"st-eval-callbacks {__version__}\n"


# -- show and plot ----------------------------------------------------------------------------------------------------


def test_show_has_a_row_for_each_evaluator_and_names_the_best_checkpoint(
    st_eval: Callable[..., Told], place: Path
) -> None:
    told = st_eval("show", place / "a")
    lines = told.out.splitlines()
    assert (told.code, told.err) == (0, "")
    assert lines[0] == f"{place / 'a'}: 5 evaluations up to step 8"
    assert lines[1].split() == ["metric", "before", "best", "(step)", "last", "change", "runs", "seconds"]
    assert [line.split()[0] for line in lines[2:4]] == [METRIC, "t_cosine_accuracy"]
    best = place / "a" / f"checkpoint-{best_step(place / 'a')}"
    assert lines[-1] == f"* decides the best checkpoint: {best}"
    assert "\x1b" not in told.out


def test_show_as_json_holds_the_values_of_the_history(st_eval: Callable[..., Told], place: Path) -> None:
    found = st_eval("show", place / "a", "--json", "--metrics", "*ndcg@10", "--metrics", "eval_t_*").json
    history = History.read(place / "a")
    assert found["deciding_metric"] == METRIC
    assert found["best"]["step"] == best_step(place / "a")
    assert found["best"]["checkpoint"] == str(place / "a" / f"checkpoint-{best_step(place / 'a')}")
    row, other = found["metrics"]
    assert (row["metric"], other["metric"]) == (METRIC, "t_cosine_accuracy")
    assert (row["before"], row["last"]) == (history.values(METRIC)[0][1], history.values(METRIC)[-1][1])
    assert (row["runs"], other["runs"], other["before"], other["change"]) == (5, 2, None, None)
    assert row["best"] - row["before"] == row["change"]


def test_show_all_has_every_step_and_metric(st_eval: Callable[..., Told], place: Path) -> None:
    found = st_eval("show", place / "a", "--all", "--json").json
    history = History.read(place / "a")
    assert [one["step"] for one in found["records"]] == [0, 2, 4, 6, 8]
    assert [one["metrics"] for one in found["records"]] == [dict(record.metrics) for record in history]
    lines = st_eval("show", place / "a", "--all", "--metrics", METRIC).out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [[METRIC, str(step)] for step in (0, 2, 4, 6, 8)]


def test_show_of_a_checkpoint_ends_at_it(st_eval: Callable[..., Told], place: Path) -> None:
    found = st_eval("show", place / "a" / "checkpoint-4", "--all", "--json").json
    assert [one["step"] for one in found["records"]] == [0, 2, 4]


def test_intervals_are_there_where_values_were_kept(st_eval: Callable[..., Told], place: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(place / "a", run)
    forget(run)
    told = st_eval("show", run, "--interval")
    assert "no values of single queries were kept" in told.out
    keep(run, best_step(run), {METRIC: [0.2, 0.4, 0.9, 0.5, math.nan], "r_cosine_map@100": [math.nan] * 5})
    row, other = st_eval("show", run, "--interval", "--json").json["metrics"]
    assert 0.2 < row["interval"][0] < 0.5 < row["interval"][1] < 0.9
    assert row["num_items"] == 4
    assert "interval" not in other
    lines = st_eval("show", run, "--interval").out.splitlines()
    assert lines[2].endswith(f"{row['interval'][0]:.4f} to {row['interval'][1]:.4f}")
    assert lines[3].endswith("-")


@pytest.mark.usefixtures("matplotlib_is_there")
def test_plot_writes_beside_the_table_or_where_it_is_told(
    st_eval: Callable[..., Told], place: Path, tmp_path: Path
) -> None:
    assert st_eval("plot", place / "a").out == f"{place / 'a' / 'evaluation_curves.png'}\n"
    assert (place / "a" / "evaluation_curves.png").read_bytes().startswith(b"\x89PNG")
    path = tmp_path / "curves.svg"
    found = st_eval("plot", place / "a", "--metric", "*ndcg*", "--metric", "t_*", "-o", path, "--json")
    assert found.json == {"path": str(path)}
    assert "<svg" in path.read_text()


def test_plot_without_matplotlib_says_how_to_get_it(
    st_eval: Callable[..., Told], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    told = st_eval("plot", place / "a")
    assert told == (1, "", 'st-eval: a picture needs matplotlib: pip install "st-eval-callbacks[report]"\n')


# -- rank -------------------------------------------------------------------------------------------------------------


def test_rank_puts_the_best_step_first_and_says_what_is_on_disk(
    st_eval: Callable[..., Told], place: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(place / "a", run)
    shutil.rmtree(run / "checkpoint-8")
    found = st_eval("rank", run, "--by", f"eval_{METRIC}", "--json").json
    ranked = found["checkpoints"]
    assert found["greater_is_better"] is True
    assert [one["value"] for one in ranked] == sorted((one["value"] for one in ranked), reverse=True)
    assert {one["step"] for one in ranked} == {2, 4, 6, 8}
    assert ranked[0]["step"] == best_step(run)
    there = {one["step"] for one in ranked if one["checkpoint"] is not None}
    assert 8 not in there
    assert 4 in there
    lowest = [step for step, _ in sorted(History.read(run).values(METRIC)[1:], key=lambda one: one[1])]
    lines = st_eval("rank", run, "--by", METRIC, "--top", 2, "--lower-is-better").out.splitlines()
    assert lines[0].endswith("lowest first")
    assert lines[1].split() == ["place", "step", "epoch", METRIC, "checkpoint"]
    assert [line.split()[:2] for line in lines[2:-2]] == [["1", str(lowest[0])], ["2", str(lowest[1])]]
    assert lines[-1] == f"{len(there)} of 4 have a checkpoint on disk"


def test_rank_again_measures_what_the_run_has_logged(st_eval: Callable[..., Told], place: Path) -> None:
    arguments = ["--by", METRIC, "--again", "--evaluators", f"{place}/evals.py:noisy", "--json"]
    found = st_eval("rank", place / "a", *arguments).json
    assert found["is_fresh"] is True
    assert len(found["checkpoints"]) >= 2
    for one in found["checkpoints"]:
        assert one["value"] == pytest.approx(one["logged"], abs=1e-6)


# -- compare ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def kept(place: Path, tmp_path: Path) -> Path:
    """Copies of the two runs with values of single queries, of which the second is better by 0.1 at each."""
    values = np.random.default_rng(0).random(30)
    noise = np.random.default_rng(1).normal(0, 0.05, 30)
    for name, each in (("a", values), ("b", values + 0.1 + noise)):
        shutil.copytree(place / name, tmp_path / name)
        forget(tmp_path / name)
        keep(tmp_path / name, 4, {METRIC: list(each)})
        keep(tmp_path / name, 8, {METRIC: list(values)})
    shutil.copytree(place / "b", tmp_path / "bare")
    forget(tmp_path / "bare")
    return tmp_path


def test_compare_tests_what_both_kept_query_by_query(st_eval: Callable[..., Told], kept: Path) -> None:
    told = st_eval("compare", kept / "a", kept / "b", "--step", 4, "--json")
    found = told.json
    assert [(one["label"], one["step"]) for one in found["runs"]] == [("a", 4), ("b", 4)]
    by_metric = {one["metric"]: one for one in found["metrics"]}
    [change] = by_metric[METRIC]["changes"]
    before, after = by_metric[METRIC]["values"]
    assert change["difference"] == after - before
    assert change["p_value"] == 0.0001
    assert change["num_items"] == 30
    assert 0 < change["interval"][0] < 0.1 < change["interval"][1] < 0.15
    assert list(by_metric["t_cosine_accuracy"]["changes"][0]) == ["difference"]
    shown = st_eval("compare", kept / "a", kept / "b", "--step", 4, "--metric", METRIC, "--metric", "t_*").out
    header, first, second, *_ = shown.splitlines()
    assert header.split("  ")[0] == "metric"
    assert first.endswith("0.0001")
    assert second.split()[-2:] == ["-", "-"]
    assert "over 30 items" in shown


def test_the_difference_of_what_was_kept_is_that_of_the_metrics(st_eval: Callable[..., Told], place: Path) -> None:
    found = st_eval("compare", place / "a", place / "b", "--step", 8, "--json").json
    assert found["notes"] == []
    for row in found["metrics"]:
        [change] = row["changes"]
        assert change["interval"][0] <= change["difference"] <= change["interval"][1]
        assert change["num_items"] == (12 if row["metric"].startswith("r_") else 2)


def test_compare_of_equal_values_has_p_1(st_eval: Callable[..., Told], kept: Path) -> None:
    found = st_eval("compare", kept / "a", kept / "b", "--step", 8, "--metric", METRIC, "--json").json
    assert found["metrics"][0]["changes"][0]["p_value"] == 1


def test_compare_takes_each_run_at_its_best_step_and_says_which_steps_have_values(
    st_eval: Callable[..., Told], kept: Path, place: Path
) -> None:
    found = st_eval("compare", kept / "a", kept / "b", kept / "bare", "--metric", METRIC, "--json").json
    steps = [best_step(kept / "a"), best_step(kept / "b"), best_step(kept / "b")]
    assert [one["step"] for one in found["runs"]] == steps
    [row] = found["metrics"]
    assert row["values"] == [
        History.read(kept / name).at(step).metrics[METRIC] for name, step in zip("abb", steps, strict=True)
    ]
    assert f"bare: no values of single queries at step {steps[2]} (keep_per_query=True keeps them)." in found["notes"]
    two = st_eval("compare", kept / "a", kept / "b", "--step", 2, "--json").json
    assert "a: no values of single queries at step 2; there are some of step 4, 8." in two["notes"]
    assert "a: t was not measured at step 2." in two["notes"]


def test_compare_of_checkpoints_is_at_their_steps(st_eval: Callable[..., Told], kept: Path) -> None:
    found = st_eval("compare", kept / "a" / "checkpoint-4", kept / "a" / "checkpoint-8", "--json").json
    assert [(one["label"], one["step"]) for one in found["runs"]] == [("checkpoint-4", 4), ("checkpoint-8", 8)]


def test_runs_of_one_name_are_told_apart_by_the_folders_they_are_in(st_eval: Callable[..., Told], kept: Path) -> None:
    for name in ("a", "b"):
        (kept / "deep" / name).mkdir(parents=True)
        shutil.copytree(kept / name, kept / "deep" / name / "run")
    found = st_eval("compare", kept / "deep/a/run", kept / "deep/b/run", "--metric", METRIC, "--json").json
    assert [one["label"] for one in found["runs"]] == ["a/run", "b/run"]


# -- run --------------------------------------------------------------------------------------------------------------


def test_run_of_a_checkpoint_measures_what_training_did_and_writes_it(
    st_eval: Callable[..., Told], place: Path, tmp_path: Path
) -> None:
    output = tmp_path / "results"
    told = st_eval("run", place / "a/checkpoint-4", "--evaluators", f"{place}/evals.py", "-o", output)
    assert told.code == 0
    assert f"{METRIC} *" in told.out
    assert told.out.splitlines()[-1] == f"results: {output}"
    logged = History.read(place / "a").at(4)
    written = json.loads((output / "evaluation_results.json").read_text())
    assert logged is not None
    assert written["metrics"][METRIC] == pytest.approx(logged.metrics[METRIC], abs=1e-6)
    assert (written["kind"], written["step"], written["num_processes"]) == ("dense", 4, 1)
    assert written["primary_metric"] == METRIC
    assert list(written["seconds"]) == ["r", "t"]
    assert {"sentence-transformers", "torch"} <= set(written["versions"])
    header, row = (output / "evaluation_results.csv").read_text().splitlines()
    assert header.startswith("epoch,steps,seconds,is_best,r_")
    assert row.split(",")[1] == "4"
    assert sorted(path.name for path in (output / "eval").glob("*.csv"))
    compared = st_eval("compare", place / "a", output, "--step", 4, "--metric", METRIC, "--json").json
    [change] = compared["metrics"][0]["changes"]
    assert change["difference"] == pytest.approx(0, abs=1e-6)
    assert (change["num_items"], change["num_left_only"], change["num_right_only"]) == (12, 0, 0)
    [row] = st_eval("show", output, "--interval", "--metrics", METRIC, "--json").json["metrics"]
    assert row["interval"][0] < written["metrics"][METRIC] < row["interval"][1]


def test_run_keeps_an_earlier_result_and_prints_nothing_but_json(
    st_eval: Callable[..., Told], place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["run", place / "b/checkpoint-4", "--evaluators", f"{place}/evals.py:noisy", "--json"]
    first = st_eval(*arguments)
    folder = tmp_path / "evaluation" / "b_checkpoint-4"
    assert first.json["folder"] == "evaluation/b_checkpoint-4"
    assert "this is no JSON" in first.err
    table = (folder / "evaluation_results.csv").read_text()
    assert st_eval(*arguments, "--batch-size", 2, "--device", "cpu").code == 0
    assert (folder / "evaluation_results.1.csv").read_text() == table
    assert (folder / "evaluation_results.1.json").exists()
    assert (folder / "eval/per_query.1").is_dir()
    assert len((folder / "eval/triplet_evaluation_t_results.csv").read_text().splitlines()) == 2


def test_a_failed_evaluator_is_named_and_its_traceback_is_shown_when_asked_for(
    st_eval: Callable[..., Told], place: Path, tmp_path: Path
) -> None:
    arguments = ["run", place / "a/checkpoint-4", "--evaluators", f"{place}/evals.py:boom", "-o", tmp_path]
    told = st_eval(*arguments)
    assert (told.code, told.out) == (1, "")
    assert "evaluator 'broken' (CallableEvaluator) failed at step 4: OSError: the disk is gone" in told.err
    assert "Traceback" not in told.err
    told = st_eval(*arguments, "--traceback")
    assert told.code == 1
    assert 'raise OSError("the disk is gone")' in told.err


def test_a_name_that_is_on_no_disk_is_looked_for_on_the_hub_and_told_with_what_lies_near(
    st_eval: Callable[..., Told], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    told = st_eval("run", "a/chekpoint-4", "--evaluators", "evals.py")
    assert told.code == 1
    assert "the model 'a/chekpoint-4' cannot be loaded" in told.err
    assert "Did you mean 'checkpoint-4'?" in told.err


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("evals.py", "build"),
        ("evals.py:", "build"),
        ("evals.py:none", "none"),
        ("evals:boom", "boom"),
        ("evals", "build"),
    ],
)
def test_the_function_that_builds_evaluators_is_named_by_file_or_module(
    place: Path, monkeypatch: pytest.MonkeyPatch, given: str, name: str
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert load_build(given).__name__ == name


@pytest.mark.parametrize(
    ("make", "kind", "metric"),
    [
        (tiny_model, "dense", METRIC),
        (tiny_sparse_model, "sparse", "s_dot_accuracy"),
        (tiny_cross_encoder, "cross_encoder", "c_average_precision"),
        (tiny_multi_vector_model, "multi_vector", "m_maxsim_accuracy"),
    ],
)
def test_models_of_all_kinds_are_known_for_what_they_are(
    st_eval: Callable[..., Told], place: Path, tmp_path: Path, make: Callable[[], Any], kind: str, metric: str
) -> None:
    make().save_pretrained(str(tmp_path / "model"))
    function = "build" if kind == "dense" else kind
    arguments = ["--evaluators", f"{place}/evals.py:{function}", "-o", tmp_path / "results", "--json"]
    found = st_eval("run", tmp_path / "model", *arguments).json
    assert found["kind"] == kind
    assert metric in found["metrics"]
    assert found["step"] == 0


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({"config_sentence_transformers.json": {"model_type": "ColBERT"}}, "multi_vector"),
        ({"config_sentence_transformers.json": {}, "modules.json": [{"type": "x.Pooling"}]}, "dense"),
        ({"modules.json": [{"type": "sentence_transformers.sparse_encoder.models.SpladePooling"}]}, "sparse"),
        ({"config.json": {"architectures": ["BertForSequenceClassification"]}}, "cross_encoder"),
        ({"config.json": {"architectures": ["HF_ColBERT"]}}, "multi_vector"),
        ({"config.json": {"architectures": ["BertModel"]}}, "dense"),
        ({"config.json": {}}, "dense"),
    ],
)
def test_models_that_do_not_say_their_kind_are_known_by_their_parts(
    tmp_path: Path, files: dict[str, Any], kind: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    assert kind_of(str(tmp_path)).value == kind


def test_the_kind_that_is_asked_for_is_loaded(tmp_path: Path) -> None:
    tiny_model().save_pretrained(str(tmp_path))
    for kind, name in ((Kind.DENSE, "SentenceTransformer"), (Kind.MULTI_VECTOR, "MultiVectorEncoder")):
        assert type(load_model(str(tmp_path), kind, "cpu")).__name__ == name
    (tmp_path / "modules.json").write_text("no JSON")
    with pytest.raises(Problem, match="cannot be loaded"):
        load_model(str(tmp_path), None, "cpu")


@pytest.mark.slow
def test_processes_of_torchrun_evaluate_together_and_one_tells(place: Path, tmp_path: Path) -> None:
    def launched(function: str, *more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
        command += ["-m", "st_eval_callbacks", "run", str(place / "a/checkpoint-4"), "--evaluators"]
        command += [f"{place}/evals.py:{function}", "-o", "results", *more]
        env = {**environment(), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
        return subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False)

    done = launched("build", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    logged = History.read(place / "a").at(4)
    assert logged is not None
    assert found["num_processes"] == 2
    assert found["metrics"][METRIC] == pytest.approx(logged.metrics[METRIC], abs=1e-6)
    assert sorted(os.listdir(tmp_path / "results")) == [
        "eval",
        "evaluation_results.csv",
        "evaluation_results.json",
        "evaluation_run.json",
    ]
    failed = launched("boom")
    assert failed.returncode == 1
    assert failed.stdout == ""
    assert failed.stderr.count("st-eval: evaluator 'broken'") == 1


# -- what users do ----------------------------------------------------------------------------------------------------


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A run of which less is better, under a name that is no ASCII."""
    run = run_of({"検_loss": {2: 3.0, 4: 1.0, 6: 2.0}, "docs": {2: 0.5, 6: 0.7}}, lower=["検_loss"], folder=tmp_path)
    write_run(tmp_path, run.info, run.history)
    return tmp_path


@pytest.mark.parametrize("command", [["show"], ["show", "--all"], ["rank", "--by", "検_loss"]], ids=" ".join)
def test_what_stdout_cannot_show_is_escaped(command: list[str], odd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    assert main([command[0], str(odd), *command[1:]]) == 0
    stdout.flush()
    assert b"\\u691c_loss" in stdout.buffer.getvalue()  # type: ignore[attr-defined]
    assert stdout.errors == "strict"


def test_show_and_compare_say_where_less_is_better(st_eval: Callable[..., Told], odd: Path) -> None:
    for command in (["show", odd], ["compare", odd, odd, "--step", 6]):
        assert "\nless is better: 検_loss\n" in st_eval(*command).out
        rows = st_eval(*command, "--json").json["metrics"]
        assert {row["metric"]: row["greater_is_better"] for row in rows} == {"検_loss": False, "docs": True}


def test_a_checkpoint_is_known_from_within_and_by_its_files(
    st_eval: Callable[..., Told], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [4, 8]
    ways = [[place / "a" / f"checkpoint-{step}" / "trainer_state.json" for step in steps]]
    monkeypatch.chdir(place / "a" / "checkpoint-4")
    ways.append([Path("."), Path("../checkpoint-8/.")])
    for paths in ways:
        assert [one["step"] for one in st_eval("compare", *paths, "--json").json["runs"]] == steps
        assert st_eval("show", paths[0], "--json").json["deciding_metric"] == METRIC


@pytest.mark.usefixtures("matplotlib_is_there")
@pytest.mark.parametrize(("given", "written"), [("curves", "curves.png"), ("", "evaluation_curves.png")])
def test_plot_names_the_file_that_it_wrote(
    st_eval: Callable[..., Told], place: Path, tmp_path: Path, given: str, written: str
) -> None:
    assert st_eval("plot", place / "a", "-o", tmp_path / given).out == f"{tmp_path / written}\n"
    assert (tmp_path / written).read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_looked_at_is_told_in_one_line(
    st_eval: Callable[..., Told], odd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = st_eval("show", odd / ("x" * 300))
    assert (told.code, told.err.count("\n")) == (1, 1)
    assert "File name too long" in told.err
    (odd / "evaluation_run.json").write_text("{")
    assert f"st-eval: {odd}/evaluation_run.json is not the log of a run or broken" in st_eval("show", odd).err

    def denied(*args: Any, **kwargs: Any) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", denied)
    assert st_eval("show", odd).err == f"st-eval: {odd} cannot be read: Permission denied.\n"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def build():\n    yield TRIPLETS\n    raise KeyError('late')", "build() failed: KeyError: 'late'"),
        ("import sys\nsys.exit('bye')", "fails: SystemExit: bye"),
        ("def build():\n    raise SystemExit(3)", "build() failed: SystemExit: 3"),
        ("def build():\n    return Odd()", "the evaluators cannot be made ready: AttributeError: no names"),
        ("def build(*, model):\n    return needs(model)", ""),
        ("def build(count=2, model=None):\n    return needs(model)", ""),
        ("def build(model=None):\n    return needs(model)", ""),
        ("def build(any):\n    return needs(any)", ""),
        ("def build():\n    yield TRIPLETS", ""),
    ],
)
def test_functions_of_any_shape_build_evaluators_or_say_what_is_wrong(
    st_eval: Callable[..., Told], place: Path, tmp_path: Path, body: str, message: str
) -> None:
    start = """
from st_eval_callbacks import evaluators

TRIPLETS = evaluators.TripletEvaluator(["a cat"], ["a dog"], ["the fish"], name="t")


def needs(model):
    assert model is not None
    return TRIPLETS


class Odd(evaluators.TripletEvaluator):
    def __init__(self):
        super().__init__(["a cat"], ["a dog"], ["the fish"])

    def metric_names(self, model):
        raise AttributeError("no names")


"""
    (tmp_path / "evals.py").write_text(start + body)
    told = st_eval("run", place / "a/checkpoint-4", "--evaluators", tmp_path / "evals.py", "-o", tmp_path / "out")
    assert told.code == (1 if message else 0), told.err
    assert message in told.err
    assert "Traceback" not in told.err


def test_a_state_that_was_cut_short_is_named(st_eval: Callable[..., Told], place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "a/checkpoint-4", tmp_path / "model")
    (tmp_path / "model/trainer_state.json").write_text("{")
    told = st_eval("run", tmp_path / "model", "--evaluators", f"{place}/evals.py", "-o", tmp_path / "out")
    assert told.code == 1
    assert f"{tmp_path}/model/trainer_state.json is broken" in told.err


def test_results_of_the_folder_above_stay_in_the_folder_of_evaluations(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place / "empty")
    assert own_folder("..") == Path("evaluation") / place.name
    assert own_folder("../a/checkpoint-4") == Path("evaluation/a_checkpoint-4")


def test_run_shows_the_parts_of_a_sequence_and_rank_again_knows_their_direction(
    st_eval: Callable[..., Told], place: Path, tmp_path: Path
) -> None:
    (tmp_path / "parts.py").write_text(PARTS)
    arguments = ["--evaluators", tmp_path / "parts.py"]
    assert st_eval("run", place / "a/checkpoint-4", *arguments, "-o", tmp_path / "out").code == 0
    shown = st_eval("show", tmp_path / "out", "--json").json["metrics"]
    assert [row["metric"] for row in shown] == ["sequential_score", "t_cosine_accuracy", "errors_count"]
    found = st_eval("rank", place / "a", "--by", "errors_count", "--again", *arguments, "--json").json
    values = [one["value"] for one in found["checkpoints"]]
    assert (found["greater_is_better"], values) == (False, sorted(values))
    # A function has no word to say of its direction, but the run has.
    run = tmp_path / "run"
    shutil.copytree(place / "a", run)
    given = json.loads((run / "evaluation_run.json").read_text())
    given.update(deciding_metric="errors", greater_is_better=False)
    for entry in given["log_history"]:
        entry["eval_errors"] = 1.0
    (run / "evaluation_run.json").write_text(json.dumps(given))
    again = ["--again", "--evaluators", f"{tmp_path / 'parts.py'}:errors", "--json"]
    assert st_eval("rank", run, "--by", "errors", *again).json["greater_is_better"] is False


PARTS = """
from sentence_transformers.base.evaluation import BaseEvaluator, SequentialEvaluator
from st_eval_callbacks.evaluators import TripletEvaluator


class Errors(BaseEvaluator):
    def __init__(self):
        super().__init__()
        self.name, self.primary_metric, self.greater_is_better = "errors", "errors_count", False

    def __call__(self, model, output_path=None, epoch=-1, steps=-1):
        return {"errors_count": 10.0 - steps}


def build():
    return SequentialEvaluator([TripletEvaluator(["a cat"], ["a dog"], ["the fish"], name="t"), Errors()])


def errors():
    def errors(model, output_path=None, epoch=-1, steps=-1):
        return 10.0 - steps

    return errors
"""


def test_compare_says_where_a_checkpoint_has_no_evaluation_of_its_own(
    st_eval: Callable[..., Told], place: Path
) -> None:
    shutil.copytree(place / "a" / "checkpoint-4", place / "odd" / "checkpoint-5")
    try:
        told = st_eval("compare", place / "a" / "checkpoint-8", place / "odd" / "checkpoint-5")
    finally:
        shutil.rmtree(place / "odd")
    assert told.code == 0
    assert "checkpoint-5: nothing was measured at checkpoint-5; this is step 4." in told.out
