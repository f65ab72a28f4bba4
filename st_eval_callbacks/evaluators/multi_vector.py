"""Retrieval, reranking and triplets for models with several vectors an input: the tasks' own classes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..encoding import Embeddings
from ..kernels.maxsim import MAXSIM_NAMES
from ..kernels.ragged_rows import RaggedRows
from ..kernels.similarity import widen
from ..measures import Measure
from ..scorers import Similarity
from ..scorers.multi_vector import check_no_xtr, known_similarity
from .information_retrieval import InformationRetrievalEvaluator
from .inputs import check_similarity_names
from .judgements import RelevantDocs
from .nano_beir import NanoBEIREvaluator
from .reranking import RerankingEvaluator
from .triplet import TripletEvaluator

logger = logging.getLogger(__name__)

_KINDS = ("multi_vector",)
# Keys of a model's prompts that stand for queries and for documents, the first that there is counts.
_ROLES = {"query": ("query",), "corpus": ("document", "passage", "corpus")}


class MultiVectorInformationRetrievalEvaluator(InformationRetrievalEvaluator):
    """`InformationRetrievalEvaluator` for a MultiVectorEncoder, whose documents are found by MaxSim.

    Args:
        queries: Query text by id.
        corpus: Document text by id.
        relevant_docs: Relevant document ids by query id: a set, or `{document id: gain}`.
        corpus_chunk_size: Documents that are encoded at a time; metrics do not depend on it.
        chunk_elements: Taken as sentence-transformers takes it: most numbers in memory while scoring, at least 1.
            Blocks of ours hold about three million whatever it says.
        score_functions: Functions by name: "maxsim", "meanmaxsim", or functions of all queries, (Q, n, d) filled up
            with zeros, and a list of some documents, (n_i, d) each, returning (Q, documents) scores. None takes the
            model's own, on every call anew.
        **kwargs: See `InformationRetrievalEvaluator`; `truncate_dim` must be None.

    Raises:
        ValueError: As there; for a `truncate_dim`, for functions of XTR, whose scores depend on what is scored
            together, and for `chunk_elements` beside `score_functions`.
    """

    kinds = _KINDS
    similarity_names = MAXSIM_NAMES

    def __init__(
        self,
        queries: Mapping[str, Any],
        corpus: Mapping[str, Any],
        relevant_docs: RelevantDocs,
        *,
        corpus_chunk_size: int = 5000,
        chunk_elements: int | None = None,
        score_functions: Mapping[str, str | Callable[..., Tensor]] | None = None,
        **kwargs: Any,
    ) -> None:
        _refuse_truncation(self, kwargs.get("truncate_dim"))
        if chunk_elements is not None and score_functions is not None:
            raise ValueError(
                "chunk_elements says nothing to your own score_functions: give it to the function itself, as in "
                "functools.partial(maxsim, chunk_elements=...)."
            )
        if chunk_elements is not None and chunk_elements < 1:
            raise ValueError(f"chunk_elements={chunk_elements}: at least 1, or None.")
        for name, function in (score_functions or {}).items():
            check_no_xtr(f"score_functions[{name!r}]", function)
        self.chunk_elements = chunk_elements
        self._is_told = False
        super().__init__(
            queries,
            corpus,
            relevant_docs,
            corpus_chunk_size=corpus_chunk_size,
            score_functions=score_functions,
            **kwargs,
        )

    def __call__(
        self,
        model: Any,
        output_path: str | None = None,
        epoch: float = -1,
        steps: int = -1,
        corpus_model: Any = None,
        corpus_embeddings: Any = None,
    ) -> dict[str, float]:
        """Evaluate a model.

        Args:
            model: The model; see `Evaluator`.
            output_path: Folder for CSV and predictions; None writes nothing.
            epoch: Passes over the training data done; -1 outside of training.
            steps: Optimizer steps done; -1 at the end of an epoch.
            corpus_model: Another model that encodes the documents; None takes `model`.
            corpus_embeddings: Vectors of the documents in the order of the corpus given: a list of (n_i, d), or
                (N, n, d) filled up with zeros; None encodes them.

        Returns:
            Value by key. `primary_metric` is one of the keys.

        Raises:
            TypeError: When the model is of another kind.
            ValueError: When there are more or fewer embeddings than documents.
        """
        self._tell_of_prompts(model)
        return super().__call__(model, output_path, epoch, steps, corpus_model, corpus_embeddings)

    def _table(self, embeddings: Any) -> Any:
        if isinstance(embeddings, RaggedRows):
            return embeddings
        if isinstance(embeddings, (list, tuple)):
            return RaggedRows.of([torch.as_tensor(one) for one in embeddings])
        return RaggedRows.of_padded(torch.as_tensor(embeddings))

    def _tell_of_prompts(self, model: Any) -> None:
        """Warn once when a prompt takes the place of the marker that the model was trained with."""
        prompts = getattr(model, "prompts", None) or {}
        for side, roles in _ROLES.items():
            given = getattr(self, f"{side}_prompt")
            trained = next((prompts[role] for role in roles if role in prompts), None)
            if given is not None and trained and not given.startswith(trained) and not self._is_told:
                self._is_told = True
                logger.warning(
                    "%s: %s_prompt=%r stands in the place of the model's own prompt %r; put that in front of it to "
                    "keep what the model was trained with.",
                    self.label,
                    side,
                    given,
                    trained,
                )


class MultiVectorNanoBEIREvaluator(NanoBEIREvaluator):
    """`NanoBEIREvaluator` for a MultiVectorEncoder.

    Args:
        *args: See `NanoBEIREvaluator`.
        corpus_chunk_size: See `MultiVectorInformationRetrievalEvaluator`.
        chunk_elements: See `MultiVectorInformationRetrievalEvaluator`.
        **kwargs: See `NanoBEIREvaluator`; `truncate_dim` must be None.

    Raises:
        ValueError: As there, and for a `truncate_dim`.
    """

    kinds = _KINDS
    similarity_names = MAXSIM_NAMES

    def __init__(
        self, *args: Any, corpus_chunk_size: int = 5000, chunk_elements: int | None = None, **kwargs: Any
    ) -> None:
        _refuse_truncation(self, kwargs.get("truncate_dim"))
        self.information_retrieval_class = partial(  # type: ignore[misc,assignment]  # it is only called
            MultiVectorInformationRetrievalEvaluator,
            corpus_chunk_size=corpus_chunk_size,
            chunk_elements=chunk_elements,
        )
        super().__init__(*args, **kwargs)


class MultiVectorTripletEvaluator(TripletEvaluator):
    """`TripletEvaluator` for a MultiVectorEncoder: the functions are "maxsim" and "meanmaxsim".

    MaxSim grows with the length of the anchor, so a margin that suits one function seldom suits the other.

    Args:
        *args: See `TripletEvaluator`.
        **kwargs: See `TripletEvaluator`; `truncate_dim` must be None.

    Raises:
        ValueError: As there, and for a `truncate_dim`.
    """

    kinds = _KINDS
    similarity_names = MAXSIM_NAMES

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _refuse_truncation(self, self.truncate_dim)

    def title(self, when: str) -> str:
        """The line logged before it runs."""
        return super().title(when).removeprefix("MultiVector")


class MultiVectorRerankingEvaluator(RerankingEvaluator):
    """`RerankingEvaluator` for a MultiVectorEncoder.

    Args:
        samples: See `RerankingEvaluator`.
        at_k: Cutoff of MRR and nDCG, at least 1.
        name: Put before every metric.
        write_csv: Whether a call with `output_path` appends to the CSV.
        similarity_fct: "maxsim", "meanmaxsim", or a function that is called for each sample with the query, (n, d),
            and a list of its documents, (n_i, d) each, and returns (documents,) or (1, documents) scores. None takes
            the model's own, on every call anew.
        batch_size: Most texts a batch.
        show_progress_bar: Whether encoding shows a bar.
        use_batched_encoding: Without effect on values or speed. With False a function gets the query in a list of one.
        measures: More measures by name; see `RerankingEvaluator`.
        keep_per_query: Whether to keep one value for each sample; see `Evaluator`.

    Raises:
        ValueError: As there, and for functions of XTR, whose scores depend on what is scored together.
    """

    kinds = _KINDS
    similarity_names = MAXSIM_NAMES
    default_batch_size = 16

    def __init__(
        self,
        samples: Sequence[Mapping[str, Any]] | Mapping[Any, Mapping[str, Any]],
        *,
        at_k: int = 10,
        name: str = "",
        write_csv: bool = True,
        similarity_fct: str | Callable[..., Tensor] | None = None,
        batch_size: int = 16,
        show_progress_bar: bool | None = False,
        use_batched_encoding: bool = True,
        measures: Sequence[str | Measure] = (),
        keep_per_query: bool = False,
    ) -> None:
        super().__init__(
            samples,
            at_k=at_k,
            name=name,
            write_csv=write_csv,
            similarity_fct=similarity_fct,
            batch_size=batch_size,
            show_progress_bar=show_progress_bar,
            use_batched_encoding=use_batched_encoding,
            measures=measures,
            keep_per_query=keep_per_query,
        )

    def title(self, when: str) -> str:
        """The line logged before it runs."""
        return super().title(when).removeprefix("MultiVector")

    def _known_function(self, function: Similarity | None) -> Similarity | None:
        check_no_xtr(f"{self.label}: similarity_fct", function)
        found: Similarity | None = known_similarity(function)
        return check_similarity_names(self.label, [found], MAXSIM_NAMES)[0] if isinstance(found, str) else found

    def _scores_by_function(
        self, function: Callable[..., Tensor], queries: Embeddings, documents: Embeddings
    ) -> Tensor:
        each = [widen(query) for query in queries.rows().split()]
        scores = []
        for query, start, end in zip(each, self._offsets[:-1], self._offsets[1:], strict=True):
            rows = [widen(row) for row in documents.table.take(documents.index[start:end]).split()]
            found = torch.as_tensor(function(query if self.use_batched_encoding else [query], rows))
            found = found[0] if found.ndim > 1 else found
            if found.shape != (len(rows),):
                shape = tuple(found.shape)
                raise ValueError(f"{self.label}: similarity_fct returned {shape} scores for {len(rows)} documents.")
            scores.append(widen(found))
        return torch.cat(scores)


def _refuse_truncation(evaluator: Any, truncate_dim: int | None) -> None:
    if truncate_dim is not None:
        raise ValueError(
            f"{type(evaluator).__name__}: truncate_dim={truncate_dim}, but vectors of single tokens are not trained "
            "to be cut short; leave it out."
        )
