"""The only room that knows there are several processes."""

from __future__ import annotations

import torch.distributed as dist


def process_index() -> int:
    """Which of them this one is, 0 without several."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def is_main_process() -> bool:
    """Whether this process writes files and shows progress."""
    return process_index() == 0
