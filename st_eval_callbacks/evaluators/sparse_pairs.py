"""Tasks over pairs and triplets of texts, for sparse models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from sentence_transformers.util.similarity import SimilarityFunction

from ..scorers import Scorer, SparseScorer
from .binary_classification import BinaryClassificationEvaluator
from .embedding_similarity import EmbeddingSimilarityEvaluator
from .mse import MSEEvaluator
from .sparsity import Sparsity, by_side, sparsity_of
from .translation import TranslationEvaluator
from .triplet import TripletEvaluator

Names = Sequence[Literal["cosine", "dot", "euclidean", "manhattan"]]


class SparseBinaryClassificationEvaluator(Sparsity, BinaryClassificationEvaluator):
    """`BinaryClassificationEvaluator` for sparse models; sparsity is the mean over the distinct texts of both sides.

    Args:
        sentences1: First text of each pair.
        sentences2: Second text of each pair.
        labels: 1 for each pair of similar texts, 0 for the others.
        name: Put before every metric.
        batch_size: Most texts a batch.
        show_progress_bar: Whether encoding shows a bar.
        write_csv: Whether a call with `output_path` appends to the CSV.
        max_active_dims: Most components of an embedding that are not 0; None takes the model's own limit.
        similarity_fn_names: Any of "cosine", "dot", "euclidean", "manhattan"; None takes the model's own.
        keep_per_query: Whether to keep one value for each pair; see `Evaluator`.
    """

    def __init__(
        self,
        sentences1: Sequence[Any],
        sentences2: Sequence[Any],
        labels: Sequence[int],
        name: str = "",
        batch_size: int = 32,
        show_progress_bar: bool | None = False,
        write_csv: bool = True,
        max_active_dims: int | None = None,
        similarity_fn_names: Names | None = None,
        *,
        keep_per_query: bool = False,
    ) -> None:
        super().__init__(
            sentences1,
            sentences2,
            labels,
            name=name,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            write_csv=write_csv,
            max_active_dims=max_active_dims,
            similarity_fn_names=similarity_fn_names,
            keep_per_query=keep_per_query,
        )

    def sparsity(self, scorer: SparseScorer) -> dict[str, float]:
        """Of the distinct texts; of each side, and their mean, where inputs cannot be told apart."""
        try:
            distinct = list(dict.fromkeys([*self.sentences1, *self.sentences2]))
        except TypeError:
            return by_side({"": _mean_of_both(self, scorer, self.sentences1, self.sentences2)})
        return by_side({"": sparsity_of(scorer, distinct, self.options())})


class SparseEmbeddingSimilarityEvaluator(Sparsity, EmbeddingSimilarityEvaluator):
    """`EmbeddingSimilarityEvaluator` for sparse models; sparsity is the mean of that of both sides.

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
        max_active_dims: Most components of an embedding that are not 0; None takes the model's own limit.
        keep_per_query: Whether to keep one value for each pair; see `Evaluator`.
    """

    def __init__(
        self,
        sentences1: Sequence[str],
        sentences2: Sequence[str],
        scores: Sequence[float],
        batch_size: int = 16,
        main_similarity: str | SimilarityFunction | None = None,
        similarity_fn_names: Names | None = None,
        name: str = "",
        show_progress_bar: bool | None = False,
        write_csv: bool = True,
        max_active_dims: int | None = None,
        *,
        keep_per_query: bool = False,
    ) -> None:
        super().__init__(
            sentences1,
            sentences2,
            scores,
            batch_size=batch_size,
            main_similarity=main_similarity,
            similarity_fn_names=similarity_fn_names,
            name=name,
            show_progress_bar=show_progress_bar,
            write_csv=write_csv,
            max_active_dims=max_active_dims,
            keep_per_query=keep_per_query,
        )

    def sparsity(self, scorer: SparseScorer) -> dict[str, float]:
        """The mean of both sides."""
        return by_side({"": _mean_of_both(self, scorer, self.sentences1, self.sentences2)})


class SparseTranslationEvaluator(Sparsity, TranslationEvaluator):
    """`TranslationEvaluator` for sparse models; sparsity is the mean of that of both languages.

    Args:
        source_sentences: Sentences in one language.
        target_sentences: The translation of each.
        show_progress_bar: Whether encoding shows a bar.
        batch_size: Most texts a batch.
        name: Put before every metric.
        print_wrong_matches: Whether to print each source sentence that finds a wrong target, with what it finds.
        write_csv: Whether a call with `output_path` appends to the CSV.
        max_active_dims: Most components of an embedding that are not 0; None takes the model's own limit.
        keep_per_query: Whether to keep one value for each sentence; see `Evaluator`.
    """

    def __init__(
        self,
        source_sentences: Sequence[str],
        target_sentences: Sequence[str],
        show_progress_bar: bool | None = False,
        batch_size: int = 16,
        name: str = "",
        print_wrong_matches: bool = False,
        write_csv: bool = True,
        max_active_dims: int | None = None,
        *,
        keep_per_query: bool = False,
    ) -> None:
        super().__init__(
            source_sentences,
            target_sentences,
            show_progress_bar=show_progress_bar,
            batch_size=batch_size,
            name=name,
            print_wrong_matches=print_wrong_matches,
            write_csv=write_csv,
            max_active_dims=max_active_dims,
            keep_per_query=keep_per_query,
        )

    def sparsity(self, scorer: SparseScorer) -> dict[str, float]:
        """The mean of both languages."""
        return by_side({"": _mean_of_both(self, scorer, self.source_sentences, self.target_sentences)})


class SparseMSEEvaluator(Sparsity, MSEEvaluator):
    """`MSEEvaluator` for sparse models, with a sparse teacher; sparsity is that of the student.

    Errors are summed over the components that are not 0 on either side: no dense matrix is made.

    Args:
        source_sentences: Texts that the teacher embeds.
        target_sentences: For each the text that the student embeds: the same, or its translation.
        teacher_model: A sparse model of the student's vocabulary.
        show_progress_bar: Whether encoding shows a bar.
        batch_size: Most texts a batch.
        name: Put before every metric.
        write_csv: Whether a call with `output_path` appends to the CSV.
        max_active_dims: Most components of an embedding that are not 0, of the teacher and of the student; None takes
            each model's own limit.
        keep_per_query: Whether to keep one value for each text; see `Evaluator`.
    """

    def __init__(
        self,
        source_sentences: Sequence[Any],
        target_sentences: Sequence[Any],
        teacher_model: Any = None,
        show_progress_bar: bool | None = False,
        batch_size: int = 32,
        name: str = "",
        write_csv: bool = True,
        max_active_dims: int | None = None,
        *,
        keep_per_query: bool = False,
    ) -> None:
        super().__init__(
            source_sentences,
            target_sentences,
            teacher_model,
            show_progress_bar=show_progress_bar,
            batch_size=batch_size,
            name=name,
            write_csv=write_csv,
            max_active_dims=max_active_dims,
            keep_per_query=keep_per_query,
        )

    def csv_values(self, scorer: Scorer, metrics: Mapping[str, float]) -> list[float]:
        """The error, positive, and sparsity."""
        return [*super().csv_values(scorer, metrics), *(metrics[key] for key in self.sparsity_keys)]

    def sparsity(self, scorer: SparseScorer) -> dict[str, float]:
        """Of the student's sentences."""
        return by_side({"": sparsity_of(scorer, self.target_sentences, self.options())})


class SparseTripletEvaluator(Sparsity, TripletEvaluator):
    """`TripletEvaluator` for sparse models, with the sparsity of anchors, positives and negatives.

    Args:
        anchors: Anchor of each triplet.
        positives: What the anchor should be close to.
        negatives: What the anchor should be farther from.
        main_similarity_function: The similarity function that decides.
        margin: How much more similar the positive must be; see `TripletEvaluator`.
        name: Put before every metric.
        batch_size: Most texts a batch.
        show_progress_bar: Whether encoding shows a bar.
        write_csv: Whether a call with `output_path` appends to the CSV.
        max_active_dims: Most components of an embedding that are not 0; None takes the model's own limit.
        similarity_fn_names: Any of "cosine", "dot", "euclidean", "manhattan"; None takes the main one, or the model's.
        main_distance_function: Deprecated name of `main_similarity_function`.
        keep_per_query: Whether to keep one value for each triplet; see `Evaluator`.
    """

    sides: ClassVar[tuple[str, ...]] = ("anchor", "positive", "negative")

    def __init__(
        self,
        anchors: Sequence[Any],
        positives: Sequence[Any],
        negatives: Sequence[Any],
        main_similarity_function: str | SimilarityFunction | None = None,
        margin: float | Mapping[str, float] | None = None,
        name: str = "",
        batch_size: int = 16,
        show_progress_bar: bool | None = False,
        write_csv: bool = True,
        max_active_dims: int | None = None,
        similarity_fn_names: Names | None = None,
        main_distance_function: str | SimilarityFunction | None = "deprecated",
        *,
        keep_per_query: bool = False,
    ) -> None:
        super().__init__(
            anchors,
            positives,
            negatives,
            main_similarity_function=main_similarity_function,
            margin=margin,
            name=name,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            write_csv=write_csv,
            max_active_dims=max_active_dims,
            similarity_fn_names=similarity_fn_names,
            main_distance_function=main_distance_function,
            keep_per_query=keep_per_query,
        )

    def sparsity(self, scorer: SparseScorer) -> dict[str, float]:
        """Of each side."""
        texts = zip(
            self.sides, (self.anchors, self.positives, self.negatives), ("query", "document", "document"), strict=True
        )
        return by_side({side: sparsity_of(scorer, inputs, self.options(task=task)) for side, inputs, task in texts})


def _mean_of_both(
    evaluator: Sparsity, scorer: SparseScorer, left: Sequence[Any], right: Sequence[Any]
) -> tuple[float, float]:
    sides = [sparsity_of(scorer, inputs, evaluator.options()) for inputs in (left, right)]
    active, ratio = (sum(values) / 2 for values in zip(*sides, strict=True))
    return active, ratio
