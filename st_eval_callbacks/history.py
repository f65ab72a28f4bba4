"""What was measured, step by step. Derived from the Trainer's log, never kept beside it; no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .checkpoints import STATE_FILE, is_complete, last_checkpoint

if TYPE_CHECKING:
    import pandas

RUN_FILE = "evaluation_run.json"
PREFIX = "eval_"
_RUNTIME = "_runtime"


@dataclass(frozen=True)
class EvalRecord:
    """All that was measured at one step.

    Attributes:
        step: Optimizer steps done, >= 0; 0 is before training.
        epoch: Passes over the training data done, >= 0.
        metrics: Value by log key without "eval_". NaN where a metric is undefined.
        seconds: Seconds by evaluator.
    """

    step: int
    epoch: float
    metrics: Mapping[str, float]
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def total_seconds(self) -> float:
        """Seconds that all evaluators of this step took together."""
        return math.fsum(self.seconds.values())

    def log_entry(self) -> dict[str, float]:
        """The record as the Trainer logs it: `eval_<evaluator>_<metric>` and `eval_<evaluator>_runtime`."""
        entry = {f"{PREFIX}{key}": value for key, value in self.metrics.items()}
        entry.update({f"{PREFIX}{name}{_RUNTIME}": round(value, 4) for name, value in self.seconds.items()})
        return entry


class History:
    """The records of a run in ascending order of steps, one for each step at which anything ran.

    Args:
        records: Records in any order; records of one step are merged, later values winning.
    """

    def __init__(self, records: Iterable[EvalRecord] = ()) -> None:
        merged: dict[int, EvalRecord] = {}
        for record in records:
            before = merged.get(record.step)
            if before is not None:
                record = EvalRecord(
                    step=record.step,
                    epoch=record.epoch,
                    metrics={**before.metrics, **record.metrics},
                    seconds={**before.seconds, **record.seconds},
                )
            merged[record.step] = record
        self.records: tuple[EvalRecord, ...] = tuple(merged[step] for step in sorted(merged))

    @classmethod
    def from_log(cls, log_history: Iterable[Mapping[str, Any]]) -> History:
        """Read `state.log_history`.

        The Trainer's own evaluations (those with `samples_per_second`) and the training loss are left out.

        Args:
            log_history: Entries as `TrainerState` keeps them.

        Returns:
            The history of what this package logged.
        """
        return cls(record for entry in log_history if (record := _record_of(entry)) is not None)

    @classmethod
    def read(cls, path: str | Path) -> History:
        """Read a run from disk.

        Args:
            path: An `output_dir`, a checkpoint folder, a `trainer_state.json` or an `evaluation_run.json`. In an
                `output_dir` the latter is read, else the newest checkpoint.

        Returns:
            The history of that run.

        Raises:
            FileNotFoundError: When there is none of these at or below `path`.
            ValueError: When the file is not the log of a run; names it.
        """
        state_path = find_log(Path(path))
        try:
            return cls.from_log(json.loads(state_path.read_text(encoding="utf-8"))["log_history"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{state_path} is not the log of a run or broken ({type(error).__name__}).") from error

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[EvalRecord]:
        return iter(self.records)

    def __bool__(self) -> bool:
        return bool(self.records)

    def at(self, step: int) -> EvalRecord | None:
        """The record of one step, or None when nothing ran there."""
        return next((record for record in self.records if record.step == step), None)

    def upto(self, step: int) -> History:
        """The history as it was once `step` was done."""
        return History(record for record in self.records if record.step <= step)

    def metric_names(self) -> list[str]:
        """Names of all metrics, in the order in which they first appeared."""
        return list(self._names)

    @cached_property
    def _names(self) -> dict[str, None]:
        return dict.fromkeys(key for record in self.records for key in record.metrics)

    def values(self, metric: str) -> list[tuple[int, float]]:
        """`(step, value)` wherever the metric was measured, ascending."""
        return [(record.step, record.metrics[metric]) for record in self.records if metric in record.metrics]

    def improvements(self, metric: str, greater_is_better: bool, min_delta: float = 0.0) -> list[EvalRecord]:
        """The records that were a new best when they came, ascending; the last of them is the best.

        Step 0 has no checkpoint, so it takes no part. NaN never wins, and a value equal to the best is no improvement.

        Args:
            metric: Log key without "eval_".
            greater_is_better: Whether higher values are better.
            min_delta: Only a value that is better by more than this takes the place of the best, >= 0.

        Returns:
            Records in the order of steps; empty when nothing finite was measured after step 0.
        """
        found: list[EvalRecord] = []
        best = math.nan
        for record in self.records:
            value = record.metrics.get(metric, math.nan)
            if record.step > 0 and is_better(value, best, greater_is_better, min_delta):
                found.append(record)
                best = value
        return found

    def best(self, metric: str, greater_is_better: bool = True, min_delta: float = 0.0) -> EvalRecord | None:
        """The record of the first best value after step 0, or None when there is no finite value."""
        improvements = self.improvements(metric, greater_is_better, min_delta)
        return improvements[-1] if improvements else None

    def without_improvement(
        self, metric: str, greater_is_better: bool, threshold: float = 0.0, min_delta: float = 0.0
    ) -> int:
        """How many evaluations of a metric came since the last that improved the best by more than `threshold`.

        Counts as transformers' `EarlyStoppingCallback` does: the best itself moves with every improvement,
        also a small one unless `min_delta` keeps it.

        Args:
            metric: Log key without "eval_".
            greater_is_better: Whether higher values are better.
            threshold: Least improvement that counts, >= 0.
            min_delta: Only a value that is better by more than this takes the place of the best, >= 0.

        Returns:
            The number of evaluations, >= 0.
        """
        best, count = math.nan, 0
        for step, value in self.values(metric):
            if step == 0:
                continue
            better = is_better(value, best, greater_is_better, min_delta)
            enough = better and (math.isnan(best) or abs(value - best) > threshold)
            count = 0 if enough else count + 1
            best = value if better else best
        return count

    def to_frame(self) -> pandas.DataFrame:
        """A row a step: `epoch`, `steps`, `seconds`, then one column a metric. Needs pandas."""
        import pandas

        rows = [
            {"epoch": record.epoch, "steps": record.step, "seconds": record.total_seconds, **record.metrics}
            for record in self.records
        ]
        return pandas.DataFrame(rows, columns=["epoch", "steps", "seconds", *self.metric_names()])


class LogReader:
    """Reads a log that only grows, each entry once: what an evaluation costs does not grow with those before it."""

    def __init__(self) -> None:
        self._read: list[tuple[Mapping[str, Any], EvalRecord | None]] = []
        self._history = History()

    def read(self, log_history: Sequence[Mapping[str, Any]]) -> History:
        """As `History.from_log`; entries that are still the same objects are taken as read before."""
        pairs = zip(self._read, log_history, strict=False)
        num_same = sum(1 for _ in takewhile(lambda pair: pair[0][0] is pair[1], pairs))
        if num_same < max(len(self._read), len(log_history)):
            del self._read[num_same:]
            self._read += [(entry, _record_of(entry)) for entry in log_history[num_same:]]
            self._history = History(record for _, record in self._read if record is not None)
        return self._history


def is_better(value: float, best: float, greater_is_better: bool, min_delta: float = 0.0) -> bool:
    """Whether `value` beats `best` by more than `min_delta`.

    NaN never wins, and anything finite beats a best of NaN (none so far).

    Examples:
        >>> is_better(0.5, float("nan"), True), is_better(float("nan"), 0.1, True), is_better(0.1, 0.5, False)
        (True, False, True)
        >>> is_better(0.5, 0.25, True, min_delta=0.25), is_better(0.75, 0.25, True, min_delta=0.25)
        (False, True)
    """
    if not math.isfinite(value):
        return False
    return math.isnan(best) or (value - best if greater_is_better else best - value) > min_delta


def find_log(path: Path) -> Path:
    """The file with the log of a run: its own, else the newest whole `trainer_state.json` at or below a path.

    Raises:
        FileNotFoundError: When there is none.
    """
    if path.is_file():
        return path
    if (path / RUN_FILE).is_file():
        return path / RUN_FILE
    newest = str(path) if is_complete(path) else last_checkpoint(path)
    if newest is None:
        raise FileNotFoundError(
            f"no {RUN_FILE} and no {STATE_FILE} at {path}, nor in a checkpoint-* folder below it. Is this the "
            "output_dir of a run?"
        )
    return Path(newest) / STATE_FILE


def _record_of(entry: Mapping[str, Any]) -> EvalRecord | None:
    runtimes = {
        key: key[len(PREFIX) : -len(_RUNTIME)] for key in entry if key.startswith(PREFIX) and key.endswith(_RUNTIME)
    }
    if not runtimes or any(key.endswith("_samples_per_second") for key in entry):
        return None
    seconds = {name: _number(entry[key]) for key, name in runtimes.items()}
    metrics = {
        key[len(PREFIX) :]: _number(value)
        for key, value in entry.items()
        if key.startswith(PREFIX) and key not in runtimes
    }
    return EvalRecord(int(entry["step"]), float(entry.get("epoch") or 0.0), metrics, seconds)


def _number(value: Any) -> float:
    # Strict JSON has no NaN: undefined values are written as null.
    return math.nan if value is None else float(value)
