"""A failure anywhere ends an evaluation everywhere, with the reason; evaluators of others; sharded models."""

from __future__ import annotations

from typing import Any

import pytest
from support.processes import Told, alone, launch, same

MODULE = "support.failing_scenarios"
# Where it fails, and what the message of the others must hold.
FAILURES = {
    "user_evaluator_fails_on_main": (0, "process 0 has had enough"),
    "user_evaluator_fails_elsewhere": (-1, "has had enough"),
    "served_evaluator_fails": (0, "process 0 has had enough"),
    "encoding_fails": (1, "no luck"),
    "scoring_fails": (1, "no scores"),
    "stream_fails": (1, "no stream"),
    "writing_fails": (0, "taken"),
}
VALUES = [
    "goes_on",
    "afterwards",
    "served_then_together",
    "alone_then_together",
    "by_hand",
    "sharded_by_its_own_encode",
    "waits",
]
SHARDED = ["sharded", "sharded_cross_encoder"]
SECONDS = 20


@pytest.fixture(scope="module", params=[2, 3])
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Told]]:
    names = [*FAILURES, "goes_on", "interrupted", "out_of_step", *VALUES[1:], "served", *SHARDED, "told_by_loggers"]
    return launch(MODULE, names, request.param, tmp_path_factory.mktemp("failing"))


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    names = [*VALUES, "served", *SHARDED]
    return {name: alone(MODULE, name, tmp_path_factory.mktemp("alone")) for name in names}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_on_one_process_ends_all_within_seconds_with_its_traceback(
    told: dict[str, list[Told]], name: str
) -> None:
    where, message = FAILURES[name]
    processes = told[name]
    for index, one in enumerate(processes):
        assert one.kind == "EvaluationError"
        assert message in one.error
        assert one.seconds < SECONDS
        is_culprit = index == where % len(processes)
        assert ("OtherProcessError" in one.error) == (not is_culprit) or name == "served_evaluator_fails"
        assert f"process {where % len(processes)}:" in one.error or is_culprit or name == "served_evaluator_fails"


def test_an_interrupt_ends_all(told: dict[str, list[Told]]) -> None:
    kinds = [one.kind for one in told["interrupted"]]
    assert kinds[1] == "KeyboardInterrupt"
    assert set(kinds) - {"KeyboardInterrupt"} == {"OtherProcessInterrupt"}
    assert all(one.seconds < SECONDS for one in told["interrupted"])


def test_an_evaluator_that_gets_out_of_step_is_told_so(told: dict[str, list[Told]]) -> None:
    for one in told["out_of_step"]:
        assert "The processes are not doing the same (0: gather, 1: pause" in one.error
        assert one.kind == "EvaluationError"


@pytest.mark.parametrize("name", VALUES)
def test_all_processes_end_with_the_values_of_one_alone(
    told: dict[str, list[Told]], references: dict[str, Any], name: str
) -> None:
    reference = references[name]
    if name == "goes_on":
        # Alone, no process fails.
        reference = {key: value for key, value in reference.items() if not key.startswith("bad")}
    for one in told[name]:
        assert one.error == ""
        assert same(one.value, told[name][0].value)
        assert same(one.value, reference, tolerance=1e-6)


def test_evaluators_of_others_run_once_and_are_served_by_all(
    told: dict[str, list[Told]], references: dict[str, Any]
) -> None:
    each = [one.value for one in told["served"]]
    reference = references["served"]
    for one in each:
        assert same(one["values"], each[0]["values"])
        assert same(one["values"], reference["values"], tolerance=1e-6)
    assert [one["rows"] for one in each] == [2] + [None] * (len(each) - 1)
    assert min(one["texts"] for one in each) > 0.6 * reference["texts"] / len(each)


@pytest.mark.parametrize("name", SHARDED)
def test_a_sharded_model_runs_equally_often_everywhere_and_gives_the_values_of_the_whole(
    told: dict[str, list[Told]], references: dict[str, Any], name: str
) -> None:
    each = [one for one in told[name]]
    assert [one.error for one in each] == [""] * len(each)
    assert len({one.value["passes"] for one in each}) == 1
    for one in each:
        assert same(one.value["values"], references[name]["values"], tolerance=1e-6)


def test_only_the_main_process_logs(told: dict[str, list[Told]]) -> None:
    first, *others = [one.value for one in told["told_by_loggers"]]
    assert first["info"] > 3
    # The collapsed model, and the evaluator that failed.
    assert first["warnings"] == 2
    assert others == [{"info": 0, "warnings": 0}] * len(others)
