"""How many processes there are, and which one this is.

Accelerate or `torchrun` has made the default group by the time an evaluation runs; it is used as it is.
"""

from __future__ import annotations

import logging
from typing import Any

import accelerate.state
import torch.distributed as dist
from accelerate import DistributedType
from accelerate.state import AcceleratorState
from torch import nn

logger = logging.getLogger(__name__)


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


def is_main_process() -> bool:
    """Whether this process writes files and shows progress."""
    return process_index() == 0


def is_sharded(model: Any) -> bool:
    """Whether each process holds a part of a model's weights, so that all must run it equally often."""
    if num_processes() == 1 or not isinstance(model, nn.Module):
        return False
    kinds = {kind.__name__ for module in model.modules() for kind in type(module).__mro__}
    is_zero = any(hasattr(parameter, "ds_id") for parameter in model.parameters())
    return is_zero or not kinds.isdisjoint({"FSDPModule", "FullyShardedDataParallel"})


def warn_if_apart() -> None:
    """Warn where several processes were started and each trains by itself, which on a CPU is what one gets."""
    if dist.is_available() and dist.is_initialized() and num_processes() == 1 and dist.get_world_size() > 1:
        logger.warning(
            "%d processes were started, but Accelerate runs each by itself: all train the same, and write the same "
            "files. On a CPU, pass use_cpu=True in the training arguments.",
            dist.get_world_size(),
        )
