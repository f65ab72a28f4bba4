"""What a person sees of a run: the table at its end, and a line an evaluation."""

from __future__ import annotations

import io
import json
import logging
import math
import re
import sys
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sentence_transformers.base.evaluation import SequentialEvaluator
from support.loop import Fake, at_steps, crash, make_trainer, pairs
from support.runs import run_of
from tqdm.auto import tqdm
from transformers import TrainerCallback
from transformers.utils import logging as transformers_logging

from st_eval_callbacks import EvaluatorCallback, Scheduled
from st_eval_callbacks.history import EvalRecord, History
from st_eval_callbacks.report import Run, Session, evaluation_line, summarise, table_html, table_text
from st_eval_callbacks.report.numbers import fold, text_width, value_format
from st_eval_callbacks.report.summary import summary_row
from st_eval_callbacks.report.table import HEADER, cells
from st_eval_callbacks.writers.record_texts import RecordTexts
from st_eval_callbacks.writers.results import results_text
from st_eval_callbacks.writers.run_file import EvaluatorInfo, RunInfo, run_text, write_run

LONG = "quora_duplicates_dev_cosine_ndcg@10"
VALUES = {0: 0.4, 2: 0.5, 4: 0.7, 6: 0.6, 8: 0.65}
WITH = pytest.mark.parametrize("rich", [True, False], ids=["rich", "plain"], indirect=True)


@pytest.fixture
def rich(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if not request.param:
        for name in ("rich", "rich.console", "rich.table"):
            monkeypatch.setitem(sys.modules, name, None)
    return bool(request.param)


@pytest.fixture
def _levels() -> Iterator[None]:
    """What a trainer's `log_level` leaves behind it is taken back."""
    before = transformers_logging.get_verbosity()
    yield
    transformers_logging.set_verbosity(before)


# -- rows ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lower", "min_delta", "best", "change"),
    [
        ((), 0.0, (0.7, 4), 0.3),
        (("docs",), 0.0, (0.5, 2), 0.1),
        ((), 0.25, (0.5, 2), 0.1),
    ],
    ids=["greater is better", "less is better", "min_delta"],
)
def test_each_metric_has_its_own_direction(
    lower: tuple[str, ...], min_delta: float, best: tuple[float, int], change: float
) -> None:
    run = run_of({"docs": VALUES, "mse": {2: 3.0, 4: 1.0, 6: 2.0}}, lower=[*lower, "mse"], min_delta=min_delta)
    first, second = summarise(run)
    assert (first.best, first.best_step) == best
    assert first.change == pytest.approx(change)
    assert (first.before, first.last, first.runs, first.seconds, first.decides) == (0.4, 0.65, 5, 5.0, True)
    assert (second.before, second.best, second.best_step, second.change) == (None, 1.0, 4, None)
    assert (second.greater_is_better, second.decides) == (False, False)


def test_the_deciding_metric_has_a_row_where_it_is_not_the_primary_one() -> None:
    record = EvalRecord(2, 0.2, {"docs_ndcg": 0.5, "docs_mrr": 0.4}, {"docs": 3.0})
    info = RunInfo("docs_mrr", True, evaluators=(EvaluatorInfo("docs", "", "docs_ndcg", True, tuple(record.metrics)),))
    rows = summarise(Run(Path(), History([record]), info))
    assert [(row.metric, row.decides, row.seconds) for row in rows] == [
        ("docs_ndcg", False, 3.0),
        ("docs_mrr", True, None),
    ]


def test_a_history_alone_is_enough_for_a_table() -> None:
    [row] = summarise(run_of({"docs": VALUES}).history)
    assert (row.metric, row.best, row.decides) == ("docs", 0.7, False)


@pytest.mark.parametrize(
    ("before", "shown"), [(math.nan, ("nan", "-")), (0.4, ("0.4000", "+0.3000"))], ids=["nan", "number"]
)
def test_an_undefined_value_is_shown_and_changes_by_nothing(before: float, shown: tuple[str, str]) -> None:
    [row] = summarise(run_of({"docs": {**VALUES, 0: before, 8: math.nan}}))
    assert cells(row) == ("docs *", shown[0], "0.7000 (4)", "nan", shown[1], "5", "5.0")


@pytest.mark.parametrize(
    ("values", "spec"),
    [([], ".4f"), ([0.0, math.nan], ".4f"), ([0.00001, 0.002], ".4g"), ([0.5, 9999], ".4f"), ([-12345.6789], ".6g")],
)
def test_very_large_and_small_values_keep_their_digits(values: list[float], spec: str) -> None:
    assert value_format(values) == spec


# -- the table -------------------------------------------------------------------------------------------------------


@WITH
@pytest.mark.parametrize(
    ("width", "dropped", "dropped_from_plain"),
    [
        (None, set(), set()),
        (120, set(), set()),
        (80, {"runs", "seconds"}, {"runs"}),
        (60, {"before", "runs", "seconds"}, {"before", "runs", "seconds"}),
    ],
)
def test_a_table_fits_its_width(
    rich: bool, width: int | None, dropped: set[str], dropped_from_plain: set[str]
) -> None:
    rows = summarise(run_of({LONG: VALUES, "sts": {**VALUES, 100_000: 0.75}}))
    text = table_text(rows, width=width)
    lines = text.splitlines()
    if width is not None:
        assert max(map(len, lines)) <= width
    header = lines[2] if rich else lines[1]
    # Without lines between the columns there is room for more.
    assert {name for name in HEADER if name not in header} == (dropped if rich else dropped_from_plain)
    # A folded name is there whole, line below line.
    first_column = [re.split(r"  | │", line.strip("│ "))[0] for line in lines]
    assert f"{LONG} *" in "".join(first_column)
    assert "0.7000 (4)" in text
    assert "0.7500 (100000)" in text


@WITH
def test_names_are_shown_as_they_are(rich: bool) -> None:
    names = ["[bold]a[/bold]", ":smile:", "検索_ndcg"]
    text = table_text(summarise(run_of(dict.fromkeys(names, VALUES))))
    assert all(name in text for name in names)
    body = [line for line in text.splitlines() if "0.7000" in line]
    assert len({text_width(line) for line in body}) == 1


def test_numbers_stand_on_the_right() -> None:
    assert "│ 0.7000 (4) │" in table_text(summarise(run_of({"docs": VALUES}))).replace("│  ", "│ ")
    assert " 5 │     5.0 │" in table_text(summarise(run_of({"docs": VALUES})))


def test_html_escapes_names_and_marks_what_decides() -> None:
    text = table_html(summarise(run_of({"<b>": VALUES, "c": VALUES})))
    assert "&lt;b&gt; *" in text
    assert "<b>" not in text
    assert text.count("font-weight: bold") == 7


@pytest.mark.parametrize(
    ("name", "width", "lines"),
    [
        ("docs", 10, ["docs"]),
        ("quora_dev_cosine_ndcg@10", 12, ["quora_dev_", "cosine_", "ndcg@10"]),
        ("abcdefgh", 3, ["abc", "def", "gh"]),
        ("検索検索", 4, ["検索", "検索"]),
        ("", 4, [""]),
    ],
)
def test_long_names_break_behind_separators(name: str, width: int, lines: list[str]) -> None:
    assert fold(name, width) == lines


@pytest.mark.parametrize(
    ("session", "text"),
    [
        (Session(10.0, {"a": 1.0, "b": 1.5}), "evaluating took 2.5 s of 10.0 s (25%), the slowest being b (1.5 s)"),
        (Session(10.0, {"a": 1.0}), "evaluating took 1.0 s of 10.0 s (10%)"),
        (Session(0.0, {}), "evaluating took 0.0 s of 0.0 s"),
    ],
)
def test_the_share_of_time_names_the_slowest(session: Session, text: str) -> None:
    assert str(session) == text


# -- lines -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "line"),
    [
        (0, "step 0 · epoch 0.00 · docs 0.4000 · mse 3.0000 · 2.0 s"),
        (2, "step 2 · epoch 0.20 · docs 0.5000 (+0.1000) new best · 1.0 s"),
        (4, "step 4 · epoch 0.40 · docs nan · mse 1.0000 (-2.0000) · 2.0 s"),
        (6, "step 6 · epoch 0.60 · docs 0.6000 new best · 1.0 s"),
        (8, "step 8 · epoch 0.80 · docs 0.5500 (-0.0500) · 1.0 s"),
    ],
)
def test_a_line_tells_the_change_against_the_value_before(step: int, line: str) -> None:
    docs = {0: 0.4, 2: 0.5, 4: math.nan, 6: 0.6, 8: 0.55}
    run = run_of({"docs": docs, "mse": {0: 3.0, 4: 1.0}}, lower=["mse"])
    # As it was then: what comes later is not known yet.
    then = type(run)(run.folder, run.history.upto(step), run.info)
    record = then.history.at(step)
    assert record is not None
    assert evaluation_line(then, record) == line


def test_an_evaluator_that_failed_is_named() -> None:
    record = EvalRecord(2, 0.2, {}, {"docs": 1.0})
    assert "docs without a value" in evaluation_line(run_of({"docs": VALUES}), record)


# -- a training ------------------------------------------------------------------------------------------------------


def callback(**options: Any) -> EvaluatorCallback:
    loss = Fake({**at_steps(3.0, 1.0, 2.0, 2.0)}, "other", "loss")
    loss.greater_is_better = False
    return EvaluatorCallback(
        [Scheduled(Fake(VALUES, "docs"), every=2, at_start=True), Scheduled(loss, every=2)],
        load_best_model_at_end=True,
        **options,
    )


def train(folder: Path, **arguments: Any) -> Any:
    trainer = make_trainer(folder, [callback()], **{"save_strategy": "steps", "save_steps": 4, **arguments})
    trainer.train()
    return trainer


LINES = [
    "step 0 · epoch 0.00 · docs_score 0.4000 ·",
    "step 2 · epoch 0.50 · docs_score 0.5000 (+0.1000) new best · other_loss 3.0000 ·",
    "step 4 · epoch 1.00 · docs_score 0.7000 (+0.2000) new best · other_loss 1.0000 (-2.0000) ·",
    "step 6 · epoch 1.50 · docs_score 0.6000 (-0.1000) · other_loss 2.0000 (+1.0000) ·",
    "step 8 · epoch 2.00 · docs_score 0.6500 (+0.0500) · other_loss 2.0000 (+0.0000) ·",
]


def test_the_end_of_training_shows_the_table_and_where_everything_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path)
    text = capsys.readouterr().out
    table, _, notes = text.partition("* decides the best checkpoint: ")
    assert "docs_score *" in table
    assert "+0.3000" in table
    best, less, share, values, card = notes.splitlines()
    assert best == str(tmp_path / "checkpoint-4")
    assert less == "less is better: other_loss"
    assert share.startswith("evaluating took ")
    assert values == f"all values: {tmp_path / 'evaluation_results.csv'}"
    # No curves: there is no matplotlib.
    assert card.startswith(f"model card: {tmp_path / 'checkpoint-4' / 'README.md'} (as of then; ")


def test_without_bars_lines_go_to_the_logger(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="st_eval_callbacks"):
        train(tmp_path)
    told = [record.getMessage() for record in caplog.records if record.getMessage().startswith("step ")]
    assert all(line.startswith(start) for line, start in zip(told, LINES, strict=True))
    assert "step 2 · " not in capsys.readouterr().out


def test_with_bars_lines_stand_between_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    monkeypatch.setattr(tqdm, "write", classmethod(lambda _, text, **__: written.append(text)))
    train(tmp_path, disable_tqdm=False)
    told = [line for line in written if line.startswith("step ")]
    assert all(line.startswith(start) for line, start in zip(told, LINES, strict=True))
    # The line stands for all that was logged; what others log is printed as ever.
    assert not any("eval_" in text for text in written)
    assert any("'loss'" in text for text in written)


@pytest.mark.usefixtures("_levels")
@pytest.mark.parametrize("how", ["logger", "log_level"])
def test_above_warning_nothing_is_printed(how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("st_eval_callbacks")
    logger.setLevel(logging.ERROR if how == "logger" else logging.INFO)
    try:
        train(tmp_path, disable_tqdm=False, **({} if how == "logger" else {"log_level": "error"}))
    finally:
        logger.setLevel(logging.NOTSET)
    text = capsys.readouterr().out
    assert "new best" not in text
    assert "decides" not in text


def test_after_a_resume_only_this_sessions_time_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def callbacks() -> list[Any]:
        return [EvaluatorCallback(Fake(VALUES), every=2, load_best_model_at_end=True)]

    saves = {"save_strategy": "steps", "save_steps": 4}
    crash(tmp_path, 5, callbacks(), **saves)
    trainer = make_trainer(tmp_path, found := callbacks(), **saves)
    trainer.train(resume_from_checkpoint=True)
    run = found[0]._run
    history = found[0].history
    assert [record.step for record in history] == [2, 4, 6, 8]
    ours = sum(record.total_seconds for record in history if record.step > 4)
    assert run._seconds["fake"] == pytest.approx(ours, abs=1e-3)
    # The table is that of the whole run.
    assert "  4 │" in capsys.readouterr().out


def test_a_terminal_that_shows_only_ascii_gets_a_plain_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    train(tmp_path, disable_tqdm=False)
    stdout.flush()
    text = stdout.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined]
    assert "step 2 | epoch 0.50 | docs_score 0.5000 (+0.1000) new best" in text
    assert "docs_score *  0.4000   0.7000 (4)" in text


# -- notebooks -------------------------------------------------------------------------------------------------------


class NotebookProgressCallback(TrainerCallback):
    """Has the name by which the one of transformers is known, whose module needs IPython; keeps what it is told."""

    def __init__(self) -> None:
        self.shown: list[int] = []

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.shown.append(state.global_step)


@pytest.fixture
def displayed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a kernel displays: IPython as far as it is asked."""
    found: list[str] = []
    display = types.ModuleType("IPython.display")
    display.HTML = str  # type: ignore[attr-defined]
    display.display = found.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr("transformers.utils.import_utils.is_in_notebook", lambda: True)
    return found


def test_a_notebook_displays_the_table(
    displayed: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path)
    [shown] = displayed
    assert shown.startswith("<table>")
    assert f"<div>* decides the best checkpoint: {tmp_path / 'checkpoint-4'}</div>" in shown
    assert "docs_score" not in capsys.readouterr().out.replace("eval_docs_score", "")


def test_a_notebook_without_ipython_prints_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.utils.import_utils.is_in_notebook", lambda: True)
    for name in ("IPython", "IPython.display"):
        monkeypatch.setitem(sys.modules, name, None)
    train(tmp_path)
    assert "docs_score *" in capsys.readouterr().out


@pytest.mark.parametrize("trainer_evaluates", [False, True])
def test_what_the_notebooks_own_table_shows_is_not_printed_again(
    trainer_evaluates: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    monkeypatch.setattr(tqdm, "write", classmethod(lambda _, text, **__: written.append(text)))
    docs = Scheduled(Fake(VALUES, "docs"), every=4, at_start=True)
    often = Scheduled(Fake(0.5, "often"), every=2)
    table = NotebookProgressCallback()
    arguments = {"eval_strategy": "steps", "eval_steps": 4, "eval_dataset": pairs(8)} if trainer_evaluates else {}
    trainer = make_trainer(
        tmp_path, [table, EvaluatorCallback([docs, often], primary="docs_score")], disable_tqdm=False, **arguments
    )
    trainer.train()
    assert table.shown == [4, 8]
    told = [line.split(" · ")[0] for line in written if line.startswith("step ")]
    # The rest stands nowhere else.
    assert told == ["step 0", "step 2", "step 6"]


def test_a_sequence_has_a_row_for_each_evaluator_in_it(tmp_path: Path) -> None:
    inner = [Fake(at_steps(0.1, 0.3, every=4), "a"), Fake(at_steps(0.4, 0.2, every=4), "b")]
    inner[1].greater_is_better = False
    make_trainer(tmp_path, [EvaluatorCallback(SequentialEvaluator(inner), every=4)]).train()
    rows = summarise(Run.read(tmp_path))
    assert [(row.metric, row.best_step) for row in rows] == [("sequential_score", 4), ("a_score", 8), ("b_score", 8)]
    # One evaluator ran, and its time is told once.
    assert [row.seconds is None for row in rows] == [False, True, True]


def test_a_run_file_of_a_newer_version_is_read_and_a_broken_one_named(tmp_path: Path) -> None:
    run = run_of({"docs": VALUES, "mse": {2: 1.0}}, lower=["mse"], folder=tmp_path)
    path = write_run(tmp_path, run.info, run.history)
    given = json.loads(path.read_text())
    given["evaluators"][0]["new"] = given["new"] = {"more": 1}
    path.write_text(json.dumps(given))
    assert Run.read(tmp_path).info == run.info
    del given["evaluators"][0]["name"]
    path.write_text(json.dumps(given))
    with pytest.raises(ValueError, match=r"evaluation_run.json is no file of a run or broken \(TypeError\)"):
        Run.read(tmp_path)


def test_the_files_of_a_run_are_those_of_its_history_however_often_they_were_written() -> None:
    run = run_of({"docs": VALUES, "mse": {2: math.nan, 4: 1.0, 8: 2.0}}, lower=["mse"])
    lines, rows = RecordTexts(), RecordTexts()
    for step in (0, 2, 4, 8, 6):
        for names in (None, ["mse", "docs"]):
            history = run.history.upto(step)
            assert run_text(run.info, history, names, lines) == run_text(run.info, history, names)
            assert results_text(history, run.info, names, rows) == results_text(history, run.info, names)


def test_an_evaluator_that_never_had_a_value_is_named_below_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(model: Any, output_path: Any = None, epoch: float = -1, steps: int = -1) -> float:
        raise OSError("gone")

    make_trainer(tmp_path, [EvaluatorCallback([Fake(0.5), broken], every=4, on_error="warn")]).train()
    text = capsys.readouterr().out
    assert "\nwithout any value: broken\n" in text
    assert "\nless is better" not in text


def test_the_curves_of_an_earlier_run_are_no_curves_of_this_one_also_without_its_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_trainer(tmp_path, [EvaluatorCallback(Fake(0.5), every=4, plot=False)]).train()
    (tmp_path / "evaluation_curves.png").write_bytes(b"old")
    (tmp_path / "evaluation_results.csv").unlink()
    capsys.readouterr()
    make_trainer(tmp_path, [EvaluatorCallback(Fake(0.5, "other"), every=4, plot=False)]).train()
    assert "curves: " not in capsys.readouterr().out
    assert (tmp_path / "evaluation_curves.1.png").read_bytes() == b"old"
    assert "fake_score" in (tmp_path / "evaluation_run.1.json").read_text()


def test_each_of_two_callbacks_knows_what_the_other_measures(tmp_path: Path) -> None:
    others = EvaluatorCallback(Fake(0.25, "b"), every=4, primary="a_score")
    make_trainer(tmp_path, [EvaluatorCallback(Fake(0.5, "a"), every=2), others]).train()
    run = Run.read(tmp_path)
    assert {one.name: one.metrics for one in run.info.evaluators} == {"a": ("a_score",), "b": ("b_score",)}
    row = summary_row(run, "a_score")
    assert (row.runs, row.decides) == (4, True)


def test_the_text_of_a_record_is_made_once_as_long_as_nothing_it_depends_on_changes() -> None:
    history, texts, made = run_of({"docs": {2: 0.5, 4: math.nan, 6: 0.7}}).history, RecordTexts(), []

    def make(record: EvalRecord) -> str:
        made.append(record.step)
        return f"{record.step}"

    for step, names, expected in [(2, ["docs"], [2]), (6, ["docs"], [4, 6]), (6, ["docs"], []), (4, ["x"], [2, 4])]:
        made.clear()
        # As new objects of the same values, as where two callbacks measure at one step.
        same = History(replace(record, metrics=dict(record.metrics)) for record in history.upto(step))
        assert texts.of(same, names, make) == [str(record.step) for record in same]
        assert made == expected


def test_a_training_that_stopped_early_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake = Fake(at_steps(0.5, 0.4, 0.3, 0.2))
    make_trainer(tmp_path, [EvaluatorCallback(fake, every=2, early_stopping_patience=2)]).train()
    told = "training stopped at step 6 of 8: 2 evaluations of fake_score without improvement"
    assert told in capsys.readouterr().out
    make_trainer(tmp_path, [EvaluatorCallback(Fake(), every=2)]).train()
    assert "training stopped" not in capsys.readouterr().out


def test_resuming_a_run_that_has_ended_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    saves = {"save_strategy": "steps", "save_steps": 4}
    make_trainer(tmp_path, [EvaluatorCallback(Fake(), every=4)], **saves).train()
    assert "nothing is trained" not in caplog.text
    make_trainer(tmp_path, [EvaluatorCallback(Fake(), every=4)], **saves).train(resume_from_checkpoint=True)
    assert "step 8 is the last of this run: nothing is trained" in caplog.text
