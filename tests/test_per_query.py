"""Files of values of single items: what is written is read, and files of other steps stay or go."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import pytest

from st_eval_callbacks.report.kept import KeptItems
from st_eval_callbacks.writers.per_query import (
    ItemValues,
    drop_items_after,
    item_files,
    items_path,
    read_items,
    write_items,
)

IDS = [7, "7", "ä/ö", 'a "b", c\nd\r', "", "日本"]
KEYS = {"docs_cosine_ndcg@10": [0.1, 1 / 3, math.nan, 1.0, 0.0, 5e-324], "a/b:é_mrr": [0.0] * 6, "id": [2.0] * 6}
RAW = {"label": [1.0, 0.0, 1.0, math.nan, 1.0, 0.0], "cosine_similarity": [-1.0] * 6}


@pytest.fixture(params=[".parquet", ".csv"])
def ending(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The ending of files with and without pyarrow."""
    if request.param == ".csv":
        without_pyarrow(monkeypatch)
    return str(request.param)


def without_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)


def shown(items: ItemValues) -> Any:
    """Columns with NaN as None, which equals itself."""

    def plain(columns: Any) -> Any:
        return [(key, [None if one != one else one for one in column]) for key, column in columns.items()]

    return list(items.ids), plain(items.values), plain(items.raw)


def test_what_is_written_is_read_with_ids_as_text(ending: str, tmp_path: Path) -> None:
    path = items_path(tmp_path, "x_results.csv", 0.5, 20)
    assert path.suffix == ending
    given = ItemValues(IDS, {**KEYS, "raw:x": [1.0] * 6, "metric:y": [0.5] * 6}, RAW)
    write_items(path, given)
    found = read_items(path)
    assert shown(found) == shown(ItemValues([str(one) for one in IDS], given.values, RAW))
    assert [one.name for one in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("columns", [{}, {"a_mrr": []}])
def test_no_columns_and_no_items_are_read_as_such(ending: str, columns: dict[str, Any], tmp_path: Path) -> None:
    path = items_path(tmp_path, "x_results.csv", 0.5, 20)
    write_items(path, ItemValues([], columns))
    assert shown(read_items(path)) == shown(ItemValues([], columns))


def test_text_that_utf_8_has_no_place_for_is_escaped(ending: str, tmp_path: Path) -> None:
    path = items_path(tmp_path, "x_results.csv")
    write_items(path, ItemValues(["a\ud800"], {"mrr": [1.0]}))
    assert read_items(path).ids == ["a\\ud800"]


@pytest.mark.parametrize(
    ("csv_file", "epoch", "steps", "name"),
    [
        ("triplet_evaluation_dev_results.csv", 0.5, 20, "triplet_evaluation_dev/step_00000020"),
        ("RerankingEvaluator_dev_results_@10.csv", 1, 0, "RerankingEvaluator_dev_@10/step_00000000"),
        ("x_my_results_results.csv", -1, 123456789, "x_my_results/step_123456789"),
        ("x_results.csv", 2, -1, "x/epoch_2"),
        ("x_results.csv", 1.5, -1, "x/epoch_1.5"),
        ("x_results.csv", -1, -1, "x/by_hand"),
        ("x.csv", -1, -1, "x/by_hand"),
        ("x_a/b_results.csv", -1, 3, "x_a_b-b19bf44b/step_00000003"),
        ("x_ä日_results.csv", -1, 3, "x_ä日/step_00000003"),
    ],
)
def test_the_path_tells_evaluator_and_step(
    csv_file: str, epoch: float, steps: int, name: str, tmp_path: Path, ending: str
) -> None:
    path = items_path(tmp_path, csv_file, epoch, steps)
    assert path.relative_to(tmp_path / "per_query").as_posix() == f"{name}{ending}"


def test_a_step_has_one_file_also_where_pyarrow_came_or_went(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_items(items_path(tmp_path, "x_results.csv", 1.5, 2), ItemValues(["a"], {"mrr": [0.25]}))
    without_pyarrow(monkeypatch)
    write_items(items_path(tmp_path, "x_results.csv", 1.5, 2), ItemValues(["a"], {"mrr": [0.5]}))
    [path] = (tmp_path / "per_query" / "x").iterdir()
    assert read_items(path).values == {"mrr": [0.5]}


def test_files_are_found_by_evaluator_and_step_and_taken_out_after_one(tmp_path: Path) -> None:
    for csv_file in ("x_results.csv", "y_results.csv"):
        for steps in (4, 123456789, 2, 6, -1):
            write_items(items_path(tmp_path, csv_file, -1, steps), ItemValues(["a"], {"mrr": [float(steps)]}))
    found = item_files(tmp_path)
    assert {name: list(files) for name, files in found.items()} == dict.fromkeys("xy", [2, 4, 6, 123456789])
    assert all(read_items(path).values == {"mrr": [step]} for files in found.values() for step, path in files.items())
    leftover = found["x"][2].parent / ".step_00000002.parquet.abc.tmp"
    leftover.write_bytes(b"half")
    drop_items_after(tmp_path, 4, ["y"])
    assert {name: list(files) for name, files in item_files(tmp_path).items()} == {"x": [2, 4], "y": [2]}
    assert items_path(tmp_path, "x_results.csv").exists()
    assert not leftover.exists()


def test_where_nothing_was_kept_nothing_is_found(tmp_path: Path) -> None:
    drop_items_after(tmp_path, 0, [])
    assert item_files(tmp_path) == {}


@pytest.mark.parametrize("column", ["values", "raw"])
def test_columns_of_another_length_are_refused(column: str) -> None:
    with pytest.raises(ValueError, match="1 values of 'mrr' for 2 ids"):
        ItemValues(["a", "b"], **{"values": {}, column: {"mrr": [1.0]}})


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "step_00000001.csv"
    path.write_text("epoch,steps\n1,2\n")
    with pytest.raises(ValueError, match="first column is not 'id'"):
        read_items(path)


def test_items_of_one_text_stay_apart_and_are_matched_by_their_order(ending: str, tmp_path: Path) -> None:
    path = items_path(tmp_path / "eval", "x_results.csv", steps=4)
    write_items(path, ItemValues([7, "7", None, "7"], {"mrr": [0.25, 0.5, 0.75, 1.0]}))
    assert KeptItems(tmp_path).at(4) == {"mrr": {"7": 0.25, "7 (2)": 0.5, "None": 0.75, "7 (3)": 1.0}}
