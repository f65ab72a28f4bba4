"""One line an evaluation."""

from __future__ import annotations

import math

from ..history import EvalRecord
from ..writers.run_file import EvaluatorInfo
from .numbers import value_format
from .run import Run


def evaluation_line(run: Run, record: EvalRecord) -> str:
    """What was measured at one step.

    Args:
        run: The run, this evaluation included.
        record: The evaluation; of a step at which more ran, what is to be told of it.

    Returns:
        `step 35 · epoch 0.51 · docs_cosine_ndcg@10 0.7725 (+0.0031) new best · 19.4 s`: each evaluator's primary
        metric and the deciding one, with the change against the value before it.
    """
    parts = [f"step {record.step}", f"epoch {record.epoch:.2f}"]
    known = {evaluator.name: evaluator for evaluator in run.info.evaluators}
    for name in record.seconds:
        evaluator = known.get(name, EvaluatorInfo(name, "", None, True))
        metrics = [metric for metric in run.shown_metrics(evaluator) if metric in record.metrics]
        parts += [_measured(run, record, metric) for metric in metrics] or [f"{name} without a value"]
    return " · ".join([*parts, f"{record.total_seconds:.1f} s"])


def _measured(run: Run, record: EvalRecord, metric: str) -> str:
    value = record.metrics[metric]
    earlier = [before for step, before in run.history.values(metric) if step < record.step]
    text = f"{metric} {value:{value_format([value])}}"
    if earlier and math.isfinite(value) and math.isfinite(earlier[-1]):
        text += f" ({value - earlier[-1]:+{value_format([value, earlier[-1]])}})"
    if metric == run.info.deciding_metric and run.best is not None and run.best.step == record.step:
        text += " new best"
    return text
