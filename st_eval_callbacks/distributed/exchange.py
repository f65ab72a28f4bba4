"""Work that is shared out, and what processes exchange for it."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..kernels.shares import ALONE, Shares
from .meeting import BLOCK, TRAFFIC, Why, device_for, meet
from .processes import num_processes, process_index


def shares() -> Shares:
    """How work is shared out here: over all processes where they are together, else not at all."""
    block = BLOCK.get()
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
    met = meet(Why.GATHER, sizes=list(tensor.shape))
    shapes = [row[4 : 4 + row[3]] for row in met]
    num_bytes = [torch.Size(shape).numel() * tensor.element_size() for shape in shapes]
    with torch.inference_mode(False):
        sent = torch.zeros(max(num_bytes), dtype=torch.uint8, device=device_for(tensor))
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
    meet(Why.EXCHANGE, sizes=list(tensor.shape))
    row_shape = tensor.shape[1:]
    row_bytes = row_shape.numel() * tensor.element_size()
    parts = [Shares(index, shared.num).part(len(tensor)) for index in range(shared.num)]
    sizes = [(part.stop - part.start) * row_bytes for part in parts]
    own_bytes = sizes[shared.index]
    with torch.inference_mode(False):
        sent = tensor.contiguous().view(-1).view(torch.uint8).to(device_for(tensor))
        received = sent.new_empty(own_bytes * shared.num)
        dist.all_to_all_single(received, sent, [own_bytes] * shared.num, sizes)
    TRAFFIC.num_gathered_bytes += own_bytes * (shared.num - 1)
    # Copied, for a view of another type must be aligned to it.
    flat = [received[index * own_bytes : (index + 1) * own_bytes].clone() for index in range(shared.num)]
    return [one.view(tensor.dtype).view(-1, *row_shape).to(tensor.device) for one in flat]


def numbers(number: int) -> list[int]:
    """A number of each process, in order; only this one's when they are not together."""
    return [number] if shares().num == 1 else [row[2] for row in meet(Why.NUMBER, number=number)]


def pause() -> None:
    """Meet the others, if they are together, to learn whether one has failed.

    Raises:
        OtherProcessError: When another process failed.
    """
    if shares().num > 1:
        meet(Why.PAUSE)


def from_main(value: Any) -> Any:
    """A value of the main process, on all; pickled, so nothing large. For use in a guarded block.

    Args:
        value: What the main process has; that of others is not looked at.

    Returns:
        The main process's value; without several processes, or outside of a block, the value given.

    Raises:
        OtherProcessError: When another process failed.
    """
    if BLOCK.get() is None:
        return value
    meet(Why.BROADCAST)
    values = [value]
    with torch.inference_mode(False):
        dist.broadcast_object_list(values, src=0)
    return values[0]
