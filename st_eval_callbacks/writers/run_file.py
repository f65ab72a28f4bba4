"""`evaluation_run.json`: what was evaluated how, and the evaluations as they were logged."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ..history import RUN_FILE, EvalRecord, History
from .files import replace_file
from .record_texts import RecordTexts


@dataclass(frozen=True)
class EvaluatorInfo:
    """One evaluator of a run.

    Attributes:
        name: Its name among the callback's evaluators.
        kind: Its class.
        primary_metric: Log key without "eval_", or None while it is unknown.
        greater_is_better: Whether higher values of that are better.
        metrics: Log keys without "eval_", as far as known.
        parts: Primary metrics of its sizes, or of the evaluators it runs one after another, and whether higher values
            of each are better.
    """

    name: str
    kind: str
    primary_metric: str | None
    greater_is_better: bool
    metrics: tuple[str, ...] = ()
    parts: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class RunInfo:
    """What the evaluations of a run are of.

    Attributes:
        deciding_metric: The metric that decides the best (log key without "eval_"), or None when none is known.
        greater_is_better: Whether higher values of it are better.
        min_delta: Only a value that is better by more than this took the place of the best.
        evaluators: The evaluators, in the order given.
    """

    deciding_metric: str | None
    greater_is_better: bool
    min_delta: float = 0.0
    evaluators: tuple[EvaluatorInfo, ...] = ()


def run_text(
    info: RunInfo, history: History, names: Sequence[str] | None = None, lines: RecordTexts | None = None
) -> str:
    """The file: strict JSON with the fields of `RunInfo` and `log_history` in the Trainer's form.

    Args:
        info: What was evaluated how.
        history: The evaluations.
        names: Order of the metrics; None takes the order in which they first appeared.
        lines: Lines of records that were written before.

    Returns:
        JSON text; undefined values are null.
    """
    names = history.metric_names() if names is None else names
    places = {f"eval_{name}": place for place, name in enumerate(names)}

    def line(record: EvalRecord) -> str:
        entry = sorted(record.log_entry().items(), key=lambda item: places.get(item[0], len(places)))
        values = {key: value if math.isfinite(value) else None for key, value in entry}
        # A line an entry: readable, and many times as fast to write as one a value.
        return json.dumps({"epoch": record.epoch, "step": record.step, **values}, allow_nan=False)

    head = json.dumps(asdict(info), indent=1, allow_nan=False).removesuffix("\n}")
    log = ",\n  ".join((lines or RecordTexts()).of(history, names, line))
    return f'{head},\n "log_history": [\n  {log}\n ]\n}}\n'


def write_run(
    folder: Path,
    info: RunInfo,
    history: History,
    names: Sequence[str] | None = None,
    lines: RecordTexts | None = None,
) -> Path:
    """Rewrite `evaluation_run.json` whole. Arguments as `run_text`.

    Returns:
        The path of the file.
    """
    path = folder / RUN_FILE
    replace_file(path, run_text(info, history, names, lines))
    return path


def read_run(folder: Path) -> RunInfo | None:
    """What `evaluation_run.json` says of the evaluators; None when the folder has no such file.

    Raises:
        ValueError: When the file cannot be read; names it.
    """
    path = folder / RUN_FILE
    if not path.exists():
        return None
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        evaluators = tuple(
            EvaluatorInfo(**_known(one, EvaluatorInfo), metrics=tuple(one["metrics"])) for one in given["evaluators"]
        )
        return RunInfo(**_known(given, RunInfo), evaluators=evaluators)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no file of a run or broken ({type(error).__name__}).") from error


def _known(given: Mapping[str, Any], kind: type) -> dict[str, Any]:
    """The fields that are read as they are; what a newer version has written besides is passed over."""
    names = {one.name for one in fields(kind)} - {"evaluators", "metrics"}
    return {name: value for name, value in given.items() if name in names}
