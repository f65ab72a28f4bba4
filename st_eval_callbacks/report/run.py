"""A finished or running training run, read from its folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..checkpoints import checkpoint_folders, is_complete
from ..history import EvalRecord, History
from ..writers.run_file import EvaluatorInfo, RunInfo, read_run


@dataclass(frozen=True)
class Run:
    """What can be told of a run.

    Attributes:
        folder: Its `output_dir`.
        history: Its evaluations; of a checkpoint, those up to it.
        info: What was evaluated how.
    """

    folder: Path
    history: History
    info: RunInfo

    @classmethod
    def read(cls, path: str | Path) -> Run:
        """Read a run.

        Args:
            path: An `output_dir`, a checkpoint folder in one, or a file with the log.

        Returns:
            The run. Without `evaluation_run.json` its evaluators are told by the keys of the log.

        Raises:
            FileNotFoundError: When nothing was logged there.
        """
        path = Path(path)
        history = History.read(path)
        folder = path
        if path.is_file():
            folder = path.parent
        if folder.name.startswith("checkpoint-"):
            folder = folder.parent
        return cls(folder, history, read_run(folder) or _told_by_log(history))

    @property
    def best(self) -> EvalRecord | None:
        """The record of the best by the deciding metric, or None."""
        info = self.info
        if info.deciding_metric is None:
            return None
        return self.history.best(info.deciding_metric, info.greater_is_better, info.min_delta)

    @property
    def checkpoints(self) -> dict[int, Path]:
        """Whole checkpoints by step, ascending."""
        return {step: path for step, path in checkpoint_folders(self.folder) if is_complete(path)}

    def evaluator_of(self, metric: str) -> EvaluatorInfo | None:
        """The evaluator that measures a metric."""
        return next((one for one in self.info.evaluators if metric in one.metrics), None)


def _told_by_log(history: History) -> RunInfo:
    """Evaluators as far as `eval_<evaluator>_runtime` tells them; the longest name that fits owns a metric."""
    names = sorted({name for record in history for name in record.seconds}, key=len, reverse=True)
    owned: dict[str, list[str]] = {name: [] for name in names}
    for metric in history.metric_names():
        owner = next((name for name in names if metric == name or metric.startswith(f"{name}_")), None)
        if owner is not None:
            owned[owner].append(metric)
    evaluators = []
    for name, metrics in reversed(owned.items()):
        primary = metrics[0] if metrics else None
        greater = primary is None or not primary.endswith("loss")
        evaluators.append(EvaluatorInfo(name, "", primary, greater, tuple(metrics)))
    return RunInfo(None, True, evaluators=tuple(evaluators))
