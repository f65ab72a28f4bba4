"""How far a student's embeddings are from those of a teacher."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from ..encoding import Embeddings, encode_once
from ..encoding.tables import truncated
from ..kernels.sparse_rows import SparseRows
from ..kernels.tables import pairwise
from ..scorers import Scorer, Wish
from .base import Evaluator, warn_nonfinite
from .inputs import check_equal_lengths


class MSEEvaluator(Evaluator):
    """Mean squared error between a student's embeddings and a teacher's, times 100.

    The mean goes over all texts and dimensions. `negative_mse` is its negative, at most 0, so higher is better; the
    CSV holds the error itself. The teacher embeds its texts once, at construction; its embeddings are kept in main
    memory, in its own precision, and compared in float32 (float64 if a model gives that). The definition is that of
    sentence-transformers.

    Args:
        source_sentences: Texts that the teacher embeds.
        target_sentences: For each the text that the student embeds: the same, or its translation.
        teacher_model: A model of embeddings as wide as the student's, or wider with `truncate_dim`.
        show_progress_bar: Whether encoding shows a bar.
        batch_size: Most texts a batch.
        name: Put before every metric.
        write_csv: Whether a call with `output_path` appends to the CSV.
        truncate_dim: Leading dimensions to compare, of the teacher and of the student; None takes each model's own.
        keep_per_query: Whether to keep one value for each text; see `Evaluator`.
        truncate_dims: Several sizes to measure from one encoding, such as [384, 128]; see `Evaluator`.

    Raises:
        ValueError: When there are no texts, the lengths differ, or there is no teacher; at a call, when teacher and
            student differ in kind or width.
        TypeError: When the teacher has no `encode`.
    """

    kinds: ClassVar[tuple[str, ...]] = ("dense", "sparse")

    def __init__(
        self,
        source_sentences: Sequence[Any],
        target_sentences: Sequence[Any],
        teacher_model: Any = None,
        show_progress_bar: bool | None = False,
        batch_size: int = 32,
        name: str = "",
        write_csv: bool = True,
        truncate_dim: int | None = None,
        *,
        keep_per_query: bool = False,
        truncate_dims: Sequence[int] | None = None,
    ) -> None:
        super().__init__(
            name=name,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            write_csv=write_csv,
            truncate_dim=truncate_dim,
            keep_per_query=keep_per_query,
            truncate_dims=truncate_dims,
        )
        check_equal_lengths(self.label, source_sentences=source_sentences, target_sentences=target_sentences)
        self.target_sentences = target_sentences
        # Two underscores without a name: as sentence-transformers calls the file.
        self.csv_file = f"mse_evaluation_{name}_results.csv"
        self.primary_metric = self._named("negative_mse")
        self._teacher_kind: str | None = None if teacher_model is None else self.scorer(teacher_model).kind
        self._teacher = embed_by_teacher(self, teacher_model, source_sentences)

    def at_size(self, dim: int) -> Any:
        """This evaluator for one size, with as much of the teacher's embeddings."""
        made = super().at_size(dim)
        made._teacher = Embeddings(truncated(self._teacher.table, dim), self._teacher.index)
        return made

    @property
    def description(self) -> str:
        """Heading in the model card."""
        return "Knowledge Distillation"

    @property
    def source_embeddings(self) -> NDArray[Any]:
        """(P, d) embeddings of the teacher, a copy in float32 or float64."""
        return as_array(self._teacher.rows())

    def scorer(self, model: Any) -> Scorer:
        """The model behind the interface that tasks use.

        Raises:
            TypeError: When this task makes no sense for this kind of model, or the teacher is of another kind.
        """
        scorer, teacher = super().scorer(model), getattr(self, "_teacher_kind", None)
        if teacher not in (None, scorer.kind):
            raise TypeError(
                f"{self.label}: {type(model).__name__} is a {scorer.kind} model, and the teacher a {teacher} one."
            )
        return scorer

    def metric_keys(self, scorer: Scorer) -> list[str]:
        """`negative_mse`."""
        return ["negative_mse"]

    def csv_columns(self, scorer: Scorer) -> list[tuple[str, str]]:
        """The error, positive."""
        return [("MSE", "negative_mse")]

    def csv_values(self, scorer: Scorer, metrics: Mapping[str, float]) -> list[float]:
        """The error, positive."""
        return [-metrics["negative_mse"]]

    def title(self, when: str) -> str:
        """The line logged before it runs."""
        return f"MSE evaluation (lower = better) on the {self.name} dataset{when}:"

    def log_lines(self, scorer: Scorer, metrics: Mapping[str, float]) -> Sequence[str]:
        """The error, positive."""
        return [f"MSE (*100):\t{-metrics['negative_mse']:4f}"]

    def wants(self, scorer: Scorer) -> list[Wish]:
        """The sentences of the student."""
        return [Wish(self.target_sentences, self.options())]

    def score(self, scorer: Scorer) -> dict[str, float]:
        """Compare the student's embeddings with the teacher's."""
        student = scorer.embed(self.target_sentences, self.options())
        errors = squared_errors(self.label, self._teacher, student)
        self.keep(range(len(errors)), {"negative_mse": -errors})
        if num_unknown := int(errors.isnan().sum()):
            warn_nonfinite(self.label, num_unknown, len(errors), "texts have errors that")
        return {"negative_mse": -float(errors.mean())}


def embed_by_teacher(evaluator: Evaluator, teacher_model: Any, sentences: Sequence[Any]) -> Embeddings:
    """Embeddings of a fixed teacher, in main memory.

    Args:
        evaluator: Whose settings hold.
        teacher_model: The teacher.
        sentences: P inputs.

    Returns:
        The table of distinct inputs and the row of each input.

    Raises:
        ValueError: When there is no teacher.
        TypeError: When the teacher is of a kind that the task does not take, or has no `encode`.
    """
    if teacher_model is None:
        raise ValueError(f"{evaluator.label}: there is no teacher_model to compare with.")
    evaluator.scorer(teacher_model)
    table, index = encode_once(teacher_model, sentences, evaluator.options())
    table = table.cpu()
    # Contiguous: a slice would keep the dimensions that were cut off.
    return Embeddings(table.contiguous() if isinstance(table, torch.Tensor) else table, index.cpu())


def squared_errors(label: str, teacher: Embeddings, student: Embeddings) -> torch.Tensor:
    """Squared error of each text, as the mean over the dimensions, times 100.

    Args:
        label: How messages name the evaluator.
        teacher: P embeddings of width d.
        student: P embeddings of width d, on any device.

    Returns:
        (P,) float64 errors, NaN where one is not finite.

    Raises:
        ValueError: When the kinds or widths differ.
    """
    dim = teacher.table.shape[1]
    if student.table.shape[1] != dim:
        raise ValueError(
            f"{label}: the teacher's embeddings have {dim} dimensions, the model's {student.table.shape[1]}; "
            "truncate_dim compares as many as both have."
        )
    device = student.table.device
    table, index = teacher.table.to(device), teacher.index.to(device)
    # Distances in one pass over rows read by index; their squares, summed in float64, are those of the differences.
    distances = pairwise(["euclidean"], table, student.table, index, student.index)["euclidean"]
    errors: torch.Tensor = distances.double().square() * (100 / dim)
    return errors.masked_fill(~errors.isfinite(), math.nan)


def as_array(embeddings: torch.Tensor | SparseRows) -> NDArray[Any]:
    """Embeddings as a dense numpy array, which has no bfloat16."""
    if isinstance(embeddings, SparseRows):
        embeddings = embeddings.dense()
    return np.asarray(embeddings if embeddings.dtype == torch.float64 else embeddings.float())
