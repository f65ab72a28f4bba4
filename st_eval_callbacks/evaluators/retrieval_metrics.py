"""What retrieval tasks measure: which measures, at which cutoffs, under which similarity functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from sentence_transformers.util.similarity import SimilarityFunction
from torch import Tensor

from ..measures import Measure, read_measures
from ..scorers import Scorer
from .base import Evaluator
from .conventions import Wanted
from .inputs import check_similarity_names

_HEADERS = {
    "accuracy": "Accuracy",
    "precision": "Precision",
    "recall": "Recall",
    "mrr": "MRR",
    "ndcg": "NDCG",
    "map": "MAP",
}
_SHARES = ("accuracy", "precision", "recall")


class RetrievalMetrics(Evaluator):
    """Base of retrieval evaluators: names, order and columns of their metrics.

    Args:
        mrr_at_k: Cutoffs of MRR.
        ndcg_at_k: Cutoffs of nDCG; the largest one decides.
        accuracy_at_k: Cutoffs of accuracy.
        precision_recall_at_k: Cutoffs of precision and recall.
        map_at_k: Cutoffs of MAP.
        score_functions: Similarity by name: functions of (Q, d) queries and (N, d) documents returning (Q, N)
            scores, or names of bundled ones. None takes the model's own similarity, on every call anew.
        main_score_function: The function that decides; None takes the one that is best in the first evaluation.
        measures: More measures.
        **kwargs: See `Evaluator`.

    Raises:
        ValueError: When a cutoff, a measure or a function is not one of those allowed, or nothing is measured.
    """

    kinds: ClassVar[tuple[str, ...]] = ("dense", "sparse")

    def __init__(
        self,
        *,
        mrr_at_k: Sequence[int],
        ndcg_at_k: Sequence[int],
        accuracy_at_k: Sequence[int],
        precision_recall_at_k: Sequence[int],
        map_at_k: Sequence[int],
        score_functions: Mapping[str, str | Callable[[Tensor, Tensor], Tensor]] | None,
        main_score_function: str | SimilarityFunction | None,
        measures: Sequence[str | Measure] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.mrr_at_k = list(mrr_at_k)
        self.ndcg_at_k = list(ndcg_at_k)
        self.accuracy_at_k = list(accuracy_at_k)
        self.precision_recall_at_k = list(precision_recall_at_k)
        self.map_at_k = list(map_at_k)
        self.measures = read_measures(measures)
        self.score_functions = dict(score_functions) if score_functions else None
        self.main_score_function = SimilarityFunction(main_score_function) if main_score_function else None
        self._main_function: str | None = None
        if not self.wanted():
            raise ValueError(f"{self.label}: there is nothing to measure, all cutoffs are empty.")
        for name, cutoff in self.wanted():
            Measure(name, cutoff)
        if self.score_functions is not None:
            named = [function for function in self.score_functions.values() if not callable(function)]
            check_similarity_names(self.label, named, self.similarity_names)
            self._check_main(self.score_functions)

    def wanted(self) -> list[Wanted]:
        """The measures, in the order of the keys."""
        wanted: list[Wanted] = [("accuracy", k) for k in self.accuracy_at_k]
        wanted += [("precision", k) for k in self.precision_recall_at_k]
        wanted += [("recall", k) for k in self.precision_recall_at_k]
        wanted += [("ndcg", k) for k in self.ndcg_at_k]
        wanted += [("mrr", k) for k in self.mrr_at_k]
        wanted += [("map", k) for k in self.map_at_k]
        wanted += [(measure.name, measure.cutoff) for measure in self.measures]
        return list(dict.fromkeys(wanted))

    def functions(self, scorer: Scorer) -> dict[str, str | Callable[[Tensor, Tensor], Tensor]]:
        """Similarity functions by name: those given, or the model's own.

        Raises:
            ValueError: When the main function is not among them.
        """
        functions = self.score_functions or {scorer.similarity_fn_name: scorer.similarity_fn_name}
        self._check_main(functions)
        return functions

    def metric_keys(self, scorer: Scorer) -> list[str]:
        """`<function>_<measure>@<k>` for every function, measure and cutoff."""
        return [key_of(function, one) for function in self.functions(scorer) for one in self.wanted()]

    def primary_key(self, scorer: Scorer, metrics: Mapping[str, float] | None = None) -> str:
        """NDCG at its largest cutoff (without one, the first measure) by the main function."""
        names = sorted(self.functions(scorer))
        deciding: Wanted = ("ndcg", max(self.ndcg_at_k)) if self.ndcg_at_k else self.wanted()[0]
        if self.main_score_function is not None:
            return key_of(self.main_score_function.value, deciding)
        if self._main_function not in names:
            self._main_function = None
        if metrics is not None and self._main_function is None:
            values = {name: metrics[key_of(name, deciding)] for name in names}
            self._main_function = max(names, key=lambda name: -math.inf if math.isnan(values[name]) else values[name])
        return key_of(self._main_function or names[0], deciding)

    def deciding_function(self, scorer: Scorer) -> str:
        """The similarity function of the metric that decides."""
        names = sorted(self.functions(scorer))
        return (
            self.main_score_function.value if self.main_score_function is not None else self._main_function or names[0]
        )

    def column_order(self) -> list[Wanted]:
        """The measures in sentence-transformers' order of columns, then those of `measures`."""
        wanted: list[Wanted] = [("accuracy", k) for k in self.accuracy_at_k]
        wanted += [(name, k) for k in self.precision_recall_at_k for name in ("precision", "recall")]
        wanted += [("mrr", k) for k in self.mrr_at_k]
        wanted += [("ndcg", k) for k in self.ndcg_at_k]
        wanted += [("map", k) for k in self.map_at_k]
        return list(dict.fromkeys([*wanted, *self.wanted()]))

    def csv_columns(self, scorer: Scorer) -> list[tuple[str, str]]:
        """Columns of each function, the functions in alphabetical order."""
        return [
            (f"{function}-{_header(one)}", key_of(function, one))
            for function in sorted(self.functions(scorer))
            for one in self.column_order()
        ]

    def store_metrics_in_model_card_data(
        self, model: Any, metrics: dict[str, Any], epoch: float = 0, step: int = 0
    ) -> None:
        """Store the metrics for the model card, whose usage example then shows queries and documents."""
        super().store_metrics_in_model_card_data(model, metrics, epoch, step)
        card = getattr(model, "model_card_data", None)
        # sentence-transformers recognises its own classes only.
        if getattr(card, "ir_model", False) is None:
            card.ir_model = True  # type: ignore[union-attr]

    def _check_main(self, functions: Mapping[str, Any]) -> None:
        main = self.main_score_function
        if main is not None and main.value not in functions:
            raise ValueError(
                f"{self.label}: main_score_function={main.value!r} is not among the functions that are measured: "
                f"{', '.join(functions)}."
            )


def key_of(function: str, measure: Wanted) -> str:
    """Key of a measure under a similarity function.

    Examples:
        >>> key_of("cosine", ("ndcg", 10)), key_of("dot", ("rprec", None))
        ('cosine_ndcg@10', 'dot_rprec')
    """
    name, cutoff = measure
    return f"{function}_{name}" if cutoff is None else f"{function}_{name}@{cutoff}"


def metric_line(measure: Wanted, value: float) -> str:
    """A measure for the log: shares in percent, the others as they are.

    Examples:
        >>> metric_line(("recall", 5), 0.25), metric_line(("ndcg", 10), 0.25)
        ('Recall@5: 25.00%', 'NDCG@10: 0.2500')
    """
    return f"{_header(measure)}: {value * 100:.2f}%" if measure[0] in _SHARES else f"{_header(measure)}: {value:.4f}"


def _header(measure: Wanted) -> str:
    name, cutoff = measure
    name = _HEADERS.get(name, name)
    return name if cutoff is None else f"{name}@{cutoff}"
