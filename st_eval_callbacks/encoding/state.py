"""Evaluation leaves training as it was."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn


@contextmanager
def untouched(*models: Any) -> Iterator[None]:
    """Put back what an evaluation changes: each submodule's training mode, the random states, the grad mode.

    The random states are those of Python, NumPy, torch on the CPU and on every accelerator in use. Inside, models are
    in evaluation mode and no gradients are recorded.

    Args:
        *models: What is evaluated; those that are no `nn.Module` have no mode.

    Yields:
        Nothing.
    """
    with _random_states_put_back(), evaluating(*models):
        yield


@contextmanager
def evaluating(*models: Any) -> Iterator[None]:
    """As `untouched`, but draw random numbers as they come: for a part of an evaluation.

    Args:
        *models: What is evaluated; those that are no `nn.Module` have no mode.

    Yields:
        Nothing.
    """
    networks = [model for model in models if isinstance(model, nn.Module)]
    modes = [(module, module.training) for network in networks for module in network.modules()]
    # Without gradients rather than in inference mode: buffers that a model fills lazily during an evaluation (rotary
    # tables, gathered FSDP parameters) would be inference tensors, which training cannot use.
    with torch.no_grad():
        try:
            for network in networks:
                if any(module.training for module in network.modules()):
                    network.eval()
            yield
        finally:
            for module, training in modes:
                # Not `train()`, which would change the submodules as well, and may be overridden to freeze some.
                module.training = training


@contextmanager
def _random_states_put_back() -> Iterator[None]:
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        if mps is not None:
            torch.mps.set_rng_state(mps)
