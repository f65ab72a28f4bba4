"""What a task may ask a model for, whatever kind of model it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from ..encoding import Embeddings, EncodeOptions, PredictOptions
from ..kernels.topk import Hits

Similarity = str | Callable[[Tensor, Tensor], Tensor]
"""A name of `SIMILARITY_NAMES`, or a function of (Q, d) queries and (B, d) documents that returns (Q, B) scores."""


@dataclass(frozen=True)
class SearchResult:
    """What a search found under one similarity function.

    Attributes:
        hits: (Q, k) scores and positions in the corpus, best first; position -1 where the corpus is shorter than k.
        num_nonfinite: Number of queries that met scores that are NaN or infinite.
        num_tied: (Q,) documents whose score is that of the k-th hit; None unless asked for.
        watched_scores: (W,) scores of the watched pairs; None unless asked for.
    """

    hits: Hits
    num_nonfinite: int
    num_tied: Tensor | None = None
    watched_scores: Tensor | None = None


@dataclass(frozen=True)
class Wish:
    """Inputs that a task will ask a scorer for.

    Attributes:
        inputs: The inputs; pairs for a cross-encoder.
        options: How they are encoded, or how pairs are scored (`PredictOptions`).
        streams: Whether they pass in blocks, so that they need not all be kept.
    """

    inputs: Sequence[Any]
    options: EncodeOptions
    streams: bool = False


class Scorer(Protocol):
    """A model behind one interface.

    Attributes:
        kind: Kind of model, such as "dense".
        model: The model.
    """

    kind: str
    model: Any

    @property
    def similarity_fn_name(self) -> str:
        """The model's own similarity function."""
        ...

    def prepare(self, wishes: Sequence[Wish]) -> None:
        """Encode together what tasks will ask for, into the session that is open."""
        ...

    def embed(self, inputs: Sequence[Any], options: EncodeOptions | None = None) -> Embeddings:
        """Embeddings of P inputs."""
        ...

    def pairwise(
        self,
        left: Sequence[Any],
        right: Sequence[Any],
        names: Sequence[str],
        left_options: EncodeOptions | None = None,
        right_options: EncodeOptions | None = None,
        repeats: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """(P,) similarity of each pair by name of the function; each on the left may be paired several times."""
        ...

    def search(
        self,
        queries: Sequence[Any],
        corpus: Sequence[Any],
        k: int,
        similarities: Mapping[str, Similarity],
        *,
        query_options: EncodeOptions | None = None,
        corpus_options: EncodeOptions | None = None,
        corpus_chunk_size: int = 50000,
        track_ties: bool = False,
        watch: tuple[Tensor, Tensor] | None = None,
    ) -> dict[str, SearchResult]:
        """The k best documents for each query, by name of the similarity function."""
        ...

    def predict(self, pairs: Sequence[Any], options: PredictOptions | None = None) -> Tensor:
        """(P,) scores of pairs, or (P, num_labels) where there are several labels."""
        ...
