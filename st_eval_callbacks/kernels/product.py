"""The float32 product of two blocks of embeddings, by the kernel that is fastest on this processor."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

Product = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``product(queries (Q, d), documents (B, d), out (Q, B)) -> (Q, B)``; it may leave ``out`` unused."""

# Another kernel than torch's own is taken only when it is clearly faster: processes that share one evaluation time
# their kernels independently, and a choice decided by noise would give them scores with different rounding.
_MIN_GAIN = 1.5
_PROBE_QUERIES, _PROBE_DOCUMENTS = 256, 4096
# Largest error for unit vectors: float32 accumulation stays near 3e-7, TF32 and bfloat16 inputs are above 2e-5.
_MAX_ERROR = 2e-6


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Keep products in full float32 and outside autograd and autocast, whatever the caller has switched on.

    Args:
        device: the device whose autocast is switched off.

    Yields:
        Nothing; the settings are as before on leaving.
    """
    with ExitStack() as stack:
        # Buffers made here are written again later, perhaps outside the caller's inference mode.
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.autocast(device.type, enabled=False))
        settings: list[Any] = [
            getattr(backend, "matmul", None) for backend in (torch.backends.cuda, torch.backends.mkldnn)
        ]
        settings = [setting for setting in settings if hasattr(setting, "fp32_precision")]
        for setting in settings:
            precision = setting.fp32_precision
            if precision not in ("none", "ieee"):
                setting.fp32_precision = "ieee"
                stack.callback(setattr, setting, "fp32_precision", precision)
        if not settings:  # torch below 2.9, where one setting stands for all backends
            stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
            torch.set_float32_matmul_precision("highest")
        yield


def product_for(dim: int, dtype: torch.dtype, device: torch.device) -> Product:
    """Choose the product kernel for a width of embeddings, once per process.

    On a CPU with float32 inputs, torch's ``mm`` and oneDNN's matrix product are timed on one block, and oneDNN's is
    taken where it is at least 1.5 times faster with a float32-like error; everywhere else it is ``mm``.

    Args:
        dim: number of columns of the embeddings.
        dtype: float32 or float64.
        device: where the embeddings are.

    Returns:
        The product function.
    """
    if device.type != "cpu" or dtype != torch.float32:
        return _mm
    return _fastest(dim)


def _mm(queries: Tensor, documents: Tensor, out: Tensor) -> Tensor:
    return torch.mm(queries, documents.T, out=out)


def _onednn(queries: Tensor, documents: Tensor, out: Tensor) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(queries, documents, None, "none", [], "")
    return result


@functools.cache
def _fastest(dim: int) -> Product:
    # A generator of its own: the global random state belongs to the training run.
    generator = torch.Generator().manual_seed(0)
    with full_precision(torch.device("cpu")):
        queries = torch.nn.functional.normalize(torch.randn(_PROBE_QUERIES, dim, generator=generator))
        documents = torch.nn.functional.normalize(torch.randn(_PROBE_DOCUMENTS, dim, generator=generator))
        out = torch.empty(_PROBE_QUERIES, _PROBE_DOCUMENTS)
        try:
            scores = _onednn(queries, documents, out)
        except (AttributeError, NotImplementedError, RuntimeError):
            return _mm  # builds without oneDNN
        exact = queries[:16].double() @ documents.double().T
        if scores.dtype != torch.float32 or (scores[:16] - exact).abs().max() > _MAX_ERROR:
            return _mm
        # In turns, and the best of several: another process may take the processor for a while.
        runs = [[_time(kernel, queries, documents, out) for kernel in (_mm, _onednn)] for _ in range(6)]
    of_mm, of_onednn = (min(times) for times in zip(*runs[1:], strict=True))
    return _onednn if of_onednn * _MIN_GAIN < of_mm else _mm


def _time(kernel: Product, queries: Tensor, documents: Tensor, out: Tensor) -> float:
    start = time.perf_counter()
    kernel(queries, documents, out)
    return time.perf_counter() - start
