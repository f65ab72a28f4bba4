"""The one place where inputs meet a model, alone or shared out over processes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import astuple, replace
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from .. import distributed
from ..kernels.shares import Shares
from .batches import num_chars
from .forward import Counters, encode_texts
from .kinds import encode_rows
from .numbering import Numbers
from .request import Request
from .state import evaluating
from .tables import Table, gathered, merged, take

Progress = Callable[[int], Any]

# Inputs that a process encodes between two meetings with the others: seconds of work.
_CPU_SHARE, _GPU_SHARE = 512, 8192

_EVENTS = itertools.count(1)


class Encoder:
    """Encodes distinct inputs for one evaluation event.

    Args:
        counters: Counts what is encoded here.
        show_progress_bar: Whether a model's own `encode` shows its bar on the main process.
        batch_size: Most inputs in a batch where the options say None; None lets the lengths decide.
        autocast_dtype: Models compute in this type where torch deems it safe; None leaves that as it is.
    """

    def __init__(
        self,
        counters: Counters,
        show_progress_bar: bool = False,
        batch_size: int | None = None,
        autocast_dtype: torch.dtype | None = None,
    ) -> None:
        self._counters = counters
        self._show_progress_bar = show_progress_bar
        self._batch_size = batch_size
        self._autocast_dtype = autocast_dtype
        self._event = next(_EVENTS)

    def encode(self, request: Request, inputs: list[Any], progress: Progress) -> Any:
        """Rows of inputs that all processes have; each encodes a share where they are together, and all get all.

        Args:
            request: The model and how it encodes.
            inputs: U distinct inputs, at least one.
            progress: Told how many are done, every now and then.

        Returns:
            U whole rows in the order of the inputs.
        """
        shares = distributed.shares()
        if shares.num == 1:
            return self.encode_own(request, inputs, progress)
        # Dealt out from the longest to the shortest, all have equally much to do whenever they meet.
        order = _longest_first(inputs)
        size = share_size(request.model) * shares.num
        parts: list[Table] = []
        places: list[Tensor] = []
        for start in range(0, len(inputs), size):
            dealt = order[start : start + size]
            own = [inputs[place] for place in dealt[shares.index :: shares.num]]
            rows = self.encode_own(request, own, lambda _: None, spare=inputs[dealt[0]])
            parts += gathered(rows, shares.gather)
            places += [torch.from_numpy(dealt[index :: shares.num]) for index in range(shares.num)]
            progress(len(dealt))
        return merged(parts, places)

    def encode_own(self, request: Request, inputs: list[Any], progress: Progress, spare: Any = None) -> Any:
        """Rows of inputs that only this process encodes.

        Args:
            request: The model and how it encodes.
            inputs: N distinct inputs; none only with a spare one.
            progress: Told how many are done, every now and then.
            spare: An input to encode and forget where there are none: it tells the width, and lets all processes run a
                sharded model equally often.

        Returns:
            N whole rows in the order of the inputs.
        """
        counts = astuple(self._counters)
        given = inputs or [spare]
        rows: Table
        with evaluating(request.model):
            if request.is_standard:
                rows = encode_texts(
                    request.model,
                    given,
                    request.prompt,
                    request.task,
                    batch_size=request.options.batch_size or self._batch_size,
                    autocast_dtype=self._autocast_dtype,
                    event=self._event,
                    counters=self._counters,
                    progress=progress,
                    num_passes=_largest if distributed.is_sharded(request.model) else None,
                )
            else:
                rows = self._by_model(request, given)
        if not inputs:
            self._counters.restore(*counts)
            return take(rows, torch.empty(0, dtype=torch.int64, device=rows.device))
        return rows

    def _by_model(self, request: Request, inputs: list[Any]) -> Any:
        options, model = request.options, request.model
        settings = replace(
            options,
            batch_size=options.batch_size or self._batch_size,
            show_progress_bar=(options.show_progress_bar or self._show_progress_bar) and distributed.is_main_process(),
        )
        num_inputs = len(inputs)
        if distributed.is_sharded(model):
            # Batches of a model's own encode go by number: as many inputs make as many passes.
            inputs = inputs + inputs[-1:] * (_largest(num_inputs) - num_inputs)
        with self._autocast(model):
            rows = encode_rows(model, inputs, settings)
        self._counters.num_encoded += num_inputs
        return rows if len(rows) == num_inputs else take(rows, torch.arange(num_inputs, device=rows.device))

    def _autocast(self, model: Any) -> AbstractContextManager[Any]:
        if self._autocast_dtype is None:
            return nullcontext()
        return torch.autocast(_device_type(model), dtype=self._autocast_dtype)


def share_size(model: Any) -> int:
    """How many inputs a process encodes between two meetings with the others."""
    return _CPU_SHARE if _device_type(model) == "cpu" else _GPU_SHARE


def own_places(inputs: Sequence[Any], shares: Shares) -> Numbers:
    """Places of the inputs of a long list that one process encodes and scores, ascending.

    A text decides where it goes: equal texts meet in one process, also those of other lists, and are encoded once.

    Args:
        inputs: N inputs.
        shares: How they are shared out.

    Returns:
        About N / shares.num places.
    """
    owners = (
        crc32(one.encode("utf-8", "surrogatepass")) if isinstance(one, str) else place
        for place, one in enumerate(inputs)
    )
    return np.flatnonzero(np.fromiter(owners, dtype=np.int64, count=len(inputs)) % shares.num == shares.index)


def _largest(number: int) -> int:
    return max(distributed.numbers(number))


def _longest_first(inputs: list[Any]) -> Numbers:
    lengths = np.fromiter(map(num_chars, inputs), np.int64, len(inputs))
    return np.argsort(-lengths, kind="stable")


def _device_type(model: Any) -> str:
    device = getattr(model, "device", None)
    return device.type if isinstance(device, torch.device) else "cpu"
