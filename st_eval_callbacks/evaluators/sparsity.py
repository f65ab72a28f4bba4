"""What evaluators of sparse models measure besides their task: how sparse the embeddings are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import torch

from ..encoding import EncodeOptions
from ..kernels.sparsity import Usage, sparsity_ratio
from ..scorers import Scorer, SparseScorer
from .base import Evaluator

_MEASURES = ("active_dims", "sparsity_ratio")


class Sparsity(Evaluator):
    """Adds sparsity to the metrics of a task, from the embeddings that the task was measured with.

    `active_dims` is the mean number of components that are not 0, `sparsity_ratio` the mean share of those that are;
    both as in sentence-transformers. A subclass names the sides it tells apart and says which texts stand on each.

    Args:
        *args: Those of the task.
        max_active_dims: Most components of an embedding that are not 0; None takes the model's own limit.
        **kwargs: Those of the task.

    Raises:
        ValueError: When `max_active_dims` is below 1.
    """

    kinds: ClassVar[tuple[str, ...]] = ("sparse",)
    sides: ClassVar[tuple[str, ...]] = ("",)
    """Sides of the task by what stands before their keys."""

    def __init__(self, *args: Any, max_active_dims: int | None = None, **kwargs: Any) -> None:
        if max_active_dims is not None and max_active_dims < 1:
            raise ValueError(f"max_active_dims={max_active_dims}: at least 1, or None for the model's own limit.")
        self.max_active_dims = max_active_dims
        super().__init__(*args, **kwargs)

    def sparsity(self, scorer: SparseScorer) -> dict[str, float]:
        """Value of each of `sparsity_keys`; called after the task was measured, while its embeddings are at hand."""
        raise NotImplementedError(f"{type(self).__name__} must say how sparse its embeddings are: sparsity(scorer).")

    @property
    def sparsity_keys(self) -> list[str]:
        """Keys of what is added, in sentence-transformers' order."""
        return [f"{side}_{measure}" if side else measure for side in self.sides for measure in _MEASURES]

    def title(self, when: str) -> str:
        """The line logged before it runs, which names the task alone, as in sentence-transformers."""
        return super().title(when).removeprefix("Sparse")

    def options(self, **given: Any) -> EncodeOptions:
        """How texts are encoded: the evaluator's settings, and what is given here."""
        return super().options(**{"max_active_dims": self.max_active_dims, **given})

    def metric_keys(self, scorer: Scorer) -> list[str]:
        """Those of the task, then those of sparsity."""
        return [*super().metric_keys(scorer), *self.sparsity_keys]

    def score(self, scorer: Scorer) -> dict[str, float]:
        """Measure the task, then the embeddings it was measured with."""
        metrics = super().score(scorer)
        found = self.sparsity(cast(SparseScorer, scorer))
        return {**metrics, **{key: found[key] for key in self.sparsity_keys}}

    def csv_columns(self, scorer: Scorer) -> list[tuple[str, str]]:
        """Columns of the task, then one a key of sparsity."""
        added = self.sparsity_keys
        columns = [column for column in super().csv_columns(scorer) if column[1] not in added]
        return columns + [(key, key) for key in added]

    def log_lines(self, scorer: Scorer, metrics: Mapping[str, float]) -> Sequence[str]:
        """Lines of the task, then one a side."""
        return [*super().log_lines(scorer, metrics), *self.sparsity_lines(metrics)]

    def sparsity_lines(self, metrics: Mapping[str, float]) -> list[str]:
        """A line a side."""
        lines = []
        for side in self.sides:
            active, ratio = (metrics[f"{side}_{measure}" if side else measure] for measure in _MEASURES)
            title = f"Model {side.capitalize()} Sparsity" if side else "Model Sparsity"
            lines.append(f"{title}: Active Dimensions: {active:.1f}, Sparsity Ratio: {ratio:.4f}")
        return lines

    def get_config_dict(self) -> dict[str, Any]:
        """Settings that the model card shows."""
        limit = {} if self.max_active_dims is None else {"max_active_dims": self.max_active_dims}
        return {**super().get_config_dict(), **limit}


def sparsity_of(
    scorer: SparseScorer, inputs: Sequence[Any], options: EncodeOptions, lengths: Sequence[int] | None = None
) -> tuple[float, float]:
    """Mean active dimensions and sparsity ratio of some inputs.

    Args:
        scorer: The model.
        inputs: P inputs, at least one.
        options: How they are encoded.
        lengths: Numbers of inputs that are averaged by themselves first, one after another; None for all at once.

    Returns:
        Both means.
    """
    counts, width = scorer.active_dims(inputs, options)
    parts = torch.split(counts.double(), [len(counts)] if lengths is None else list(lengths))
    means = [float(part.mean()) for part in parts]
    active = sum(means) / len(means)
    return active, sparsity_ratio(active, width)


def by_side(sides: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Values by key from the pairs that `sparsity_of` returns."""
    return {
        f"{side}_{measure}" if side else measure: value
        for side, values in sides.items()
        for measure, value in zip(_MEASURES, values, strict=True)
    }


def usage_values(query: Usage, corpus: Usage) -> dict[str, float]:
    """Sparsity of queries and documents, and `avg_flops`: how many columns a query and a document have in common."""
    values = by_side(
        {side: (one.active_dims, one.sparsity_ratio) for side, one in zip(SEARCH_SIDES, (query, corpus), strict=True)}
    )
    return {**values, "avg_flops": query.flops(corpus)}


SEARCH_SIDES = ("query", "corpus")
