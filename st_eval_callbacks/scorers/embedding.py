"""What scorers of models that embed inputs have in common, whatever an embedding is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, NoReturn

import numpy as np
import torch
from torch import Tensor

from ..distributed import shares
from ..encoding import Embeddings, EncodeOptions, session
from ..encoding.tables import take
from ..kernels.search import Search
from .forms import Form
from .found import found_by_all, own_pairs
from .scorer import SearchResult, Wish

_QUANTISED_AT_ONCE = 16384


class EmbeddingScorer:
    """A model that embeds inputs, as a scorer.

    A kind of model says how its rows are compared: `_settled`, `_score_pairs` and `_new_search`. Encoding goes through
    the session that is open; without one, each call opens its own.

    Args:
        model: The model.

    Raises:
        TypeError: When the model has no `encode`.
    """

    kind: str
    joins_streams: ClassVar[bool] = True
    """Whether a short corpus is encoded with what else is wanted, and kept."""
    most_at_once: ClassVar[int | None] = None
    """Most documents encoded at once, whatever a caller says."""
    least_at_once: ClassVar[int | None] = None
    """Fewest documents encoded at once; None leaves that to the session."""

    def __init__(self, model: Any) -> None:
        """Check that the model can encode."""
        if not callable(getattr(model, "encode", None)):
            raise TypeError(f"{type(model).__name__} has no encode(inputs, ...), so it cannot embed texts.")
        self.model = model

    # -- what a kind of model says -----------------------------------------------------------------------------------

    def _settled(self, similarity: Any) -> Any:
        """A name that is known, or a function; ValueError for an unknown name."""
        raise NotImplementedError

    def _score_pairs(
        self, names: Sequence[str], left: Any, right: Any, left_index: Tensor, right_index: Tensor
    ) -> dict[str, Tensor]:
        """(P,) scores by name of rows of two tables."""
        raise NotImplementedError

    def _new_search(
        self, queries: Any, k: int, similarity: Any, track_ties: bool, watch: tuple[Tensor, Tensor] | None
    ) -> Search:
        """A search for some queries, by a name or function that is settled."""
        raise NotImplementedError

    def _rows_given(self, corpus: Any, queries: Any) -> Any:
        """The rows of a corpus that was given embedded, where the queries are; None for inputs."""
        return None

    def _noted(self, queries: Any, blocks: Iterable[Any]) -> Iterable[Any]:
        """The blocks of a search, of which something may be noted as they pass."""
        return blocks

    # -- what is the same for all ------------------------------------------------------------------------------------

    @property
    def similarity_fn_name(self) -> str:
        """The model's own similarity function; "cosine" when it names none.

        Raises:
            ValueError: When the model names a function that does not exist.
        """
        name = getattr(self.model, "similarity_fn_name", None)
        return str(self._settled("cosine" if name is None else str(getattr(name, "value", name))))

    def prepare(self, wishes: Sequence[Wish]) -> None:
        """Encode together what tasks will ask for; without an open session nothing would keep it.

        Args:
            wishes: What they will ask for.
        """
        with session() as current:
            current.prefetch(
                self.model,
                [(wish.inputs, wish.options) for wish in wishes if not wish.streams],
                [(wish.inputs, wish.options) for wish in wishes if wish.streams],
                join_streams=self.joins_streams,
            )

    def embed(self, inputs: Sequence[Any], options: EncodeOptions | None = None) -> Embeddings:
        """Embeddings of P inputs.

        Args:
            inputs: The inputs.
            options: How they are encoded.

        Returns:
            The table of distinct inputs and the row of each input.
        """
        with session() as current:
            return current.lookup(self.model, inputs, options)

    def pairwise(
        self,
        left: Sequence[Any],
        right: Sequence[Any],
        names: Sequence[str],
        left_options: EncodeOptions | None = None,
        right_options: EncodeOptions | None = None,
        repeats: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Similarity of each pair under several functions.

        Args:
            left: P inputs, or fewer when they repeat.
            right: P inputs.
            names: Any of the kind's similarity functions.
            left_options: How the left side is encoded.
            right_options: How the right side is encoded.
            repeats: (len(left),) int64, how many inputs on the right, one after another, are paired with each on the
                left; None for one.

        Returns:
            (P,) scores by name, float32 or float64; distances are negated.

        Raises:
            ValueError: When the sides differ in length or a name is unknown.
        """
        for name in names:
            self._settled(name)
        num_left = len(left) if repeats is None else int(repeats.sum())
        if num_left != len(right):
            raise ValueError(f"{num_left} inputs on the left and {len(right)} on the right do not make pairs.")
        with session() as current:
            # Both sides in one go where they can be: batches of more even length, and one table.
            current.prefetch(self.model, [(left, left_options), (right, right_options)])
            first = current.lookup(self.model, left, left_options)
            second = current.lookup(self.model, right, right_options)
        index = first.index if repeats is None else first.index.repeat_interleave(repeats.to(first.index.device))
        shared = shares()
        own = shared.part(len(index))
        scores = self._score_pairs(names, first.table, second.table, index[own], second.index[own])
        return {name: torch.cat(shared.gather(part)) for name, part in scores.items()}

    def search(
        self, queries: Sequence[Any], corpus: Any, k: int, similarities: Mapping[str, Any], **settings: Any
    ) -> dict[str, SearchResult]:
        """What `search_forms` finds with whole embeddings; it says what the arguments are."""
        [found] = self.search_forms(queries, corpus, k, similarities, [Form()], **settings)
        return found

    def search_forms(
        self,
        queries: Sequence[Any],
        corpus: Any,
        k: int,
        similarities: Mapping[str, Any],
        forms: Sequence[Form],
        *,
        query_options: EncodeOptions | None = None,
        corpus_options: EncodeOptions | None = None,
        corpus_chunk_size: int = 50000,
        track_ties: bool = False,
        watch: tuple[Tensor, Tensor] | None = None,
        corpus_model: Any = None,
    ) -> list[dict[str, SearchResult]]:
        """The k best documents for each query, with embeddings in several forms, the corpus passing once for all.

        Args:
            queries: Q queries.
            corpus: N documents, or their embeddings; ties go to the one that stands first.
            k: Hits to keep for each query, at least 1.
            similarities: Similarity functions, or their names, by the name of their result.
            forms: Forms of the embeddings that the options ask for; others than whole ones need dense embeddings.
            query_options: How queries are encoded; None encodes them as queries.
            corpus_options: How documents are encoded; None encodes them as documents.
            corpus_chunk_size: Most documents encoded at once. The result does not depend on it.
            track_ties: Whether to count the documents tied with the k-th hit.
            watch: (W,) query and (W,) position in the corpus of pairs whose scores are wanted.
            corpus_model: Another model that encodes the corpus.

        Returns:
            What was found by name, for each form.

        Raises:
            ValueError: When a similarity function is unknown or `k` is below 1.
        """
        settled = {name: self._settled(similarity) for name, similarity in similarities.items()}
        query_options = query_options or EncodeOptions(task="query")
        corpus_options = corpus_options or EncodeOptions(task="document")
        with session() as current:
            rows = current.lookup(self.model, queries, query_options).rows()
            given = self._rows_given(corpus, rows)
            blocks: Iterable[Any]
            if given is None:
                places = current.own_places(corpus)
                model = self.model if corpus_model is None else corpus_model
                # Of a corpus that is quantised some documents are kept already, which makes a block a copy.
                most = _QUANTISED_AT_ONCE if any(form.precision for form in forms) else self.most_at_once
                size = min(corpus_chunk_size, most or corpus_chunk_size)
                blocks = current.stream(model, corpus, corpus_options, size, places, least=self.least_at_once)
            else:
                own = shares().part(len(given))
                places = None if shares().num == 1 else np.arange(own.start, own.stop)
                blocks = [given if places is None else _part(given, places)]
            searches = [
                {
                    name: self._new_search(form.of(rows), k, similarity, track_ties, own_pairs(watch, places))
                    for name, similarity in settled.items()
                }
                for form in forms
            ]
            for documents in self._noted(rows, blocks):
                for form, by_name in zip(forms, searches, strict=True):
                    for formed in form.portions(documents):
                        for search in by_name.values():
                            search.add(formed)
        return [
            {
                name: found_by_all(search, k, places, track_ties=track_ties, watch=watch)
                for name, search in by_name.items()
            }
            for by_name in searches
        ]

    def predict(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: a model that embeds texts has no outputs for pairs.

        Raises:
            TypeError: Always.
        """
        raise TypeError(f"{type(self.model).__name__} (a {self.kind} model) embeds texts; it does not score pairs.")


def _part(rows: Any, places: Any) -> Any:
    return take(rows, torch.from_numpy(places).to(rows.device))
