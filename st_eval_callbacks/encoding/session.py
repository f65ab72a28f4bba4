"""One evaluation event: whoever asks, a text is encoded once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from .. import distributed
from .chunks import Chunks
from .encoder import Encoder, own_places, share_size
from .forward import Counters
from .kept import Kept
from .numbering import Numbers, input_of
from .options import Embeddings, EncodeOptions
from .predictions import PairRequest, PredictOptions
from .request import Request
from .space import Space

Asked = tuple[Sequence[Any], EncodeOptions | None]
"""Inputs and how they are encoded."""

# A stream encodes at least so many inputs at a time, however small its blocks: ordering by length needs a choice.
_STREAM_CHUNK = 16384


class Session(Counters):
    """Embeddings for one evaluation event, shared by all evaluators.

    Each (text, resolved prompt, task) is encoded once: other similarity functions, truncations, normalisation and data
    splits are views and slices of the same whole embedding. The weights must not change while a session is used.

    Args:
        show_progress_bar: Whether the main process shows a bar over the inputs it encodes, whatever the options say.
        batch_size: Most inputs in a batch where the options say None; None lets the lengths decide.
        autocast_dtype: Models compute in this type where torch deems it safe; None leaves that as it is.
        cache_bytes: Most memory for embeddings of streamed inputs, in bytes, over all models; None takes a quarter of
            what is free on the device. Inputs of `lookup` and `prefetch` are always kept.

    Attributes:
        kept: What it keeps.
        num_requested: Inputs that evaluators asked for.
        num_encoded: Inputs that a model encoded.
        num_tokens: Tokens of the texts encoded by the fast path.
        num_padded_tokens: Those tokens and the padding beside them.
    """

    def __init__(
        self,
        *,
        show_progress_bar: bool = False,
        batch_size: int | None = None,
        autocast_dtype: torch.dtype | None = None,
        cache_bytes: int | None = None,
    ) -> None:
        """Start empty."""
        super().__init__()
        self.show_progress_bar = show_progress_bar
        self.batch_size = batch_size
        self.autocast_dtype = autocast_dtype
        self._encoder = Encoder(self, show_progress_bar, batch_size, autocast_dtype)
        self.kept = Kept()
        self._chunks = Chunks(self.kept, self._encoder, cache_bytes)
        self._num_streams: Counter[Hashable] = Counter()

    def lookup(self, model: Any, inputs: Sequence[Any], options: EncodeOptions | None = None) -> Embeddings:
        """Embeddings of inputs, encoding those that nobody asked for before.

        Args:
            model: A SentenceTransformer, or any object with its `encode`.
            inputs: P texts, or whatever the model takes.
            options: How they are encoded.

        Returns:
            The table and the row of each input. Rows in the table may belong to others' inputs.

        Raises:
            TypeError: When `inputs` is a single text or the model has no `encode`.
            ValueError: For an unknown prompt name, or a result that is not one row an input.
        """
        request = self._request(model, inputs, options)
        self.num_requested += len(request.inputs)
        table, index = self._embeddings(request)
        return Embeddings(request.view(table), index)

    def prefetch(
        self, model: Any, requests: Sequence[Asked], streamed: Sequence[Asked] = (), *, join_streams: bool = True
    ) -> None:
        """Encode the union of what several lookups will ask for, ordered and batched as one.

        Args:
            model: A SentenceTransformer, or any object with its `encode`.
            requests: Inputs and options of each lookup to come.
            streamed: The same for each stream. Short ones join the union; a long one that is not the only one of its
                space is kept while it passes, as far as the cache has room.
            join_streams: Whether short streams join the union; without, they pass as long ones do.

        Raises:
            TypeError: When inputs are a single text or the model has no `encode`.
            ValueError: For an unknown prompt name, or a result that is not one row an input.
        """
        unions: defaultdict[Hashable, list[Request]] = defaultdict(list)

        def join(request: Request) -> None:
            if request.inputs:
                unions[request.space_key].append(request)

        for inputs, options in requests:
            join(self._request(model, inputs, options))
        for inputs, options in streamed:
            request = self._request(model, inputs, options)
            self._num_streams[request.space_key] += 1
            if join_streams and len(request.inputs) <= _STREAM_CHUNK and self._chunks.room != 0:
                join(request)
        for union in unions.values():
            self._encode_missing(union)

    def own_places(self, inputs: Sequence[Any]) -> Numbers | None:
        """Places of the inputs of a stream that this process takes where processes are together; None for all."""
        shares = distributed.shares()
        return None if shares.num == 1 else own_places(inputs, shares)

    def stream(
        self,
        model: Any,
        inputs: Sequence[Any],
        options: EncodeOptions | None = None,
        block_size: int = 16384,
        places: Numbers | None = None,
        least: int | None = None,
    ) -> Iterator[Any]:
        """Embeddings of many inputs, block by block; only what fits the cache is kept.

        Args:
            model: A SentenceTransformer, or any object with its `encode`.
            inputs: P texts, or whatever the model takes.
            options: How they are encoded.
            block_size: Rows in a block, at least 1; some may be smaller.
            places: Those of `own_places`; None for all.
            least: Fewest inputs encoded at a time, so that they can be ordered by length; None takes 16,384.

        Yields:
            (block_size, d) embeddings in the order of the inputs.

        Raises:
            TypeError: When `inputs` is a single text or the model has no `encode`.
            ValueError: For a block size below 1, an unknown prompt name, or a result that is not one row an input.
        """
        if block_size < 1:
            raise ValueError(f"block_size={block_size}: at least 1.")
        request = self._request(model, inputs, options)
        self.num_requested += len(request.inputs)
        if not request.inputs:
            return
        spare, least = request.inputs[0], _STREAM_CHUNK if least is None else least
        chunk_size = -(-least // block_size) * block_size
        if places is not None:
            request = request.chosen(places)
            chunk_size = share_size(model)
        num_inputs = len(request.inputs)
        is_wanted_again = self._num_streams[request.space_key] != 1
        num_chunks = max(distributed.numbers(-(-num_inputs // chunk_size)))
        with self._bar(request, num_inputs) as bar:
            for start in range(0, num_chunks * chunk_size, chunk_size):
                distributed.pause()
                part = request.part(start, start + chunk_size)
                read = self._chunks.reader(
                    part, max(num_inputs - start, 0), spare, bar.update, is_wanted_again=is_wanted_again
                )
                for place in range(0, len(part.inputs), block_size):
                    yield request.view(read(place, place + block_size))

    def _embeddings(self, request: Request) -> Embeddings:
        """Whole embeddings of inputs, kept from now on."""
        if not request.inputs:
            return Embeddings(torch.empty(0, 0), torch.empty(0, dtype=torch.int64))
        space = self._encode_missing([request])
        return Embeddings(space.table, space.index(self.kept.numbers(request)))

    def _encode_missing(self, requests: Sequence[Request]) -> Space:
        """Keep whole embeddings of all inputs of requests that share a space."""
        request, space = requests[0], self.kept.space(requests[0])
        numbers = [self.kept.numbers(one) for one in requests]
        missing = space.missing(numbers[0] if len(numbers) == 1 else np.concatenate(numbers))
        if len(missing):
            options = reduce(lambda options, one: one.joined(options), requests[1:], request.options)
            request = replace(request, options=options)
            keys = self.kept.numbering(request).keys(missing)
            are_texts = all(one.keys is one.inputs for one in requests)
            with self._bar(request, len(missing)) as bar:
                inputs = keys if are_texts else list(map(input_of, keys))
                fresh = self._encoder.encode(request, inputs, bar.update)
            space.add(missing, fresh)
        return space

    def _request(self, model: Any, inputs: Sequence[Any], options: EncodeOptions | None) -> Request:
        kind = PairRequest if isinstance(options, PredictOptions) else Request
        return kind.of(model, inputs, options, self.kept.numbering_of(model))

    def _bar(self, request: Request, total: int) -> Any:
        # A model's own encode shows its own bar.
        show = request.is_standard and (request.options.show_progress_bar or self.show_progress_bar)
        desc, unit = request.bar
        return tqdm(total=total, desc=desc, unit=unit, disable=not (show and distributed.is_main_process()))
