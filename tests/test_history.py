"""The history is derived from the Trainer's log."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from st_eval_callbacks.history import EvalRecord, History, LogReader, is_better

NAN = float("nan")


def history_of(values: dict[int, float], metric: str = "m") -> History:
    return History(EvalRecord(step, step / 4, {metric: value}, {"e": 0.5}) for step, value in values.items())


LOG = [
    {"loss": 1.0, "epoch": 0.5, "step": 2},
    {"eval_sts_spearman": 0.4, "eval_sts_runtime": 0.1, "epoch": 0.5, "step": 2},
    {"eval_loss": 3.0, "eval_runtime": 1.0, "eval_samples_per_second": 9.0, "epoch": 0.5, "step": 2},
    {"eval_docs_ndcg@10": None, "eval_docs_runtime": 0.2, "epoch": 0.5, "step": 2},
    {"eval_sts_spearman": 0.6, "eval_sts_runtime": 0.1, "epoch": 1.0, "step": 4},
    {"train_runtime": 3.0, "epoch": 1.0, "step": 4},
]


def test_only_our_entries_of_the_log_become_records_one_a_step() -> None:
    history = History.from_log(LOG)
    assert [record.step for record in history] == [2, 4]
    first = history.at(2)
    assert first is not None
    assert set(first.metrics) == {"sts_spearman", "docs_ndcg@10"}
    assert math.isnan(first.metrics["docs_ndcg@10"])
    assert first.total_seconds == pytest.approx(0.3)


def test_a_record_logged_and_read_again_is_the_same() -> None:
    record = EvalRecord(3, 0.75, {"a_runtime_free": 0.5, "a_x": 1.0}, {"a": 0.25})
    entry = {**record.log_entry(), "epoch": record.epoch, "step": record.step}
    assert History.from_log([json.loads(json.dumps(entry))]).records == (record,)


@pytest.mark.parametrize(
    ("values", "greater", "best"),
    [
        ({2: 0.5, 4: 0.4, 6: 0.9, 8: 0.1}, True, 6),
        ({2: 0.1, 4: 0.9, 6: 0.5, 8: 0.3}, False, 2),
        ({2: NAN, 4: 0.4, 6: 0.3}, True, 4),
        ({2: NAN, 4: NAN}, True, None),
        ({0: 0.9, 2: 0.1, 4: 0.4}, True, 4),
        ({2: 0.5, 4: 0.5}, True, 2),
        ({2: math.inf, 4: 0.5}, True, 4),
        ({}, True, None),
    ],
)
def test_the_best_is_the_first_finite_best_after_the_start(
    values: dict[int, float], greater: bool, best: int | None
) -> None:
    record = history_of(values).best("m", greater)
    assert (None if record is None else record.step) == best


@pytest.mark.parametrize(
    ("values", "threshold", "count"),
    [
        ({2: 0.2, 4: 0.8, 6: 0.5, 8: 0.1}, 0.0, 2),
        ({2: 0.2, 4: 0.25, 6: 0.3}, 0.1, 2),
        ({2: 0.2, 4: NAN, 6: 0.3}, 0.0, 0),
        ({0: 0.9, 2: 0.1}, 0.0, 0),
        ({2: NAN, 4: NAN}, 0.0, 2),
    ],
)
def test_patience_counts_evaluations_since_the_last_real_improvement(
    values: dict[int, float], threshold: float, count: int
) -> None:
    assert history_of(values).without_improvement("m", True, threshold) == count


def test_upto_is_the_history_of_a_checkpoint() -> None:
    history = history_of({2: 0.1, 4: 0.2, 6: 0.3})
    assert [record.step for record in history.upto(4)] == [2, 4]


def test_the_frame_has_a_row_a_step_and_a_column_a_metric() -> None:
    frame = History.from_log(LOG).to_frame()
    assert list(frame.columns) == ["epoch", "steps", "seconds", "sts_spearman", "docs_ndcg@10"]
    assert frame["steps"].tolist() == [2, 4]
    assert pd.isna(frame.loc[1, "docs_ndcg@10"])


def test_a_run_is_read_from_its_newest_checkpoint(tmp_path: Path) -> None:
    for step in (2, 10):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        log = [entry for entry in LOG if entry["step"] <= step / 2.5]
        (folder / "trainer_state.json").write_text(json.dumps({"log_history": log}))
    assert len(History.read(tmp_path)) == 2
    assert len(History.read(tmp_path / "checkpoint-2")) == 0
    with pytest.raises(FileNotFoundError, match=r"no trainer_state\.json"):
        History.read(tmp_path / "nothing")


def test_nan_never_wins() -> None:
    assert not is_better(NAN, NAN, True)
    assert not is_better(NAN, 0.1, False)
    assert is_better(0.1, NAN, True)


def test_a_log_that_grows_is_read_as_a_new_one_whatever_became_of_it() -> None:
    log: list[dict[str, Any]] = [
        {"step": 2, "epoch": 0.5, "eval_a": 0.5, "eval_a_runtime": 1.0},
        {"step": 3, "loss": 1},
    ]
    reader = LogReader()
    changes = [
        lambda: log.append({"step": 4, "epoch": 1.0, "eval_a": None, "eval_a_runtime": 1.0}),
        lambda: log.append({"step": 4, "epoch": 1.0, "eval_b": 0.1, "eval_b_runtime": 1.0}),
        lambda: None,
        lambda: log.pop(),
        lambda: log.insert(0, {"step": 0, "epoch": 0.0, "eval_a": 0.1, "eval_a_runtime": 1.0}),
        lambda: log.clear(),
    ]
    for change in changes:
        found = reader.read(log)
        assert found.records == History.from_log(log).records
        assert reader.read(log) is found
        change()
    assert not reader.read(log)


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"log_history": 3}', '{"log_history": [{"eval_a_runtime": 1}]}', "\xff"]
)
def test_a_broken_log_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "evaluation_run.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"evaluation_run.json is not the log of a run or broken"):
        History.read(tmp_path)
