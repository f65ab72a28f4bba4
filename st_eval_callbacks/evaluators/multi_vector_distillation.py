"""How close a model's scores are to those of a teacher."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from sentence_transformers.base.modality import is_message_dict
from sentence_transformers.util import similarity_fct_name
from torch import Tensor

from ..kernels.correlation import spearman
from ..kernels.maxsim import MAXSIM_NAMES
from ..scorers import Scorer, Wish
from ..scorers.multi_vector import check_no_xtr, known_similarity
from .base import Evaluator, warn_nonfinite, warn_undefined
from .inputs import check_equal_lengths, check_similarity_names

logger = logging.getLogger(__name__)


class MultiVectorDistillationEvaluator(Evaluator):
    """KL divergence and Spearman's correlation between a teacher's scores and those of a MultiVectorEncoder.

    With several documents a query, both are means over the queries: the divergence of the student's distribution over
    the query's documents from the teacher's, and the correlation of the two within the query. Queries for which either
    gives all documents one score have no correlation and are left out of its mean, and counted in a warning. With one
    document a query, there is one distribution and one correlation over all pairs. `kl_divergence` is at least 0 and
    better when lower; `spearman`, -1 to 1, decides. Definitions are those of sentence-transformers.

    Args:
        queries: Queries.
        documents: One document for each query, or as many for each as for all others.
        scores: The teacher's scores: (Q,), or (Q, documents a query).
        temperature: What scores of both are divided by before the softmax; the divergence is multiplied by the
            student's squared. Above 0.
        student_temperature: The student's own; None takes `temperature`.
        teacher_temperature: The teacher's own; None takes `temperature`.
        similarity_fct: "maxsim", "meanmaxsim", or a function of lists of P queries and P documents, (n_i, d) each,
            that returns (P,) scores. None takes the model's own similarity, on every call anew.
        name: Put before every metric.
        batch_size: Most texts a batch.
        show_progress_bar: Whether encoding shows a bar.
        write_csv: Whether a call with `output_path` appends to the CSV.
        keep_per_query: Whether to keep one value for each query; see `Evaluator`.

    Raises:
        ValueError: When there is nothing to evaluate, lengths differ, a score is not finite, a temperature is not
            above 0, or the function is one of XTR's.
    """

    kinds = ("multi_vector",)
    similarity_names = MAXSIM_NAMES
    default_batch_size = 16

    def __init__(
        self,
        queries: Sequence[Any],
        documents: Sequence[Any],
        scores: Sequence[float] | Sequence[Sequence[float]] | Tensor,
        *,
        temperature: float = 1.0,
        student_temperature: float | None = None,
        teacher_temperature: float | None = None,
        similarity_fct: str | Callable[..., Tensor] | None = None,
        name: str = "",
        batch_size: int = 16,
        show_progress_bar: bool | None = False,
        write_csv: bool = True,
        keep_per_query: bool = False,
    ) -> None:
        super().__init__(
            name=name,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            write_csv=write_csv,
            keep_per_query=keep_per_query,
        )
        check_equal_lengths(self.label, queries=queries, documents=documents, scores=scores)
        self.queries, self.documents = list(queries), list(documents)
        self.nested_documents = _is_nested(self.documents[0])
        self.scores = torch.as_tensor(scores, dtype=torch.float32).detach().cpu()
        self._flat = self._flattened()
        self.temperature = temperature
        self.student_temperature = temperature if student_temperature is None else student_temperature
        self.teacher_temperature = temperature if teacher_temperature is None else teacher_temperature
        for setting in ("temperature", "student_temperature", "teacher_temperature"):
            if not 0 < getattr(self, setting) < math.inf:
                raise ValueError(f"{self.label}: {setting}={getattr(self, setting)}, it must be above 0 and finite.")
        check_no_xtr(f"{self.label}: similarity_fct", similarity_fct)
        self.similarity_fct = similarity_fct
        self._function = known_similarity(similarity_fct)
        if isinstance(self._function, str):
            check_similarity_names(self.label, [self._function], self.similarity_names)
        self.csv_file = "_".join(["distillation_evaluation", *filter(None, [name]), "results.csv"])
        self.primary_metric = self._named("spearman")

    def metric_keys(self, scorer: Scorer) -> list[str]:
        """`kl_divergence` and `spearman`."""
        return ["kl_divergence", "spearman"]

    def primary_key(self, scorer: Scorer, metrics: Mapping[str, float] | None = None) -> str:
        """Spearman's correlation."""
        return "spearman"

    def log_lines(self, scorer: Scorer, metrics: Mapping[str, float]) -> Sequence[str]:
        """A line a metric."""
        return [
            f"KL divergence:\t{metrics['kl_divergence']:.4f}",
            f"Spearman correlation:\t{metrics['spearman']:.4f}",
        ]

    def wants(self, scorer: Scorer) -> list[Wish]:
        """Queries, and the documents of all."""
        return [Wish(self.queries, self.options(task="query")), Wish(self._flat, self.options(task="document"))]

    def score(self, scorer: Scorer) -> dict[str, float]:
        """Compare the student's scores with the teacher's."""
        student, teacher = self._student(scorer).cpu().double(), self.scores.double()
        ids = range(len(self.queries))
        if not self.nested_documents:
            self.keep(ids, raw={"label": teacher, "score": student})
        num_nonfinite = int((~student.isfinite()).sum())
        if num_nonfinite:
            warn_nonfinite(self.label, num_nonfinite, student.numel(), "similarities")
            unknown = dict.fromkeys(self.metric_keys(scorer), math.nan)
            if self.nested_documents:
                self.keep(ids, unknown)
            return unknown
        expected = torch.log_softmax(teacher / self.teacher_temperature, dim=-1)
        found = torch.log_softmax(student / self.student_temperature, dim=-1)
        divergence = (expected.exp() * (expected - found)).sum(dim=-1) * self.student_temperature**2
        correlation = self._correlations(teacher, student)
        if self.nested_documents:
            self.keep(ids, {"kl_divergence": divergence, "spearman": correlation})
        return {"kl_divergence": float(divergence.mean()), "spearman": self._mean_correlation(correlation)}

    def get_config_dict(self) -> dict[str, Any]:
        """Settings that the model card shows, where they are not the usual ones."""
        found: dict[str, Any] = {} if self.temperature == 1.0 else {"temperature": self.temperature}
        for setting in ("student_temperature", "teacher_temperature"):
            if getattr(self, setting) != self.temperature:
                found[setting] = getattr(self, setting)
        if self.similarity_fct is not None:
            function = self.similarity_fct
            found["similarity_fct"] = function if isinstance(function, str) else similarity_fct_name(function)
        return found

    def _flattened(self) -> list[Any]:
        """The documents of all queries, one after another."""
        if not self.nested_documents:
            if self.scores.ndim != 1:
                raise ValueError(
                    f"{self.label}: one document a query takes (Q,) scores, not {tuple(self.scores.shape)}; give a "
                    "list of documents for each query to use more."
                )
        else:
            counts = {len(each) for each in self.documents}
            if len(counts) > 1:
                raise ValueError(f"{self.label}: queries have {min(counts)} to {max(counts)} documents; as many each.")
            if self.scores.shape != (len(self.queries), *counts):
                raise ValueError(
                    f"{self.label}: scores of shape {tuple(self.scores.shape)} for {len(self.queries)} queries with "
                    f"{min(counts)} documents each."
                )
        if not self.scores.isfinite().all():
            raise ValueError(f"{self.label}: some of the teacher's scores are not finite.")
        return [document for each in self.documents for document in each] if self.nested_documents else self.documents

    def _student(self, scorer: Scorer) -> Tensor:
        """The student's scores, of the shape of the teacher's."""
        as_query, as_document = self.options(task="query"), self.options(task="document")
        num_each = len(self._flat) // len(self.queries)
        if callable(self._function):
            queries, documents = scorer.embed(self.queries, as_query), scorer.embed(self._flat, as_document)
            left, right = queries.rows().split(), documents.rows().split()
            columns = [torch.as_tensor(self._function(left, right[way::num_each])).cpu() for way in range(num_each)]
            shapes = {tuple(column.shape) for column in columns}
            if shapes != {(len(self.queries),)}:
                raise ValueError(f"{self.label}: similarity_fct returned scores of shapes {sorted(shapes)}.")
            return torch.stack(columns, dim=1).view(self.scores.shape)
        function = self._function or scorer.similarity_fn_name
        repeats = torch.full((len(self.queries),), num_each)
        scores = scorer.pairwise(self.queries, self._flat, [function], as_query, as_document, repeats)[function]
        return scores.view(self.scores.shape)

    def _correlations(self, teacher: Tensor, student: Tensor) -> Tensor:
        """(Q,) correlations within queries, or (1,) over all; NaN where there is none."""
        if not self.nested_documents:
            teacher, student = teacher[None], student[None]
        return torch.stack([spearman(*pair) for pair in zip(teacher, student, strict=True)])

    def _mean_correlation(self, values: Tensor) -> float:
        defined = values[~values.isnan()]
        if not len(defined):
            warn_undefined(self.label, "a correlation needs two different scores of the teacher and of the model")
            return math.nan
        if len(defined) < len(values):
            logger.warning(
                "%s: %d of %d queries have documents with one score only, and are left out of the correlation.",
                self.label,
                len(values) - len(defined),
                len(values),
            )
        return float(defined.mean())


def _is_nested(documents: Any) -> bool:
    """Whether a query has a list of documents; a list of messages is one document."""
    is_list = isinstance(documents, (list, tuple))
    return is_list and not (len(documents) > 0 and is_message_dict(documents[0]))
