"""Correlation of similarities with judged scores (STS)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from sentence_transformers.util import quantize_embeddings
from sentence_transformers.util.similarity import SimilarityFunction

from ..kernels.correlation import pearson, spearman
from ..kernels.pairwise import pairwise
from ..kernels.quantise import Precision, check_precision
from ..scorers import Scorer, Wish
from .base import Evaluator, maximum, warn_nonfinite, warn_undefined
from .inputs import check_dense_precision, check_equal_lengths, check_similarity_names


class EmbeddingSimilarityEvaluator(Evaluator):
    """Pearson and Spearman correlation between the similarity of two texts and a judged score.

    Pearson: covariance over the product of standard deviations. Spearman: Pearson of the average ranks. Both lie in
    [-1, 1], higher is better, and are NaN when all similarities (or all scores) are equal.

    Args:
        sentences1: First text of each pair.
        sentences2: Second text of each pair.
        scores: Judged similarity of each pair, on any scale.
        batch_size: Most texts a batch.
        main_similarity: The similarity function that decides; None takes the only one, or the maximum of several.
        similarity_fn_names: Any of "cosine", "dot", "euclidean", "manhattan"; None takes the model's own.
        name: Put before every metric.
        show_progress_bar: Whether encoding shows a bar.
        write_csv: Whether a call with `output_path` appends to the CSV.
        precision: Quantise the normalised embeddings before comparing them: "float32", "int8", "uint8", "binary" or
            "ubinary"; None leaves them as they are.
        truncate_dim: Leading dimensions of the embeddings to use.
        keep_per_query: Whether to keep one value for each pair; see `Evaluator`.
        truncate_dims: Several sizes to measure from one encoding, such as [384, 128]; see `Evaluator`.

    Raises:
        ValueError: When there are no pairs, the lengths differ, or a name is unknown.
    """

    kinds: ClassVar[tuple[str, ...]] = ("dense", "sparse")
    default_batch_size = 16

    def __init__(
        self,
        sentences1: Sequence[str],
        sentences2: Sequence[str],
        scores: Sequence[float],
        batch_size: int = 16,
        main_similarity: str | SimilarityFunction | None = None,
        similarity_fn_names: Sequence[Literal["cosine", "euclidean", "manhattan", "dot"]] | None = None,
        name: str = "",
        show_progress_bar: bool | None = False,
        write_csv: bool = True,
        precision: Precision | None = None,
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
        check_equal_lengths(self.label, sentences1=sentences1, sentences2=sentences2, scores=scores)
        if precision is not None:
            check_precision(precision)
        self.sentences1 = sentences1
        self.sentences2 = sentences2
        self.scores = scores
        self.precision = precision
        self.main_similarity = SimilarityFunction(main_similarity) if main_similarity else None
        names: list[str] = list(similarity_fn_names or [])
        if not names and self.main_similarity is not None:
            names = [self.main_similarity.value]
        self.similarity_fn_names: list[str] = check_similarity_names(self.label, names)
        self.csv_file = "_".join(["similarity_evaluation", *filter(None, [name, precision]), "results.csv"])

    @classmethod
    def from_input_examples(cls, examples: Sequence[Any], **kwargs: Any) -> EmbeddingSimilarityEvaluator:
        """Make one from `InputExample`s: two texts and a label each."""
        return cls(
            [example.texts[0] for example in examples],
            [example.texts[1] for example in examples],
            [example.label for example in examples],
            **kwargs,
        )

    @property
    def description(self) -> str:
        """Heading in the model card."""
        return "Semantic Similarity"

    def scorer(self, model: Any) -> Scorer:
        """The model behind the interface that tasks use.

        Raises:
            TypeError: When this task, or its `precision`, makes no sense for this kind of model.
        """
        scorer = super().scorer(model)
        check_dense_precision(self.label, self.precision, scorer)
        return scorer

    def metric_keys(self, scorer: Scorer) -> list[str]:
        """`pearson_<function>` and `spearman_<function>`, and their maxima when there are several functions."""
        names = self._names(scorer)
        functions = [*names, "max"] if len(names) > 1 else names
        return [f"{measure}_{name}" for name in functions for measure in ("pearson", "spearman")]

    def primary_key(self, scorer: Scorer, metrics: Mapping[str, float] | None = None) -> str:
        """Spearman of the main function, of the only one, or the maximum."""
        names = self._names(scorer)
        if self.main_similarity is not None and self.main_similarity.value in names:
            return f"spearman_{self.main_similarity.value}"
        return "spearman_max" if len(names) > 1 else f"spearman_{names[0]}"

    def csv_columns(self, scorer: Scorer) -> list[tuple[str, str]]:
        """Pearson and Spearman of each function."""
        return [
            (f"{name}_{measure}", f"{measure}_{name}")
            for name in self._names(scorer)
            for measure in ("pearson", "spearman")
        ]

    def log_lines(self, scorer: Scorer, metrics: Mapping[str, float]) -> Sequence[str]:
        """A line a function."""
        return [
            f"{name.capitalize()}-Similarity:\tPearson: {metrics[f'pearson_{name}']:.4f}\t"
            f"Spearman: {metrics[f'spearman_{name}']:.4f}"
            for name in self._names(scorer)
        ]

    def wants(self, scorer: Scorer) -> list[Wish]:
        """Both sides of the pairs."""
        return [Wish(self.sentences1, self.options()), Wish(self.sentences2, self.options())]

    def score(self, scorer: Scorer) -> dict[str, float]:
        """Correlate the similarities of the pairs with their scores."""
        names = self._names(scorer)
        judged = torch.as_tensor(np.asarray(self.scores, dtype=np.float64))
        metrics = {}
        num_nonfinite = 0
        similarities = self._similarities(scorer, names)
        for name in names:
            values = similarities[name].double().cpu()
            num_nonfinite = max(num_nonfinite, int((~values.isfinite()).sum()))
            metrics[f"pearson_{name}"] = float(pearson(judged, values))
            metrics[f"spearman_{name}"] = float(spearman(judged, values))
        raw = {f"{name}_similarity": similarities[name] for name in names}
        self.keep(range(len(judged)), raw={"label": judged, **raw})
        if num_nonfinite:
            warn_nonfinite(self.label, num_nonfinite, len(judged), "similarities")
        elif any(value != value for value in metrics.values()):
            warn_undefined(self.label, "a correlation needs two different scores and two different similarities")
        if len(names) > 1:
            for measure in ("pearson", "spearman"):
                metrics[f"{measure}_max"] = maximum([metrics[f"{measure}_{name}"] for name in names])
        return metrics

    def get_config_dict(self) -> dict[str, Any]:
        """Settings that the model card shows."""
        return {**super().get_config_dict(), **({} if self.precision is None else {"precision": self.precision})}

    def _names(self, scorer: Scorer) -> list[str]:
        return self.similarity_fn_names or [scorer.similarity_fn_name]

    def _similarities(self, scorer: Scorer, names: Sequence[str]) -> dict[str, torch.Tensor]:
        if self.precision is None:
            return scorer.pairwise(self.sentences1, self.sentences2, names, self.options(), self.options())
        options = self.options(normalize=True)
        left, right = scorer.embed(self.sentences1, options), scorer.embed(self.sentences2, options)
        # Both sides are calibrated together, so the same text has the same quantised embedding on either side.
        rows = _quantise(torch.cat([left.rows(), right.rows()]), self.precision)
        return pairwise(names, rows[: len(self.sentences1)], rows[len(self.sentences1) :])


def _quantise(embeddings: torch.Tensor, precision: Precision) -> torch.Tensor:
    if precision == "float32":
        return embeddings.float()
    quantised = np.asarray(quantize_embeddings(embeddings.float().cpu().numpy(), precision=precision))
    if precision == "binary":
        # Widened first: 128 does not fit into int8.
        quantised = (quantised.astype(np.int16) + 128).astype(np.uint8)
    if precision in ("binary", "ubinary"):
        quantised = np.unpackbits(quantised, axis=1)
    return torch.from_numpy(quantised.astype(np.float32)).to(embeddings.device)
