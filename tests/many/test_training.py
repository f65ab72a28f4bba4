"""Training in several processes: one log, one best, one table, and the same training as without us."""

from __future__ import annotations

from typing import Any

import pytest
from support.processes import Told, launch

MODULE = "support.training_scenarios"
RUNS = ["best_known_on_main_only", "bundled", "resumed", "trainer_evaluates", "afterwards"]


@pytest.fixture(scope="module", params=[2, 3])
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Told]]:
    names = [*RUNS[:-1], "losses", "misconfigured", "table_cannot_be_written", RUNS[-1]]
    return launch(MODULE, names, request.param, tmp_path_factory.mktemp("training"))


def value_of(processes: list[Told]) -> Any:
    assert [one.error for one in processes] == [""] * len(processes)
    return processes[0].value


@pytest.mark.parametrize("name", RUNS)
def test_all_processes_have_one_log_one_best_and_the_same_weights(told: dict[str, list[Told]], name: str) -> None:
    first = value_of(told[name])
    for one in told[name][1:]:
        assert one.value == first


def test_the_best_is_the_one_that_only_the_main_process_measured(told: dict[str, list[Told]]) -> None:
    found = value_of(told["best_known_on_main_only"])
    assert (found["best_step"], found["best"]) == (4, "checkpoint-4")
    assert found["steps"] == [2, 4, 6, 8]
    assert found["checkpoints"] == [2, 4, 6, 8]


def test_each_evaluation_is_one_row_of_the_table(told: dict[str, list[Told]]) -> None:
    found = value_of(told["bundled"])
    assert found["steps"] == [2, 4, 6, 8]
    assert len([entry for entry in found["log"] if "eval_r_cosine_ndcg@10" in entry]) == 2


def test_a_resumed_run_ends_as_one_that_was_not_broken_off(told: dict[str, list[Told]]) -> None:
    resumed, whole = value_of(told["resumed"]), value_of(told["bundled"])
    for key in ("best_step", "weights", "steps"):
        assert resumed[key] == whole[key]
    for one, other in zip(without_times(resumed["log"]), without_times(whole["log"]), strict=True):
        assert one == other


def without_times(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in entry.items() if "runtime" not in key} for entry in log]


def test_the_trainers_own_evaluations_stop_and_load_the_best(told: dict[str, list[Told]]) -> None:
    found = value_of(told["trainer_evaluates"])
    assert (found["best_step"], found["best"]) == (4, "checkpoint-4")
    assert found["steps"] == [2, 4, 6, 8]


def test_training_is_bit_for_bit_what_it_is_without_the_callback(told: dict[str, list[Told]]) -> None:
    without, with_callback = value_of(told["losses"])
    assert with_callback == without


@pytest.mark.parametrize(
    ("name", "kinds", "message"),
    [
        ("misconfigured", {"ValueError"}, "t_cosine_acuracy"),
        ("table_cannot_be_written", {"OSError", "OtherProcessError"}, "No space left on device"),
    ],
)
def test_what_fails_on_one_process_ends_training_on_all(
    told: dict[str, list[Told]], name: str, kinds: set[str], message: str
) -> None:
    for one in told[name]:
        assert one.kind in kinds
        assert message in one.error
        assert one.seconds < 30
