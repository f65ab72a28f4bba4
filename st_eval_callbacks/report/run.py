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
            ValueError: When a file of the run cannot be read; names it.
        """
        path = Path(path)
        history = History.read(path)
        folder = path.parent if path.is_file() else path
        if (checkpoint := checkpoint_of(path)) is not None:
            folder = checkpoint.parent
        return cls(folder, history, read_run(folder) or _told_by_log(history))

    @classmethod
    def of(cls, source: Run | History | str | Path) -> Run:
        """The run that is meant: itself, one of which only the history is there, or one to be read from a path."""
        if isinstance(source, Run):
            return source
        if isinstance(source, History):
            return cls(Path(), source, _told_by_log(source))
        return cls.read(source)

    @property
    def best(self) -> EvalRecord | None:
        """The record of the best by the deciding metric, or None."""
        metric = self.info.deciding_metric
        return None if metric is None else self.best_of(metric)

    @property
    def checkpoints(self) -> dict[int, Path]:
        """Whole checkpoints by step, ascending."""
        return {step: path for step, path in checkpoint_folders(self.folder) if is_complete(path)}

    def evaluator_of(self, metric: str) -> EvaluatorInfo | None:
        """The evaluator that measures a metric."""
        return next((one for one in self.info.evaluators if metric in one.metrics), None)

    def shown_metrics(self, evaluator: EvaluatorInfo) -> list[str]:
        """What is shown of an evaluator: its primary metric, those of its parts, and the deciding one if it is its."""
        deciding = self.info.deciding_metric
        names = [evaluator.primary_metric, *evaluator.parts, deciding if deciding in evaluator.metrics else None]
        return list(dict.fromkeys(name for name in names if name is not None))

    def greater_is_better(self, metric: str) -> bool:
        """Whether higher values of a metric are better: by the run, by its evaluator, else by its name."""
        if metric == self.info.deciding_metric:
            return self.info.greater_is_better
        primaries: dict[str | None, bool] = {}
        for one in self.info.evaluators:
            primaries.update(one.parts)
            primaries[one.primary_metric] = one.greater_is_better
        return primaries.get(metric, not metric.endswith("loss"))

    def best_of(self, metric: str) -> EvalRecord | None:
        """The record of the best of any metric; of the deciding one, that which was kept as the best."""
        min_delta = self.info.min_delta if metric == self.info.deciding_metric else 0.0
        return self.history.best(metric, self.greater_is_better(metric), min_delta)


def checkpoint_of(path: Path) -> Path | None:
    """The checkpoint folder that a path is, or is a file of, also as "." in it; None for anything else."""
    folder = path.parent if path.is_file() else path
    if folder.name in ("", ".."):
        folder = folder.resolve()
    return folder if folder.name.startswith("checkpoint-") else None


def _told_by_log(history: History) -> RunInfo:
    """Evaluators as far as `eval_<evaluator>_runtime` tells them; the longest name that fits owns a metric."""
    owned: dict[str, list[str]] = {name: [] for record in history for name in record.seconds}
    names = sorted(owned, key=len, reverse=True)
    for metric in history.metric_names():
        owner = next((name for name in names if metric == name or metric.startswith(f"{name}_")), None)
        if owner is not None:
            owned[owner].append(metric)
    evaluators = []
    for name, metrics in owned.items():
        primary = metrics[0] if metrics else None
        greater = primary is None or not primary.endswith("loss")
        evaluators.append(EvaluatorInfo(name, "", primary, greater, tuple(metrics)))
    return RunInfo(None, True, evaluators=tuple(evaluators))
