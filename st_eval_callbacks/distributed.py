"""The only room that knows there are several processes.

Accelerate or `torchrun` has made the default group by the time an evaluation runs; it is used as it is.

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

import accelerate.state
import torch
import torch.distributed as dist
from accelerate import DistributedType
from accelerate.state import AcceleratorState
from sentence_transformers import util
from torch import Tensor, nn

from .kernels.shares import ALONE, Shares

logger = logging.getLogger(__name__)

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
class _Block:
    """A stretch of code that all processes are in.

    Attributes:
        is_together: Whether all make the same calls in it.
        is_over: Whether a meeting told of a failure, after which there are no more of them.
    """

    is_together: bool
    is_over: bool = False


class _Why(IntEnum):
    END = 0
    PAUSE = 1
    NUMBER = 2
    GATHER = 3
    BROADCAST = 4
    EXCHANGE = 5


_BLOCK: ContextVar[_Block | None] = ContextVar("block_of_processes", default=None)


def process_index() -> int:
    """Which of them this one is, 0 without several."""
    return dist.get_rank() if num_processes() > 1 else 0


def num_processes() -> int:
    """How many there are, 1 without several: those of Accelerate where it runs, else those of torch."""
    if not dist.is_available() or not dist.is_initialized():
        return 1
    if accelerate.state.is_initialized() and AcceleratorState().distributed_type == DistributedType.NO:
        return 1
    return dist.get_world_size()


def warn_if_apart() -> None:
    """Warn where several processes were started and each trains by itself, which on a CPU is what one gets."""
    if dist.is_available() and dist.is_initialized() and num_processes() == 1 and dist.get_world_size() > 1:
        logger.warning(
            "%d processes were started, but Accelerate runs each by itself: all train the same, and write the same "
            "files. On a CPU, pass use_cpu=True in the training arguments.",
            dist.get_world_size(),
        )


def is_main_process() -> bool:
    """Whether this process writes files and shows progress."""
    return process_index() == 0


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
    if num_processes() == 1 or _BLOCK.get() is not None:
        yield
        return
    block = _Block(is_together)
    token = _BLOCK.set(block)
    failure: BaseException | None = None
    try:
        with _quiet_elsewhere(is_together):
            try:
                yield
            except BaseException as error:
                failure = error
            if not block.is_over:
                _meet(_Why.END, failure=failure)
    finally:
        _BLOCK.reset(token)
    if failure is not None:
        raise failure


def shares() -> Shares:
    """How work is shared out here: over all processes where they are together, else not at all."""
    block = _BLOCK.get()
    if block is None or not block.is_together:
        return ALONE
    return Shares(process_index(), num_processes(), gather, pause)


def gather(tensor: Tensor) -> list[Tensor]:
    """The tensors of all processes, in order, on the device of this one's.

    Args:
        tensor: Any number of dimensions up to six; sizes may differ between processes, the dtype may not.

    Returns:
        One tensor a process; only this one's when they are not together.

    Raises:
        OtherProcessError: When another process failed.
    """
    if shares().num == 1:
        return [tensor]
    tensor = tensor.detach()
    met = _meet(_Why.GATHER, sizes=list(tensor.shape))
    shapes = [row[4 : 4 + row[3]] for row in met]
    num_bytes = [torch.Size(shape).numel() * tensor.element_size() for shape in shapes]
    with torch.inference_mode(False):
        sent = torch.zeros(max(num_bytes), dtype=torch.uint8, device=_device(tensor))
        sent[: num_bytes[process_index()]] = tensor.contiguous().view(-1).view(torch.uint8)
        received = [torch.empty_like(sent) for _ in shapes]
        if len(sent):
            dist.all_gather(received, sent)
    TRAFFIC.num_gathered_bytes += sum(num_bytes) - num_bytes[process_index()]
    return [
        tensor if index == process_index() else flat[:size].view(tensor.dtype).view(shape).to(tensor.device)
        for index, (flat, size, shape) in enumerate(zip(received, num_bytes, shapes, strict=True))
    ]


def exchange(tensor: Tensor) -> list[Tensor]:
    """This process's range of the rows of each process's tensor, in the order of the processes.

    Args:
        tensor: (N, ...) of one shape and dtype on all.

    Returns:
        For each process its rows `shares().part(N)`, on the device of this one's tensor.

    Raises:
        OtherProcessError: When another process failed.
    """
    shared = shares()
    if shared.num == 1:
        return [tensor]
    tensor = tensor.detach()
    _meet(_Why.EXCHANGE, sizes=list(tensor.shape))
    row_shape = tensor.shape[1:]
    row_bytes = row_shape.numel() * tensor.element_size()
    parts = [Shares(index, shared.num).part(len(tensor)) for index in range(shared.num)]
    sizes = [(part.stop - part.start) * row_bytes for part in parts]
    own_bytes = sizes[shared.index]
    with torch.inference_mode(False):
        sent = tensor.contiguous().view(-1).view(torch.uint8).to(_device(tensor))
        received = sent.new_empty(own_bytes * shared.num)
        dist.all_to_all_single(received, sent, [own_bytes] * shared.num, sizes)
    TRAFFIC.num_gathered_bytes += own_bytes * (shared.num - 1)
    # Copied, for a view of another type must be aligned to it.
    flat = [received[index * own_bytes : (index + 1) * own_bytes].clone() for index in range(shared.num)]
    return [one.view(tensor.dtype).view(-1, *row_shape).to(tensor.device) for one in flat]


def numbers(number: int) -> list[int]:
    """A number of each process, in order; only this one's when they are not together."""
    return [number] if shares().num == 1 else [row[2] for row in _meet(_Why.NUMBER, number=number)]


def pause() -> None:
    """Meet the others, if they are together, to learn whether one has failed.

    Raises:
        OtherProcessError: When another process failed.
    """
    if shares().num > 1:
        _meet(_Why.PAUSE)


def from_main(value: Any) -> Any:
    """A value of the main process, on all; pickled, so nothing large. For use in a guarded block.

    Args:
        value: What the main process has; that of others is not looked at.

    Returns:
        The main process's value; without several processes, or outside of a block, the value given.

    Raises:
        OtherProcessError: When another process failed.
    """
    if _BLOCK.get() is None:
        return value
    _meet(_Why.BROADCAST)
    values = [value]
    with torch.inference_mode(False):
        dist.broadcast_object_list(values, src=0)
    return values[0]


@contextmanager
def served(model: Any) -> Iterator[bool]:
    """Let the main process alone run an evaluator that knows nothing of processes, while the others encode for it.

    This is sentence-transformers' `distributed_evaluation`, where there is one and the model can be served.

    Args:
        model: The model.

    Yields:
        Whether this process runs the evaluator: all do where it cannot be served.
    """
    # Not there in sentence-transformers below 6.2.
    serve = getattr(getattr(util, "distributed", None), "distributed_evaluation", None)
    if serve is None or num_processes() == 1 or not hasattr(model, "_distributed_inference") or is_sharded(model):
        yield True
        return
    try:
        with serve(model) as is_running:
            yield is_running
    except RuntimeError as error:
        if is_main_process():
            raise
        raise OtherProcessError(str(error)) from error


def is_sharded(model: Any) -> bool:
    """Whether each process holds a part of a model's weights, so that all must run it equally often."""
    if num_processes() == 1 or not isinstance(model, nn.Module):
        return False
    kinds = {kind.__name__ for module in model.modules() for kind in type(module).__mro__}
    is_zero = any(hasattr(parameter, "ds_id") for parameter in model.parameters())
    return is_zero or not kinds.isdisjoint({"FSDPModule", "FullyShardedDataParallel"})


def _meet(
    why: _Why, *, number: int = 0, sizes: list[int] | None = None, failure: BaseException | None = None
) -> list[list[int]]:
    """What each process tells in a meeting of all."""
    block = _BLOCK.get()
    assert block is not None
    if block.is_over:
        raise OtherProcessError("This evaluation had ended on another process already.")
    sizes = sizes or []
    if len(sizes) > _MAX_NDIM:
        raise ValueError(f"A tensor of {len(sizes)} dimensions cannot be gathered, {_MAX_NDIM} are the most.")
    TRAFFIC.num_meetings += 1
    told = [int(why), _grade(failure), number, len(sizes), *sizes]
    with torch.inference_mode(False):
        sent = torch.tensor([*told, *[0] * (_MEETING_SIZE - len(told))], device=_device())
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
        whys = ", ".join(f"{index}: {_Why(row[0]).name.lower()}" for index, row in enumerate(met))
        raise RuntimeError(
            f"The processes are not doing the same ({whys}). An evaluator that runs on all of them must make the same "
            "calls on each, and let errors pass."
        )
    return met


def _grade(failure: BaseException | None) -> int:
    """0 for none, 1 for an error, 2 for what should end the program."""
    return 0 if failure is None else 1 if isinstance(failure, Exception) else 2


def _device(like: Tensor | None = None) -> torch.device:
    """Where tensors must be to be exchanged."""
    backend = str(dist.get_backend())
    if backend in _ACCELERATOR_ONLY:
        return torch.device(_ACCELERATOR_ONLY[backend], torch.accelerator.current_device_index())
    # A group of several backends serves both kinds; gloo alone takes what is on the host.
    return torch.device("cpu") if like is None or backend == "gloo" else like.device


@contextmanager
def _quiet_elsewhere(is_together: bool) -> Iterator[None]:
    logger = logging.getLogger(__package__)
    level = logger.level
    if is_together and not is_main_process():
        logger.setLevel(max(level, logging.ERROR))
    try:
        yield
    finally:
        logger.setLevel(level)
