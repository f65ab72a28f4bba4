"""Training that is killed again and again, at any moment, ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from support.loop import checkpoints, equal_weights, strict_state, without_times

TESTS = Path(__file__).resolve().parents[1]


def tables(folder: Path) -> dict[str, Any]:
    """All tables of a run without their times."""
    found = [folder / "evaluation_results.csv", *sorted((folder / "eval").glob("*.csv"))]
    return {
        path.name: pd.read_csv(path).drop(columns="seconds", errors="ignore").to_csv(index=False)
        for path in found
        # What a run that was killed before its first checkpoint had written is kept under a number.
        if not path.stem.split(".")[-1].isdigit()
    }


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    "set_up", ["own_interval", "trainer_evaluates", "epochs_and_bundled", "early_stopping", "two_callbacks"]
)
def test_a_run_that_is_killed_many_times_ends_like_one_that_was_not(tmp_path: Path, set_up: str, seed: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "support.killed", set_up, str(tmp_path), str(seed)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert int(done.stdout.split()[-1]) >= 3

    whole, cut = (torch.load(tmp_path / f"{name}.pt", weights_only=False) for name in ("whole", "cut"))
    assert json.dumps(without_times(cut["log"]), sort_keys=True) == json.dumps(
        without_times(whole["log"]), sort_keys=True
    )
    for what in ("step", "best", "best_checkpoint", "card_rows", "card_results"):
        assert cut[what] == whole[what], what
    assert equal_weights(cut["weights"], whole["weights"])
    assert tables(tmp_path / "cut") == tables(tmp_path / "whole")
    assert not list((tmp_path / "cut").rglob("*.tmp"))
    assert whole["best"][1] in checkpoints(tmp_path / "cut")
    for step in checkpoints(tmp_path / "whole"):
        assert (
            strict_state(tmp_path / "cut", step)["best_global_step"]
            == (strict_state(tmp_path / "whole", step)["best_global_step"])
        )
