"""Several processes on CPU: the same values as one, and no one waits in vain."""

from __future__ import annotations

from typing import Any

import pytest
from support.processes import Told, alone, launch, same

MODULE = "support.scenarios"
VALUES = [
    "size_2",
    "size_3",
    "size_7",
    "size_22",
    "size_40",
    "one_of_each",
    "triplets_7_1_22",
    "kinds_of_model",
    "long_corpora",
    "streams_then_pairs",
    "sizes_and_bits",
    "mining_settings",
    "custom_functions",
    "label_accuracy",
    "nano_beir",
    "mse_from_data_frame",
    "multi_vector",
    "nested",
    "cross_encoders",
    "sparse",
    "items",
]
OTHERS = ["predictions", "items_written", "encoded", "predicted", "open_session"]


@pytest.fixture(scope="module", params=[2, 3, pytest.param(4, marks=pytest.mark.slow)])
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Told]]:
    return launch(MODULE, VALUES + OTHERS, request.param, tmp_path_factory.mktemp("many"))


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return {name: alone(MODULE, name, tmp_path_factory.mktemp("alone")) for name in [*VALUES, *OTHERS]}


@pytest.mark.parametrize("name", VALUES)
def test_all_processes_have_the_values_of_one_alone(
    told: dict[str, list[Told]], references: dict[str, Any], name: str
) -> None:
    for one in told[name]:
        assert one.error == ""
        assert same(one.value, told[name][0].value)
        assert same(one.value, references[name], tolerance=1e-6)


@pytest.mark.parametrize("name", ["encoded", "predicted"])
def test_a_text_or_pair_is_encoded_by_one_process_whatever_asks_for_it(told: dict[str, list[Told]], name: str) -> None:
    counts = [one.value for one in told[name]]
    assert sum(one["encoded"] for one in counts) == counts[0]["distinct"]
    assert min(one["encoded"] for one in counts) > 0.5 * counts[0]["distinct"] / len(counts)


def test_what_is_in_the_session_is_not_encoded_again(told: dict[str, list[Told]]) -> None:
    assert [one.value for one in told["open_session"]] == [{"again": 0}] * len(told["open_session"])


@pytest.mark.parametrize("name", ["predictions", "items_written"])
def test_files_are_written_once(told: dict[str, list[Told]], references: dict[str, Any], name: str) -> None:
    values = [one.value for one in told[name]]
    assert same(values[0], references[name], tolerance=1e-6)
    assert values[1:] == [None] * (len(values) - 1)
