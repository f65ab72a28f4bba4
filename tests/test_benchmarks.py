"""The benchmark measures what it says."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from benchmarks import measure
from benchmarks.__main__ import app
from benchmarks.measure import ChildFailed, Spread, Timed, Timings
from benchmarks.registry import GROUPS
from benchmarks.stubs import StubModel, clustered, names

MIB = 2**20
needs_proc = pytest.mark.skipif(not measure.can_measure_memory(), reason="the system does not tell a peak of memory")

ROWS = {
    "retrieval, cosine",
    "retrieval, dot",
    "retrieval, euclidean",
    "search beside the matrix product",
    "metric stage",
    "binary classification",
    "embedding similarity",
    "triplet",
    "reranking",
    "reranking, ragged",
    "cross-encoder reranking",
    "cross-encoder reranking of ranked lists",
    "cross-encoder classification, one label",
    "cross-encoder classification, three labels",
    "cross-encoder correlation",
    "cross-encoder predictions",
    "paraphrase mining",
    "translation",
    "MSE",
    "multi-vector retrieval",
    "multi-vector reranking",
    "sparse retrieval",
    "sparse embedding similarity",
    "sparse binary classification",
    "sparse triplet",
    "sparse reranking",
    "sparse translation",
    "sparse MSE",
    "(a) evaluators over overlapping texts",
    "(b) five Matryoshka sizes",
    "(c) one retrieval set",
    "growth of retrieval",
    "two processes",
    "training with the callback due at every step",
}


@pytest.fixture(autouse=True)
def _same_number_of_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def timings(**seconds: list[float]) -> Timings:
    result = Timings()
    for name, values in seconds.items():
        for value in values:
            result.add(name, Timed(value, 2 * value, None))
    return result


def test_a_ratio_is_the_median_of_the_rounds_ratios_with_their_range() -> None:
    found = timings(peer=[4.0, 9.0, 8.0], ours=[2.0, 3.0, 1.0])
    assert found.ratio("peer", "ours") == Spread(3.0, 2.0, 8.0)
    assert found.ratio("peer", "ours", user=True) == Spread(3.0, 2.0, 8.0)
    assert found.median("peer") == 8.0
    assert found.num_rounds == 3


def test_contenders_take_turns_and_the_warm_up_is_not_counted() -> None:
    order: list[str] = []
    contenders = {name: lambda name=name: order.append(name) or len(order) for name in ("peer", "ours")}
    found = measure.interleaved(contenders, 2)
    assert order == ["peer", "ours"] * 3
    assert found.num_rounds == 2
    assert found.results == {"peer": 5, "ours": 6}


@pytest.mark.parametrize(("budget", "seconds", "rounds"), [(10, 1, 5), (10, 4, 2), (10, 100, 1), (10, 0, 5)])
def test_rounds_are_as_many_as_the_budget_allows_and_at_least_one(budget: float, seconds: float, rounds: int) -> None:
    assert measure.rounds_within(budget, seconds, most=5) == rounds


@needs_proc
@pytest.mark.parametrize("mib", [0, 40, 200])
def test_the_peak_of_a_run_is_the_memory_it_fills_above_what_was_there(mib: int) -> None:
    inputs = torch.ones(60 * MIB // 4)

    def fill() -> float:
        return float(torch.ones(mib * MIB // 4).sum()) + float(inputs[0])

    found = measure.isolated(fill)
    assert found.timed.result == mib * MIB / 4 + 1
    assert found.peak_mib == pytest.approx(mib, abs=6)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda: 1 / 0, "ZeroDivisionError"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "killed"),
    ],
)
def test_a_child_that_fails_says_so(work: object, message: str) -> None:
    with pytest.raises(ChildFailed, match=message):
        measure.in_child(work)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ({"a": 1.0, "b": 2.0, "c": 9.0}, {"a": 1.25, "b": 2.5, "d": 0.0}, (0.5, "b")),
        ({"a": math.nan}, {"a": math.nan}, (0.0, "a")),
        ({"a": math.nan, "b": 1.0}, {"a": 0.0, "b": 1.0}, (math.inf, "a")),
        ({"a": 1.0}, {"b": 1.0}, None),
        (None, {"b": 1.0}, None),
    ],
)
def test_the_largest_difference_is_that_of_the_keys_both_have(left: object, right: object, expected: object) -> None:
    assert measure.largest_difference(left, right) == expected


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_is_found(exponent: float) -> None:
    sizes = [10, 100, 3000]
    assert measure.growth_exponent(sizes, [7 * size**exponent for size in sizes]) == pytest.approx(exponent)


def test_a_stub_returns_the_embedding_of_each_text_in_whatever_order() -> None:
    texts, table = names("t", 300), clustered(300, seed=0, dim=8)
    model = StubModel(texts, table)
    ordered = model.encode(texts[10:200], convert_to_tensor=True)
    assert torch.equal(ordered, table[10:200])
    assert ordered.data_ptr() == table[10:].data_ptr()
    places = torch.randperm(300, generator=torch.Generator().manual_seed(0)).tolist()
    shuffled = model.encode_query([texts[place] for place in places], convert_to_tensor=True, truncate_dim=3)
    assert torch.equal(shuffled, table[places][:, :3])


def test_the_registry_has_every_row() -> None:
    rows = [row for group in GROUPS for row in group.rows]
    assert set(rows) == ROWS
    assert len(rows) == len(ROWS)
    assert len({group.name for group in GROUPS}) == len(GROUPS)


def run_cli(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.output


def test_a_group_is_measured_from_the_command_line_into_a_file(tmp_path: Path) -> None:
    output = tmp_path / "new" / "results.md"
    code, told = run_cli("--smallest", "--only", "mse", "--rounds", "2", "--output", str(output))
    assert code == 0, told
    text = output.read_text(encoding="utf-8")
    [row] = [line for line in text.splitlines() if line.startswith("| MSE | 40 texts | ST |")]
    assert row.count("|") == text.splitlines()[text.splitlines().index("## Distillation") + 2].count("|")
    for fact in ("Date", "Machine", "Load", "Threads: 1", "Versions", "sentence-transformers 6"):
        assert fact in text


@needs_proc
@pytest.mark.slow
def test_every_group_runs_at_its_smallest(tmp_path: Path) -> None:
    output = tmp_path / "results.md"
    # In a process of its own: groups set the number of threads.
    command = [sys.executable, "-m", "benchmarks", "--smallest", "--rounds", "1", "--output", str(output)]
    subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).parents[1])
    text = output.read_text(encoding="utf-8")
    of_their_own = {"search beside the matrix product", "growth of retrieval", "two processes"}
    of_their_own |= {"training with the callback due at every step"}
    assert [row for row in sorted(ROWS - of_their_own) if f"| {row} |" not in text] == []


def test_an_unknown_group_is_refused_with_those_that_exist() -> None:
    code, told = run_cli("--only", "retreival")
    assert code == 2
    for group in GROUPS:
        assert group.name in told
