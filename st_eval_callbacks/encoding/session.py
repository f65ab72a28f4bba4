"""One evaluation event: whoever asks, a text is encoded once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from .. import distributed
from .encoder import Encoder, Progress, own_places, share_size
from .forward import Counters
from .numbering import Numbering, Numbers, input_of, numbering_of
from .options import Embeddings, EncodeOptions
from .predictions import PairRequest, PredictOptions
from .request import Request
from .space import Space, free_memory
from .tables import Table, merged, num_bytes, take

Asked = tuple[Sequence[Any], EncodeOptions | None]
"""Inputs and how they are encoded."""

# A stream encodes at least so many inputs at a time, however small its blocks: ordering by length needs a choice.
_STREAM_CHUNK = 16384
# Part of the free memory that embeddings of streamed inputs may take.
_CACHE_SHARE = 0.25


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
        self._cache_room = cache_bytes
        self._spaces: dict[Hashable, Space] = {}
        self._numberings: dict[tuple[int, bool], tuple[Any, Numbering]] = {}
        self._passing = Numbering()
        self._own_numberings: defaultdict[int, Numbering] = defaultdict(Numbering)
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
        table, index = self._kept(request)
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
            if join_streams and len(request.inputs) <= _STREAM_CHUNK and self._cache_room != 0:
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
        spare, chunk_size = (
            request.inputs[0],
            -(-(_STREAM_CHUNK if least is None else least) // block_size) * block_size,
        )
        if places is not None:
            request = request.chosen(places)
            chunk_size = share_size(model)
        num_inputs = len(request.inputs)
        num_chunks = max(distributed.numbers(-(-num_inputs // chunk_size)))
        with self._bar(request, num_inputs) as bar:
            for start in range(0, num_chunks * chunk_size, chunk_size):
                distributed.pause()
                part = request.part(start, start + chunk_size)
                read = self._chunk(part, max(num_inputs - start, 0), spare, bar.update)
                for place in range(0, len(part.inputs), block_size):
                    yield request.view(read(place, place + block_size))

    def _kept(self, request: Request) -> Embeddings:
        """Whole embeddings of inputs, kept from now on."""
        if not request.inputs:
            return Embeddings(torch.empty(0, 0), torch.empty(0, dtype=torch.int64))
        space = self._encode_missing([request])
        return Embeddings(space.table, space.index(self._numbers(request)))

    def _encode_missing(self, requests: Sequence[Request]) -> Space:
        """Keep whole embeddings of all inputs of requests that share a space."""
        request, space = requests[0], self._space(requests[0])
        numbers = [self._numbers(one) for one in requests]
        missing = space.missing(numbers[0] if len(numbers) == 1 else np.concatenate(numbers))
        if len(missing):
            options = reduce(lambda options, one: one.joined(options), requests[1:], request.options)
            request = replace(request, options=options)
            keys = self._numbering(request).keys(missing)
            are_texts = all(one.keys is one.inputs for one in requests)
            with self._bar(request, len(missing)) as bar:
                inputs = keys if are_texts else list(map(input_of, keys))
                fresh = self._encoder.encode(request, inputs, bar.update)
            space.add(missing, fresh)
        return space

    def _chunk(self, request: Request, num_left: int, spare: Any, progress: Progress) -> Callable[[int, int], Tensor]:
        """Encode a chunk of a stream and say how to read whole rows of it in order."""
        space, numbering, local = self._space(request, is_own=True), self._own_numbering(request), Numbering()
        places = local.assign(request.keys)
        keys = local.keys(np.arange(len(local)))
        rows = self._rows(space, numbering, keys)
        missing = np.flatnonzero(rows < 0)
        fresh = self._fresh(request, local.keys(missing), spare, progress)
        progress(len(places) - len(missing))
        wanted_again = self._num_streams[request.space_key] != 1
        if not len(missing) or (wanted_again and self._fits(space, fresh, num_left - len(places))):
            if len(missing):
                numbers = numbering.assign(local.keys(missing))
                space.add(numbers, fresh)
                rows[missing] = space.rows(numbers)
            return _reader(space.table, rows[places])
        if len(missing) == len(places):
            return lambda start, end: _slice(fresh, start, end)
        if len(missing) == len(keys):
            return _reader(fresh, places)
        fresh_rows = np.full(len(keys), -1, dtype=np.int64)
        fresh_rows[missing] = np.arange(len(missing))
        return _mixed_reader(space, rows[places], fresh, fresh_rows[places])

    def _fresh(self, request: Request, keys: list[Hashable], spare: Any, progress: Progress) -> Any:
        """Rows of inputs that this process does not keep for streams; those that all processes have are copied."""
        inputs = list(map(input_of, keys))
        shared = self._space(request)
        rows = np.full(len(keys), -1, dtype=np.int64)
        if shared is not self._space(request, is_own=True):
            rows = self._rows(shared, self._numbering(request), keys)
        unknown = [one for one, row in zip(inputs, rows, strict=True) if row < 0]
        if not unknown and not distributed.is_sharded(request.model):
            return take(shared.table, torch.from_numpy(rows).to(shared.table.device))
        encoded = self._encoder.encode_own(request, unknown, progress, spare)
        if len(unknown) == len(inputs):
            return encoded
        is_new, table = torch.from_numpy(rows < 0), shared.table
        copied = take(table, torch.from_numpy(rows[rows >= 0]).to(table.device))
        return merged([encoded, copied], [is_new.nonzero()[:, 0], (~is_new).nonzero()[:, 0]])

    @staticmethod
    def _rows(space: Space, numbering: Numbering, keys: list[Hashable]) -> Numbers:
        """(len(keys),) row of each input in a space, -1 where it is not kept."""
        if not space.num_rows:
            return np.full(len(keys), -1, dtype=np.int64)
        known = numbering.find(keys)
        return np.where(known < 0, -1, space.rows(known.clip(0)))

    def _fits(self, space: Space, fresh: Table, num_to_come: int) -> bool:
        """Whether fresh rows of a stream may be kept; if so there is room for them, and for those to come."""
        if self._cache_room is None:
            self._cache_room = int(free_memory(fresh.device) * _CACHE_SHARE)
        size = num_bytes(fresh)
        if size > self._cache_room:
            return False
        if num_to_come:
            row_bytes = max(size // max(len(fresh), 1), 1)
            space.reserve(min(len(fresh) + num_to_come, self._cache_room // row_bytes), fresh)
        self._cache_room -= size
        return True

    def _request(self, model: Any, inputs: Sequence[Any], options: EncodeOptions | None) -> Request:
        kind = PairRequest if isinstance(options, PredictOptions) else Request
        return kind.of(model, inputs, options, self._numbering_of(model))

    def _numbering(self, request: Request) -> Numbering:
        return self._numbering_of(request.model) if request.is_lasting else self._passing

    def _numbering_of(self, model: Any) -> Numbering:
        is_together = distributed.shares().num > 1
        found = self._numberings.get((id(model), is_together))
        if found is None:
            # The model is held so that its identity stays its own.
            found = (model, numbering_of(model, is_together=is_together))
            self._numberings[id(model), is_together] = found
        return found[1]

    def _own_numbering(self, request: Request) -> Numbering:
        """Numbers for what this process keeps of streams: it sees others than the other processes do.

        Numbers that all share must be given in one order, for what is encoded together is dealt out by them.
        """
        if distributed.shares().num == 1:
            return self._numbering(request)
        return self._own_numberings[id(request.model)]

    def _numbers(self, request: Request) -> Numbers:
        numbering = self._numbering(request)
        known = request.numbers if request.numbers is not None else numbering.recall(request.inputs)
        if known is not None:
            return known
        return numbering.number(request.inputs, request.keys)

    def _space(self, request: Request, *, is_own: bool = False) -> Space:
        """What all processes keep alike; or what this one keeps of streams, which is the same without others."""
        is_apart = is_own and distributed.shares().num > 1
        key = (request.space_key, "own") if is_apart else request.space_key
        return self._spaces.setdefault(key, Space(request.model))

    def _bar(self, request: Request, total: int) -> Any:
        # A model's own encode shows its own bar.
        show = request.is_standard and (request.options.show_progress_bar or self.show_progress_bar)
        desc, unit = request.bar
        return tqdm(total=total, desc=desc, unit=unit, disable=not (show and distributed.is_main_process()))


def _slice(table: Table, start: int, end: int) -> Any:
    end = min(end, len(table))
    return table[start:end] if isinstance(table, Tensor) else table.take(torch.arange(start, end, device=table.device))


def _reader(table: Table, rows: Numbers) -> Callable[[int, int], Any]:
    index = torch.from_numpy(rows).to(table.device)
    return lambda start, end: take(table, index[start:end])


def _mixed_reader(space: Space, rows: Numbers, fresh: Table, fresh_rows: Numbers) -> Callable[[int, int], Any]:
    """Rows of which some are kept and others were encoded for this chunk only, where their kept row is -1."""
    kept_index, fresh_index = (torch.from_numpy(one).to(fresh.device) for one in (rows, fresh_rows))

    def read(start: int, end: int) -> Any:
        kept, new = kept_index[start:end], fresh_index[start:end]
        is_kept = kept >= 0
        parts = [take(space.table, kept[is_kept]), take(fresh, new[~is_kept])]
        return merged(parts, [is_kept.nonzero()[:, 0], (~is_kept).nonzero()[:, 0]])

    return read
