"""One evaluator a data set, and aggregates of their metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from tqdm.auto import tqdm  # type: ignore[import-untyped]

from ..encoding import session, untouched
from ..scorers import Scorer
from .base import Evaluator

logger = logging.getLogger(__name__)


class OverDatasets(Evaluator):
    """Base of evaluators made of others. `metric_keys` are those that each of them has after its name.

    Attributes:
        evaluators: One a data set, each with a name.
        aggregate_fn: Makes one value of those of the data sets.
    """

    evaluators: list[Any]
    aggregate_fn: Callable[[list[float]], float]

    _call: tuple[str | None, float, int] = (None, -1, -1)
    _per_dataset: dict[str, float] = {}

    def metric_names(self, model: Any) -> list[str]:
        """Keys of each dataset, then those of the aggregates.

        Args:
            model: The model that will be evaluated.

        Returns:
            Keys as `evaluator(model)` returns them.

        Raises:
            TypeError: When the model is of another kind.
        """
        if self.truncate_dims:
            return super().metric_names(model)
        names = [name for evaluator in self.evaluators for name in evaluator.metric_names(model)]
        return [*names, *super().metric_names(model)]

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: float = -1, steps: int = -1
    ) -> dict[str, float]:
        """Evaluate a model on each dataset; see `Evaluator`.

        Args:
            model: The model.
            output_path: Folder for CSVs and predictions; None writes nothing.
            epoch: Passes over the training data done; -1 outside of training.
            steps: Optimizer steps done; -1 at the end of an epoch.

        Returns:
            The metrics of each dataset, then the aggregates.

        Raises:
            TypeError: When the model is of another kind.
        """
        self._call = (output_path, epoch, steps)
        aggregates = super().__call__(model, output_path, epoch, steps)
        if self.truncate_dims:
            return aggregates
        return {**self._per_dataset, **aggregates}

    def score(self, scorer: Scorer) -> dict[str, float]:
        """Run the evaluator of each dataset, then aggregate."""
        self._per_dataset = {}
        keys = self.metric_keys(scorer)
        values: dict[str, list[float]] = {key: [] for key in keys}
        with untouched(scorer.model), session(show_progress_bar=self.show_progress_bar):
            for evaluator in tqdm(self.evaluators, desc="Evaluating datasets", disable=not self.show_progress_bar):
                logger.info("Evaluating %s", evaluator.name)
                metrics = evaluator(scorer.model, *self._call)
                self._per_dataset.update(metrics)
                for key in keys:
                    values[key].append(metrics[f"{evaluator.name}_{key}"])
                self.after_dataset()
        return {key: float(self.aggregate_fn(values[key])) for key in keys}

    def after_dataset(self) -> None:
        """Called once each dataset has been evaluated."""
