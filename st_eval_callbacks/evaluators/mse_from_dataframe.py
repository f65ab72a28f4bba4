"""How far a student's embeddings are from those of a teacher, over several pairs of languages."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from ..encoding import Embeddings
from ..encoding.tables import truncated
from ..scorers import Scorer, Wish
from .base import Evaluator, warn_nonfinite
from .mse import as_array, embed_by_teacher, squared_errors

logger = logging.getLogger(__name__)


class MSEEvaluatorFromDataFrame(Evaluator):
    """Mean squared error between a student's and a teacher's embeddings of parallel sentences, times 100.

    For each pair of languages the mean goes over all sentences and dimensions. `negative_mse` is the negative of the
    mean over the pairs of languages, at most 0, so higher is better; the CSV holds the error of each pair. The teacher
    embeds its sentences once, at construction. The definition is that of sentence-transformers.

    Args:
        dataframe: Rows of parallel sentences, a dictionary by language code each: `[{"en": ..., "es": ...}, ...]`.
            Where a sentence of a pair is blank or None, the row is left out for that pair, and counted in a warning.
        teacher_model: A model of embeddings as wide as the student's, or wider with `truncate_dim`.
        combinations: Pairs of language codes: that of the teacher's sentences, that of the student's.
        batch_size: Most texts a batch.
        name: Put before every metric.
        write_csv: Whether a call with `output_path` appends to the CSV.
        truncate_dim: Leading dimensions to compare, of the teacher and of the student; None takes each model's own.
        keep_per_query: Whether to keep one value for each sentence; see `Evaluator`.
        truncate_dims: Several sizes to measure from one encoding, such as [384, 128]; see `Evaluator`.

    Raises:
        ValueError: When there are no combinations, one has no sentences or names a language that a row lacks, or there
            is no teacher; at a call, when teacher and student differ in width.
        TypeError: When the teacher has no `encode`.
    """

    default_batch_size = 8

    def __init__(
        self,
        dataframe: Iterable[Mapping[str, str | None]],
        teacher_model: Any,
        combinations: Sequence[tuple[str, str]],
        batch_size: int = 8,
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
            write_csv=write_csv,
            truncate_dim=truncate_dim,
            keep_per_query=keep_per_query,
            truncate_dims=truncate_dims,
        )
        self.combinations = [(source, target) for source, target in combinations]
        if not self.combinations:
            raise ValueError(f"{self.label}: there is nothing to evaluate, combinations are empty.")
        self.data = self._parallel(list(dataframe))
        self.csv_file = "_".join(["mse_evaluation", *filter(None, [name]), "results.csv"])
        self.primary_metric = self._named("negative_mse")
        self._errors: list[float] = []
        self._sources = [sentence for pair in self.combinations for sentence in self.data[pair][0]]
        self._teacher = embed_by_teacher(self, teacher_model, self._sources)

    def at_size(self, dim: int) -> Any:
        """This evaluator for one size, with as much of the teacher's embeddings."""
        made = super().at_size(dim)
        made._teacher = Embeddings(truncated(self._teacher.table, dim), self._teacher.index)
        return made

    def _parallel(self, rows: list[Mapping[str, str | None]]) -> dict[tuple[str, str], tuple[list[str], list[str]]]:
        data = {}
        for source, target in self.combinations:
            for number, row in enumerate(rows):
                missing = [language for language in (source, target) if language not in row]
                if missing:
                    raise ValueError(f"{self.label}: row {number} has no {missing[0]!r}, only {', '.join(row)}.")
            pairs = [(row[source] or "", row[target] or "") for row in rows]
            complete = [(left, right) for left, right in pairs if left.strip() and right.strip()]
            if not complete:
                raise ValueError(f"{self.label}: no row has a sentence both in {source!r} and in {target!r}.")
            if len(complete) < len(rows):
                logger.warning(
                    "%s: %d of %d rows have no sentence in %r or in %r and are left out of that pair.",
                    self.label,
                    len(rows) - len(complete),
                    len(rows),
                    source,
                    target,
                )
            data[source, target] = ([left for left, _ in complete], [right for _, right in complete])
        return data

    @property
    def description(self) -> str:
        """Heading in the model card."""
        return "Knowledge Distillation"

    @property
    def teacher_embeddings(self) -> dict[str, NDArray[Any]]:
        """The teacher's embedding, (d,), of each source sentence; a copy."""
        return dict(zip(self._sources, as_array(self._teacher.rows()), strict=True))

    def metric_keys(self, scorer: Scorer) -> list[str]:
        """`negative_mse`."""
        return ["negative_mse"]

    def csv_columns(self, scorer: Scorer) -> list[tuple[str, str]]:
        """The error of each pair of languages, positive."""
        return [(f"{source}-{target}", "negative_mse") for source, target in self.combinations]

    def csv_values(self, scorer: Scorer, metrics: Mapping[str, float]) -> list[float]:
        """The error of each pair of languages, positive."""
        return self._errors

    def log_lines(self, scorer: Scorer, metrics: Mapping[str, float]) -> Sequence[str]:
        """Two lines a pair of languages."""
        lines = []
        for (source, target), error in zip(self.combinations, self._errors, strict=True):
            lines += [f"MSE evaluation on {self.name} dataset - {source}-{target}:", f"MSE (*100):\t{error:4f}"]
        return lines

    def wants(self, scorer: Scorer) -> list[Wish]:
        """The sentences of the student, in all languages."""
        return [Wish(self.data[pair][1], self.options()) for pair in self.combinations]

    def score(self, scorer: Scorer) -> dict[str, float]:
        """Compare the student's embeddings with the teacher's, for each pair of languages."""
        # One call for all languages: batches of more even length, and each sentence once.
        targets = [sentence for pair in self.combinations for sentence in self.data[pair][1]]
        student = scorer.embed(targets, self.options())
        each: list[Tensor] = []
        start = 0
        for pair in self.combinations:
            end = start + len(self.data[pair][1])
            sides = [Embeddings(one.table, one.index[start:end]) for one in (self._teacher, student)]
            each.append(squared_errors(self.label, *sides))
            start = end
        self._errors = [float(errors.mean()) for errors in each]
        if self.keep_per_query:
            self._keep_weighted(each)
        if num_unknown := sum(int(errors.isnan().sum()) for errors in each):
            warn_nonfinite(self.label, num_unknown, len(targets), "sentences have errors that")
        return {"negative_mse": -math.fsum(self._errors) / len(self._errors)}

    def _keep_weighted(self, each: list[Tensor]) -> None:
        """Keep errors so that their mean is that of the pairs of languages, of which each weighs the same."""
        total = sum(map(len, each))
        weighted = [errors * (total / (len(errors) * len(each))) for errors in each]
        ids = [
            f"{source}-{target} {place}"
            for (source, target), errors in zip(self.combinations, each, strict=True)
            for place in range(len(errors))
        ]
        self.keep(ids, {"negative_mse": -torch.cat(weighted)})
