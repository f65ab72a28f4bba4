"""Joining the processes that a launcher started, where no trainer does it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist
from accelerate import PartialState


@contextmanager
def launched(*, on_cpu: bool) -> Iterator[str | None]:
    """Be one of the processes that `torchrun` started, as long as this lasts.

    Args:
        on_cpu: Whether they compute on the CPU.

    Yields:
        The device of this process; None where there is only one process, or they have joined already.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield None
        return
    state = PartialState(cpu=on_cpu)
    try:
        yield str(state.device)
    finally:
        state.destroy_process_group()
