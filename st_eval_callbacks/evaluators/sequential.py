"""Several evaluators as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sentence_transformers.base.evaluation import SequentialEvaluator as BaseSequentialEvaluator

from ..encoding import is_open, session, untouched
from ..kernels.similarity import SIMILARITY_NAMES
from ..scorers import Scorer
from .base import Evaluator
from .together import encode_together

_SCORE = "sequential_score"


def last(scores: Sequence[float]) -> float:
    """The last of several scores: what decides unless said otherwise."""
    return scores[-1]


class SequentialEvaluator(BaseSequentialEvaluator):
    """Runs evaluators one after another; what several of them ask for is encoded once.

    The result holds the metrics of all and `sequential_score`, which `main_score_function` makes of their primary
    metrics and which decides. In a sequence inside a sequence only the outer one's `sequential_score` is kept. The
    model card shows the evaluators, not the sequence.

    Args:
        evaluators: Bundled evaluators, those of sentence-transformers, or callables with the same signature. Of one
            that returns a number, the number is kept as `evaluator_<place>`.
        main_score_function: Makes one score of the evaluators' primary metrics, in their order; the last by default.

    Raises:
        ValueError: When there are none, or two would write the same keys whatever the model.
    """

    def __init__(
        self, evaluators: Iterable[Callable[..., Any]], main_score_function: Callable[[list[float]], float] = last
    ) -> None:
        super().__init__(evaluators, main_score_function)  # type: ignore[arg-type]
        if not self.evaluators:
            raise ValueError(f"{type(self).__name__}: no evaluators were given.")
        self.primary_metric = _SCORE
        # Their scores are the input of the main score, so it points where all of them point.
        self.greater_is_better = any(getattr(one, "greater_is_better", True) for one in self.evaluators)
        self._refuse_certain_duplicates()

    @property
    def metric_names(self) -> Callable[[Any], list[str]] | None:
        """Tells the keys of the result for a model before it runs; None when an evaluator in it cannot.

        Called with the model, it raises what the evaluators raise, and a ValueError when two would write the same
        keys.
        """
        tellers = [getattr(evaluator, "metric_names", None) for evaluator in self.evaluators]
        return self._metric_names if all(callable(tell) for tell in tellers) else None

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: float = -1, steps: int = -1
    ) -> dict[str, float]:
        """Evaluate a model with each evaluator.

        Args:
            model: The model.
            output_path: Folder for what the evaluators write; None writes nothing.
            epoch: Passes over the training data done; -1 outside of training.
            steps: Optimizer steps done; -1 at the end of an epoch.

        Returns:
            The metrics of all evaluators and `sequential_score`.

        Raises:
            TypeError: When an evaluator makes no sense for this kind of model.
            ValueError: When two evaluators write the same keys.
        """
        if self.metric_names is not None:
            self.metric_names(model)
        merged: dict[str, float] = {}
        scores: list[float] = []
        alone = not is_open()
        with untouched(model), session():
            if alone:
                encode_together(self.evaluators, model)
            for place, evaluator in enumerate(self.evaluators):
                result = cast(Any, evaluator)(model, output_path, epoch, steps)
                metrics = result if isinstance(result, Mapping) else {f"evaluator_{place}": result}
                scores.append(metrics[_primary(evaluator, metrics)])
                _add(merged, {key: metrics[key] for key in _own(evaluator, metrics)}, evaluator)
        return {**merged, _SCORE: float(self.main_score_function(scores))}

    def _metric_names(self, model: Any) -> list[str]:
        merged: dict[str, None] = {}
        for evaluator in cast(list[Any], self.evaluators):
            _add(merged, dict.fromkeys(_own(evaluator, evaluator.metric_names(model))), evaluator)
        return [*merged, _SCORE]

    def _refuse_certain_duplicates(self) -> None:
        """Raise when the bundled evaluators share keys under every similarity function a model may have."""
        errors = []
        for similarity in SIMILARITY_NAMES:
            merged: dict[str, None] = {}
            try:
                for evaluator in self.evaluators:
                    _add(merged, dict.fromkeys(_foreseen(evaluator, similarity)), evaluator)
            except ValueError as error:
                errors.append(error)
        if len(errors) == len(SIMILARITY_NAMES):
            raise errors[0]


@dataclass(frozen=True)
class _AnyScorer:
    """Stands for the scorer of a model that is not known yet."""

    kind: str
    similarity_fn_name: str


def _foreseen(evaluator: Any, similarity: str) -> list[str]:
    if not isinstance(evaluator, Evaluator):
        return []
    if evaluator.truncate_dims:
        return [key for dim in evaluator.truncate_dims for key in _foreseen(evaluator.at_size(dim), similarity)]
    scorer = cast(Scorer, _AnyScorer(evaluator.kinds[0], similarity))
    try:
        keys = evaluator.metric_keys(scorer)
    except (AttributeError, ValueError):
        # Its keys depend on more of the model, or it does not fit this similarity: then it is told when the model is.
        return []
    return [f"{evaluator.name}_{key}" if evaluator.name else key for key in keys]


def _own(evaluator: Any, keys: Iterable[str]) -> list[str]:
    inner = isinstance(evaluator, BaseSequentialEvaluator)
    return [key for key in keys if not (inner and key == _SCORE)]


def _primary(evaluator: Any, metrics: Mapping[str, float]) -> str:
    primary = getattr(evaluator, "primary_metric", None)
    # Some of sentence-transformers' evaluators state a primary metric without the prefix that their result has.
    for key in (primary, f"{getattr(evaluator, 'name', '')}_{primary}"):
        if key in metrics:
            return str(key)
    return next(iter(metrics))


def _add(merged: dict[str, Any], metrics: Mapping[str, Any], evaluator: Any) -> None:
    shared = [key for key in metrics if key in merged]
    if shared:
        raise ValueError(
            f"SequentialEvaluator: {type(evaluator).__name__} and an evaluator before it both measure {shared[0]!r}, "
            "so one would overwrite the other: give them different names (name=...)."
        )
    merged.update(metrics)
