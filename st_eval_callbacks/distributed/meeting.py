"""Meetings of all processes, and blocks of code that all leave with an error if one does.

Whatever processes do together begins with a meeting, in which each says whether it has failed. A process that fails
goes to the end of its block and meets the others there, wherever they are in theirs: none waits in vain.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from .processes import is_main_process, num_processes

# A meeting tells why one came, whether it has failed, a number, and the dimensions and sizes of a tensor.
_MAX_NDIM = 6
_MEETING_SIZE = 4 + _MAX_NDIM
_ACCELERATOR_ONLY = {"nccl": "cuda", "xccl": "xpu", "hccl": "hpu", "cncl": "mlu"}


class OtherProcessError(Exception):
    """Another process failed; the message holds its traceback.

    It is no `RuntimeError`, which `auto_find_batch_size` might take for a want of memory.
    """


class OtherProcessInterrupt(KeyboardInterrupt):
    """Another process was interrupted, or told to exit: this one ends as well, whatever it does about errors."""


@dataclass
class Traffic:
    """What this process exchanged with others.

    Attributes:
        num_meetings: How often all met.
        num_gathered_bytes: Bytes of tensors received from others.
    """

    num_meetings: int = 0
    num_gathered_bytes: int = 0


TRAFFIC = Traffic()
"""Counts since the process began."""


@dataclass
class Block:
    """A stretch of code that all processes are in.

    Attributes:
        is_together: Whether all make the same calls in it.
        is_over: Whether a meeting told of a failure, after which there are no more of them.
    """

    is_together: bool
    is_over: bool = False


class Why(IntEnum):
    """What a process comes to a meeting for."""

    END = 0
    PAUSE = 1
    NUMBER = 2
    GATHER = 3
    BROADCAST = 4
    EXCHANGE = 5


BLOCK: ContextVar[Block | None] = ContextVar("block_of_processes", default=None)


@contextmanager
def guarded(*, is_together: bool = False) -> Iterator[None]:
    """A block that all processes enter, and leave with an error if any of them does.

    Inside another such block nothing is added.

    Args:
        is_together: Whether all make the same calls in the same order inside, so that work can be shared out; then
            only the main process logs what is no error.

    Yields:
        Nothing.

    Raises:
        OtherProcessError: When another process failed; the one that failed raises what it raised.
        OtherProcessInterrupt: When another process was interrupted.
    """
    if num_processes() == 1 or BLOCK.get() is not None:
        yield
        return
    block = Block(is_together)
    token = BLOCK.set(block)
    failure: BaseException | None = None
    try:
        with _quiet_elsewhere(is_together):
            try:
                yield
            except BaseException as error:
                failure = error
            if not block.is_over:
                meet(Why.END, failure=failure)
    finally:
        BLOCK.reset(token)
    if failure is not None:
        raise failure


def meet(
    why: Why, *, number: int = 0, sizes: list[int] | None = None, failure: BaseException | None = None
) -> list[list[int]]:
    """Meet all other processes.

    Args:
        why: What this process comes for; all must come for the same.
        number: A number to tell.
        sizes: Sizes of a tensor to tell.
        failure: Why this process fails, if it does.

    Returns:
        For each process what it came for, how bad its failure is, its number, how many sizes it tells, and those.

    Raises:
        OtherProcessError: When another process failed.
        OtherProcessInterrupt: When another process was interrupted.
        RuntimeError: When processes came for different things.
        ValueError: For more than six sizes.
    """
    block = BLOCK.get()
    assert block is not None
    if block.is_over:
        raise OtherProcessError("This evaluation had ended on another process already.")
    sizes = sizes or []
    if len(sizes) > _MAX_NDIM:
        raise ValueError(f"A tensor of {len(sizes)} dimensions cannot be gathered, {_MAX_NDIM} are the most.")
    TRAFFIC.num_meetings += 1
    told = [int(why), _grade(failure), number, len(sizes), *sizes]
    with torch.inference_mode(False):
        sent = torch.tensor([*told, *[0] * (_MEETING_SIZE - len(told))], device=device_for())
        received = [torch.empty_like(sent) for _ in range(num_processes())]
        dist.all_gather(received, sent)
        met: list[list[int]] = torch.stack(received).tolist()
        if any(row[1] for row in met):
            block.is_over = True
            texts: list[Any] = [None] * num_processes()
            text = None if failure is None else "".join(traceback.format_exception(failure))
            dist.all_gather_object(texts, text)
            if failure is None:
                failed = [f"process {index}:\n{text}" for index, text in enumerate(texts) if text is not None]
                kind = OtherProcessError if max(row[1] for row in met) == 1 else OtherProcessInterrupt
                raise kind("Another process failed, so this one stops as well.\n" + "\n".join(failed))
            return met
    if len({row[0] for row in met}) > 1:
        block.is_over = True
        whys = ", ".join(f"{index}: {Why(row[0]).name.lower()}" for index, row in enumerate(met))
        raise RuntimeError(
            f"The processes are not doing the same ({whys}). An evaluator that runs on all of them must make the same "
            "calls on each, and let errors pass."
        )
    return met


def _grade(failure: BaseException | None) -> int:
    """0 for none, 1 for an error, 2 for what should end the program."""
    return 0 if failure is None else 1 if isinstance(failure, Exception) else 2


def device_for(like: Tensor | None = None) -> torch.device:
    """Where tensors must be to be exchanged.

    Args:
        like: A tensor to exchange; None for what may be anywhere.

    Returns:
        The device.
    """
    backend = str(dist.get_backend())
    if backend in _ACCELERATOR_ONLY:
        return torch.device(_ACCELERATOR_ONLY[backend], torch.accelerator.current_device_index())
    # A group of several backends serves both kinds; gloo alone takes what is on the host.
    return torch.device("cpu") if like is None or backend == "gloo" else like.device


@contextmanager
def _quiet_elsewhere(is_together: bool) -> Iterator[None]:
    logger = logging.getLogger(__name__.partition(".")[0])
    level = logger.level
    if is_together and not is_main_process():
        logger.setLevel(max(level, logging.ERROR))
    try:
        yield
    finally:
        logger.setLevel(level)
