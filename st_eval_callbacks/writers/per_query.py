"""One value for each query, pair or item of an evaluation: what intervals and paired tests are made of.

A file for each evaluator and step, `<folder>/per_query/<evaluator>/step_00000500.parquet`: a row an item, the column
`id`, one column for each metric under its key in the log, and one `raw:<name>` for each thing that is no metric.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .files import replace_file, safe_name

FOLDER = "per_query"

_RAW = "raw:"
# Stands before a metric's key that would look like something raw.
_METRIC = "metric:"
_ENDINGS = (".parquet", ".csv")
_STEP = re.compile(r"step_(\d+)")


@dataclass(frozen=True)
class ItemValues:
    """Values of the items of one evaluation, in the evaluator's order.

    Attributes:
        ids: What names each item: a query's id, or the place of a pair. Files hold them as text.
        values: By metric (its key in the log, without "eval_") the value of each item, whose mean is the metric; NaN
            where an item does not count in it. All are NaN where the metric is.
        raw: What metrics that are no means are made of, by name: `label` (what was judged), and beside it `score`,
            `prediction` or `<function>_similarity`. No metric is the mean of these.

    Raises:
        ValueError: When a column is not as long as `ids`.
    """

    ids: Sequence[Any]
    values: Mapping[str, Sequence[float]]
    raw: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse columns of other lengths."""
        for name, column in [*self.values.items(), *self.raw.items()]:
            if len(column) != len(self.ids):
                raise ValueError(f"{len(column)} values of {name!r} for {len(self.ids)} ids.")


def items_folder(csv_file: str) -> str:
    """Name of the folder that holds the files of the evaluator with this table.

    Examples:
        >>> items_folder("triplet_evaluation_dev_results.csv"), items_folder("RerankingEvaluator_results_@10.csv")
        ('triplet_evaluation_dev', 'RerankingEvaluator_@10')
    """
    return "".join(safe_name(csv_file).removesuffix(".csv").rpartition("_results")[::2])


def items_path(folder: Path, csv_file: str, epoch: float = -1, steps: int = -1) -> Path:
    """Where the values of an evaluation are kept: as Parquet where pyarrow is installed, else as CSV.

    Args:
        folder: The `output_path` of the evaluator; in training `<output_dir>/eval`.
        csv_file: Name of the evaluator's table.
        epoch: Passes over the training data done; -1 outside of training.
        steps: Optimizer steps done; -1 at the end of an epoch.

    Returns:
        `<folder>/per_query/<evaluator>/step_<8 digits>`, `epoch_<epoch>` or `by_hand`, with its ending.
    """
    name = f"step_{steps:08d}" if steps != -1 else f"epoch_{epoch:g}" if epoch != -1 else "by_hand"
    ending = _ENDINGS[0] if _has_pyarrow() else _ENDINGS[1]
    return folder / FOLDER / items_folder(csv_file) / f"{name}{ending}"


def write_items(path: Path, items: ItemValues) -> None:
    """Write values in place of those of the same evaluation; a reader sees the old ones or the new.

    Args:
        path: A path of `items_path`; its ending says how it is written.
        items: The values.
    """
    # What has no place in UTF-8 is shown as an escape.
    ids = [str(one).encode("utf-8", "backslashreplace").decode("utf-8") for one in items.ids]
    columns = {_metric_column(key): values for key, values in items.values.items()}
    columns.update({f"{_RAW}{name}": values for name, values in items.raw.items()})
    replace_file(path, _as_parquet(ids, columns) if path.suffix == _ENDINGS[0] else _as_csv(ids, columns))
    for ending in _ENDINGS:
        if ending != path.suffix:
            # Of the same evaluation, from where pyarrow was or was not installed.
            path.with_name(f"{path.name.removesuffix(path.suffix)}{ending}").unlink(missing_ok=True)


def read_items(path: Path) -> ItemValues:
    """Read a file of `write_items`.

    Args:
        path: The file.

    Returns:
        The values, with ids as text.

    Raises:
        ValueError: When it is no such file.
        ImportError: When it is a Parquet file and pyarrow is not installed.
    """
    names, ids, columns = _of_parquet(path) if path.suffix == _ENDINGS[0] else _of_csv(path)
    if names[:1] != ["id"]:
        raise ValueError(f"{path}: the first column is not 'id'; this is no file of values for each query.")
    values: dict[str, Sequence[float]] = {}
    raw: dict[str, Sequence[float]] = {}
    for name, column in zip(names[1:], columns, strict=True):
        if name.startswith(_RAW):
            raw[name.removeprefix(_RAW)] = column
        else:
            values[name.removeprefix(_METRIC)] = column
    return ItemValues(ids, values, raw)


def item_files(folder: Path) -> dict[str, dict[int, Path]]:
    """All files of evaluations at a step.

    Args:
        folder: As for `items_path`.

    Returns:
        Path by step, ascending, by the name of the evaluator's folder.
    """
    found: dict[str, dict[int, Path]] = {}
    for path in sorted((folder / FOLDER).glob("*/step_*")):
        step = _STEP.fullmatch(path.name.removesuffix(path.suffix))
        if step is not None and path.suffix in _ENDINGS:
            found.setdefault(path.parent.name, {})[int(step[1])] = path
    return {name: dict(sorted(files.items())) for name, files in found.items()}


def drop_items_after(folder: Path, step: int, again: Collection[str]) -> None:
    """Take out the files that a resumed run will write again, and what a crash left of one.

    Args:
        folder: As for `items_path`.
        step: The last step whose files stay.
        again: Names of the folders of evaluators that will run at that step as well.
    """
    for name, files in item_files(folder).items():
        for one, path in files.items():
            if one > step or (one == step and name in again):
                path.unlink()
    for leftover in (folder / FOLDER).glob("*/.*.tmp"):
        leftover.unlink()


def _metric_column(key: str) -> str:
    return f"{_METRIC}{key}" if key.startswith((_RAW, _METRIC)) else key


def _has_pyarrow() -> bool:
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        return False
    return True


def _as_parquet(ids: list[str], columns: Mapping[str, Sequence[float]]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    arrays = [pyarrow.array(ids, pyarrow.string())]
    arrays += [pyarrow.array(values, pyarrow.float64()) for values in columns.values()]
    stream = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(arrays, names=["id", *columns]), stream)
    return stream.getvalue()


def _of_parquet(path: Path) -> tuple[list[str], list[str], list[list[float]]]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        table = file.read()
    ids, *columns = (column.to_pylist() for column in table.columns)
    return table.column_names, ids, columns


def _as_csv(ids: list[str], columns: Mapping[str, Sequence[float]]) -> str:
    stream = io.StringIO()
    # Text is quoted whatever is in it.
    writer = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(["id", *columns])
    writer.writerows(zip(ids, *(map(float, values) for values in columns.values()), strict=True))
    return stream.getvalue()


def _of_csv(path: Path) -> tuple[list[str], list[str], list[list[float]]]:
    with path.open(encoding="utf-8", newline="") as stream:
        names, *rows = csv.reader(stream)
    columns = [[float(row[place]) for row in rows] for place in range(1, len(names))]
    return names, [row[0] for row in rows], columns
