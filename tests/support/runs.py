"""Runs made of listed values, as they would be read from their folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from st_eval_callbacks.history import EvalRecord, History
from st_eval_callbacks.report import Run
from st_eval_callbacks.writers.run_file import EvaluatorInfo, RunInfo


def run_of(
    values: Mapping[str, Mapping[int, float]],
    *,
    lower: Sequence[str] = (),
    deciding: str | None = None,
    min_delta: float = 0.0,
    folder: Path = Path("runs/one"),
) -> Run:
    """A run in which each metric has an evaluator of the same name, which takes a second.

    Args:
        values: Value by step, by metric.
        lower: Metrics of which less is better.
        deciding: What decides; None takes the first.
        min_delta: As of the callback.
        folder: Its `output_dir`.
    """
    deciding = next(iter(values)) if deciding is None else deciding
    records = [
        EvalRecord(step, step / 10, {metric: value}, {metric: 1.0})
        for metric, found in values.items()
        for step, value in found.items()
    ]
    evaluators = tuple(EvaluatorInfo(metric, "Fake", metric, metric not in lower, (metric,)) for metric in values)
    return Run(folder, History(records), RunInfo(deciding, deciding not in lower, min_delta, evaluators))
