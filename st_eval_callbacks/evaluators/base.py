"""What all evaluators share: name, keys, CSV, card, log lines. A task adds one `score(scorer)`."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from sentence_transformers.base.evaluation import BaseEvaluator

from ..distributed import is_main_process
from ..encoding import EncodeOptions, is_open, session, untouched
from ..kernels.similarity import SIMILARITY_NAMES
from ..scorers import Scorer, Wish, scorer_for
from ..writers.tables import append_row
from .items import KeepsItems, joined_items
from .sizes import HasSizes, check_sizes, checked_dims
from .together import encode_together

logger = logging.getLogger(__name__)


class Evaluator(HasSizes, KeepsItems, BaseEvaluator):
    """Base of the bundled evaluators; a `BaseEvaluator` of sentence-transformers, so usable wherever one is.

    A subclass says what it measures with `metric_keys` and `score`. It may also override `primary_key`, `csv_columns`,
    `title`, `log_lines` and `write_extra`, and hand the values of single items to `keep` while it scores.

    Args:
        name: Put before every metric; any text.
        batch_size: Most texts a batch. The class's default leaves the batches to the lengths of the texts.
        show_progress_bar: Whether encoding shows a bar; None shows one when this logger shows INFO.
        write_csv: Whether a call with `output_path` appends to the evaluator's CSV.
        truncate_dim: Leading dimensions of the embeddings to use; None takes the model's own setting.
        truncate_dims: Several such numbers, each below the model's own: all are measured from one encoding. Their keys
            and tables have the number after the name (`<name>_<dim>_<metric>`), the first of them decides.
        keep_per_query: Whether a call keeps one value for each query, pair or item as `per_query`, and with
            `output_path` as a file in its folder `per_query`; see `writers.per_query`.
    """

    kinds: ClassVar[tuple[str, ...]] = ("dense",)
    """Kinds of model this task makes sense for."""
    similarity_names: ClassVar[tuple[str, ...]] = SIMILARITY_NAMES
    """Similarity functions of these kinds."""
    default_batch_size: ClassVar[int] = 32

    csv_file: str

    def __init__(
        self,
        *,
        name: str = "",
        batch_size: int | None = None,
        show_progress_bar: bool | None = False,
        write_csv: bool = True,
        truncate_dim: int | None = None,
        keep_per_query: bool = False,
        truncate_dims: Sequence[int] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.truncate_dims = checked_dims(truncate_dim, truncate_dims)
        batch_size = self.default_batch_size if batch_size is None else batch_size
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}: at least 1.")
        self.name = name
        self.batch_size = batch_size
        self.show_progress_bar = (
            logger.getEffectiveLevel() <= logging.INFO if show_progress_bar is None else show_progress_bar
        )
        self.write_csv = write_csv
        self.truncate_dim = truncate_dim
        self.keep_per_query = keep_per_query

    # -- what a task says --------------------------------------------------------------------------------------------

    def metric_keys(self, scorer: Scorer) -> list[str]:
        """Keys (without the name) that `score` will return for this scorer, before it runs."""
        raise NotImplementedError(f"{type(self).__name__} must say which metrics it measures: metric_keys(scorer).")

    def score(self, scorer: Scorer) -> dict[str, float]:
        """Measure.

        Args:
            scorer: The model behind one interface.

        Returns:
            Value by key, without the name.
        """
        raise NotImplementedError(f"{type(self).__name__} must measure: score(scorer).")

    def wants(self, scorer: Scorer) -> list[Wish]:
        """What `score` will ask the scorer to embed, so that it can be encoded together with what others ask for.

        What is left out here is encoded when `score` asks for it.
        """
        return []

    def primary_key(self, scorer: Scorer, metrics: Mapping[str, float] | None = None) -> str:
        """Key (without the name) of the metric that decides; `metrics` is None before the first run."""
        return self.metric_keys(scorer)[0]

    def csv_columns(self, scorer: Scorer) -> list[tuple[str, str]]:
        """`(header, key)` of each column after `epoch,steps`."""
        return [(key, key) for key in self.metric_keys(scorer)]

    def csv_values(self, scorer: Scorer, metrics: Mapping[str, float]) -> list[float]:
        """Value of each of `csv_columns`; a task overrides it where a column is no metric of the result."""
        return [metrics[key] for _, key in self.csv_columns(scorer)]

    def title(self, when: str) -> str:
        """The line logged before it runs; `when` is "" or says epoch and steps."""
        return f"{type(self).__name__}: Evaluating the model on the {self.name} dataset{when}:"

    def log_lines(self, scorer: Scorer, metrics: Mapping[str, float]) -> Sequence[str]:
        """Lines logged once it ran."""
        return [f"{key}: {value:.4f}" for key, value in metrics.items()]

    def write_extra(self, output_path: Path, scorer: Scorer, epoch: float, steps: int) -> None:
        """Write more than the CSV into `output_path`, such as predictions."""

    # -- what is the same for all ------------------------------------------------------------------------------------

    @property
    def label(self) -> str:
        """How messages name this evaluator."""
        return f"{type(self).__name__}({self.name!r})" if self.name else type(self).__name__

    def options(self, **given: Any) -> EncodeOptions:
        """How texts are encoded: the evaluator's settings, and what is given here."""
        settings: dict[str, Any] = {
            "batch_size": None if self.batch_size == self.default_batch_size else self.batch_size,
            "truncate_dim": max(self.truncate_dims, default=self.truncate_dim),
            "show_progress_bar": self.show_progress_bar,
        }
        return EncodeOptions(**{**settings, **given})

    def scorer(self, model: Any) -> Scorer:
        """The model behind the interface that tasks use.

        Raises:
            TypeError: When this task makes no sense for this kind of model.
        """
        scorer = scorer_for(model)
        if scorer.kind not in self.kinds:
            raise TypeError(
                f"{type(self).__name__} does not fit {type(model).__name__} (a {scorer.kind} model); it takes models "
                f"of kind {', '.join(self.kinds)}.{self._fitting(scorer.kind)}"
            )
        return scorer

    def _fitting(self, kind: str) -> str:
        """A hint at the evaluator of the same task that takes a kind of model; "" where there is none."""
        found = [one.__name__ for one in type(self).__subclasses__() if kind in one.kinds]
        return f" Use {found[0]}." if found else ""

    def metric_names(self, model: Any) -> list[str]:
        """Keys of the result for this model, known before it runs.

        Args:
            model: The model that will be evaluated.

        Returns:
            Keys with the name, as `evaluator(model)` returns them.

        Raises:
            TypeError: When this task makes no sense for this kind of model.
        """
        scorer = self.scorer(model)
        if self.truncate_dims:
            check_sizes(self.label, self.truncate_dims, scorer)
            names = [name for one in self.at_sizes for name in one.metric_names(model)]
            self.primary_metric = self.at_sizes[0].primary_metric
            return names
        self.primary_metric = self._named(self.primary_key(scorer))
        return [self._named(key) for key in self.metric_keys(scorer)]

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: float = -1, steps: int = -1
    ) -> dict[str, float]:
        """Evaluate a model.

        Args:
            model: A model of one of the kinds this task takes, or any object with its `encode`.
            output_path: Folder for what is written; None writes nothing.
            epoch: Passes over the training data done; -1 outside of training.
            steps: Optimizer steps done; -1 at the end of an epoch.

        Returns:
            Value by key. `primary_metric` is one of the keys.

        Raises:
            TypeError: When this task makes no sense for this kind of model.
        """
        scorer = self.scorer(model)
        if self.truncate_dims:
            return self._call_sizes(scorer, output_path, epoch, steps)
        logger.info(self.title(self._when(epoch, steps)))
        self.per_query = None
        alone = not is_open()
        with untouched(model), session(show_progress_bar=self.show_progress_bar):
            if alone:
                encode_together([self], model)
            metrics = {key: float(value) for key, value in self.score(scorer).items()}
        self.settle_items(metrics)
        for line in self.log_lines(scorer, metrics):
            logger.info(line)
        primary = self.primary_key(scorer, metrics)
        self.primary_metric = self._named(primary)
        if output_path is not None and is_main_process():
            self._write(Path(output_path), scorer, metrics, epoch, steps)
        named = {self._named(key): value for key, value in metrics.items()}
        self.store_metrics_in_model_card_data(model, named, epoch, steps)
        return named

    def _call_sizes(self, scorer: Scorer, output_path: str | None, epoch: float, steps: int) -> dict[str, float]:
        """One evaluation a size, over embeddings that are encoded once."""
        check_sizes(self.label, self.truncate_dims, scorer)
        model = scorer.model
        with untouched(model), session(show_progress_bar=self.show_progress_bar):
            encode_together([self], model)
            self.prepare_sizes(scorer)
            metrics: dict[str, float] = {}
            for one in self.at_sizes:
                metrics.update(one(model, output_path, epoch, steps))
        self.primary_metric = self.at_sizes[0].primary_metric
        self.per_query = joined_items([one.per_query for one in self.at_sizes])
        return metrics

    def prepare_sizes(self, scorer: Scorer) -> None:
        """Do what all sizes can share beyond their embeddings, before the evaluators in `at_sizes` run."""

    def store_metrics_in_model_card_data(
        self, model: Any, metrics: dict[str, Any], epoch: float = 0, step: int = 0
    ) -> None:
        """Store the metrics for the model card; a model without a card is no error."""
        if getattr(model, "model_card_data", None) is not None:
            super().store_metrics_in_model_card_data(model, metrics, epoch, step)  # type: ignore[arg-type]

    def get_config_dict(self) -> dict[str, Any]:
        """Settings that the model card shows."""
        return {} if self.truncate_dim is None else {"truncate_dim": self.truncate_dim}

    def _when(self, epoch: float, steps: int) -> str:
        when = ""
        if epoch != -1:
            when = f" after epoch {epoch}" if steps == -1 else f" in epoch {epoch} after {steps} steps"
        return when if self.truncate_dim is None else f"{when} (truncated to {self.truncate_dim})"

    def _write(self, folder: Path, scorer: Scorer, metrics: Mapping[str, float], epoch: float, steps: int) -> None:
        os.makedirs(folder, exist_ok=True)
        if self.write_csv:
            header = ["epoch", "steps", *(column for column, _ in self.csv_columns(scorer))]
            row = [epoch, steps, *self.csv_values(scorer, metrics)]
            append_row(folder / self.file_name(self.csv_file), header, row)
        self.write_items(folder, epoch, steps)
        self.write_extra(folder, scorer, epoch, steps)


def maximum(values: Sequence[float]) -> float:
    """The largest value; NaN when any is NaN, whatever the order.

    Examples:
        >>> maximum([0.5, 0.7]), maximum([0.7, float("nan")]), maximum([float("nan"), 0.7])
        (0.7, nan, nan)
    """
    return math.nan if any(math.isnan(value) for value in values) else max(values)


def warn_nonfinite(label: str, num_nonfinite: int, total: int, what: str = "scores") -> None:
    """The one warning of an evaluation that met NaN or infinity."""
    logger.warning(
        "%s: %d of %d %s are not finite (NaN or infinite), so the metrics they touch are NaN. Look at the model's "
        "outputs: the learning rate, the loss, or half-precision overflow are the usual causes.",
        label,
        num_nonfinite,
        total,
        what,
    )


def warn_undefined(label: str, reason: str) -> None:
    """The one warning of an evaluation whose metrics have no value."""
    logger.warning("%s: a metric is undefined and reported as NaN: %s.", label, reason)
