"""All that the benchmark measures, by group."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import (
    cross_encoder,
    event,
    growth,
    metrics_stage,
    mining,
    mse,
    multi_vector,
    overhead,
    pairs,
    processes,
    rerank,
    retrieval,
    sparse,
)
from .compare import Settings
from .report import Section


@dataclass(frozen=True)
class Group:
    """Rows that are measured together.

    Attributes:
        name: What `--only` takes.
        rows: Names of the rows.
        run: Measures them.
    """

    name: str
    rows: tuple[str, ...]
    run: Callable[[Settings], list[Section]]


def _names(rows: tuple[object, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(getattr(row, "name", row)) for row in rows))


# A kind of model with rows of its own (sparse, multi-vector, cross-encoder) is a module with `ROWS` and `run`, and a
# line here.
GROUPS = (
    Group("retrieval", (*_names(retrieval.ROWS), "search beside the matrix product"), retrieval.run),
    Group("metrics", _names(metrics_stage.ROWS), metrics_stage.run),
    Group("pairs", _names(pairs.ROWS), pairs.run),
    Group("rerank", _names(rerank.ROWS), rerank.run),
    Group("cross encoder", _names(cross_encoder.ROWS), cross_encoder.run),
    Group("mining", _names(mining.ROWS), mining.run),
    Group("mse", _names(mse.ROWS), mse.run),
    Group("multi-vector", _names(multi_vector.ROWS), multi_vector.run),
    Group("sparse", _names(sparse.ROWS), sparse.run),
    Group("event", _names(event.ROWS), event.run),
    Group("growth", (growth.NAME,), growth.run),
    Group("processes", (processes.NAME,), processes.run),
    Group("overhead", (overhead.NAME,), overhead.run),
)
