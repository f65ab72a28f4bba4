"""What Weights & Biases and Trackio get: read back from what they wrote, offline. TensorBoard's is in test_loop.py."""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.loop import Fake, at_steps, make_trainer

from st_eval_callbacks import EvaluatorCallback, Scheduled

OFTEN = at_steps(0.1, 0.2, float("nan"), 0.4)
RARE = {4: 0.7, 8: 0.6}


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    before = set(psutil.Process().children(recursive=True))
    yield
    left = set(psutil.Process().children(recursive=True)) - before
    assert left == set()


def train(folder: Path, reporter: str) -> Any:
    evaluators = [Scheduled(Fake(OFTEN, name="often"), every=2), Scheduled(Fake(RARE, name="rare"), every=4)]
    trainer = make_trainer(folder / "run", [EvaluatorCallback(evaluators)], report_to=reporter)
    trainer.train()
    return trainer


def series(rows: list[dict[str, Any]], key: str) -> list[tuple[int, Any]]:
    """`(step, value)` of each row that has the key; an undefined value is None."""
    return [(row["train/global_step"], row[key]) for row in rows if key in row]


def assert_each_metric_once(rows: list[dict[str, Any]], trainer: Any) -> None:
    assert series(rows, "eval/often_score") == [(2, 0.1), (4, 0.2), (6, None), (8, 0.4)]
    assert series(rows, "eval/rare_score") == list(RARE.items())
    assert [step for step, _ in series(rows, "eval/rare_runtime")] == [4, 8]
    losses = {entry["step"]: entry["loss"] for entry in trainer.state.log_history if "loss" in entry}
    assert list(losses) == list(range(1, 9))
    assert series(rows, "train/loss") == list(losses.items())
    assert not [key for row in rows for key in row if "score" in key and not key.startswith("eval/")]


def read_wandb(path: Path) -> list[dict[str, Any]]:
    """The rows of an offline run's history.

    wandb ships no reader. The file has a head of 7 bytes and then blocks of 32 KiB, as LevelDB's logs have: chunks of
    `checksum, length, kind` and data, where kind 1 is a whole record and 2, 3, 4 are its first, middle and last parts.
    """
    from wandb.proto import wandb_internal_pb2

    data, place, parts, rows = path.read_bytes(), 7, b"", []
    assert data[:4] == b":W&B"
    while place < len(data):
        left = -place % 32768
        if 0 < left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            if record.HasField("history"):
                items = record.history.item
                rows.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
    return rows


def test_weights_and_biases_gets_each_metric_once_at_its_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"MODE": "offline", "DIR": tmp_path, "CONSOLE": "off", "SILENT": "true", "PROJECT": "tests"}
    for name, value in {**settings, "ERROR_REPORTING": "false", "X_DISABLE_STATS": "true"}.items():
        monkeypatch.setenv(f"WANDB_{name}", str(value))
    import wandb

    try:
        trainer = train(tmp_path, "wandb")
    finally:
        # The run, and the process that writes it.
        wandb.finish()
        wandb.teardown()
    [path] = tmp_path.rglob("*.wandb")
    assert_each_metric_once(read_wandb(path), trainer)


def test_trackio_gets_each_metric_once_at_its_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Read when trackio is imported. No space is named, so nothing is sent anywhere.
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("TRACKIO_PROJECT", "tests")
    trainer = train(tmp_path, "trackio")
    [path] = (tmp_path / "trackio").glob("*.db")
    connection = sqlite3.connect(path)
    try:
        rows = [json.loads(row) for (row,) in connection.execute("SELECT metrics FROM metrics ORDER BY step")]
    finally:
        connection.close()
    assert_each_metric_once(rows, trainer)
