"""Inputs through a model's own `encode`, `encode_query` or `encode_document`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .options import EncodeOptions

# Settings that change nothing about the values of the result, once it is a tensor: left out where a model lacks them.
_OPTIONAL = ("convert_to_tensor", "show_progress_bar", "batch_size")


def encode_method(model: Any, task: str | None) -> tuple[Callable[..., Any], str | None]:
    """The method that encodes a task.

    Args:
        model: Any object with `encode`.
        task: "query", "document" or None.

    Returns:
        The method and the task it stands for: `encode` and None when the model has none for the task.

    Raises:
        TypeError: When the model has no `encode` either.
    """
    method = None if task is None else getattr(model, f"encode_{task}", None)
    if callable(method):
        return method, task
    method = getattr(model, "encode", None)
    if not callable(method):
        raise TypeError(f"{type(model).__name__} has no encode(inputs, ...), so it cannot embed texts.")
    return method, None


def encode_by_model(model: Any, inputs: Sequence[Any], options: EncodeOptions) -> Tensor:
    """Encode inputs in one call of the model's own method.

    Args:
        model: Any object with `encode`.
        inputs: At least one input, of any kind the model takes.
        options: How they are encoded. Truncation and normalisation are left to the caller, so that one encoding serves
            all sizes.

    Returns:
        (len(inputs), d) embeddings, whole, on the device the model returns them on.

    Raises:
        TypeError: When the model has no `encode`.
        ValueError: When the result is not one row an input.
    """
    method, _ = encode_method(model, options.task)
    arguments: dict[str, Any] = {"convert_to_tensor": True, "show_progress_bar": options.show_progress_bar}
    for name in ("batch_size", "prompt", "prompt_name"):
        if getattr(options, name) is not None:
            arguments[name] = getattr(options, name)
    with whole(model):
        result = method(list(inputs), **accepted(method, arguments))
    embeddings = as_tensor(result)
    if embeddings.ndim != 2 or len(embeddings) != len(inputs):
        raise ValueError(
            f"{type(model).__name__} returned embeddings of shape {tuple(embeddings.shape)} for {len(inputs)} inputs; "
            f"({len(inputs)}, d) is needed."
        )
    return embeddings


def whole(model: Any) -> AbstractContextManager[Any]:
    """Embeddings of full width inside, where the model has a `truncate_dim` of its own."""
    truncate = getattr(model, "truncate_embeddings", None)
    if getattr(model, "truncate_dim", None) is None or not callable(truncate):
        return nullcontext()
    context: AbstractContextManager[Any] = truncate(None)
    return context


def accepted(method: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments without those that a method lacks and that change nothing about the values."""
    try:
        parameters = inspect.signature(method).parameters
    except (TypeError, ValueError):
        return arguments
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return arguments
    return {name: value for name, value in arguments.items() if name in parameters or name not in _OPTIONAL}


def as_tensor(result: Any) -> Tensor:
    """What a model returned, as one tensor without gradients."""
    if isinstance(result, Tensor):
        return result.detach()
    if isinstance(result, (list, tuple)) and len(result) and isinstance(result[0], Tensor):
        return torch.stack(list(result)).detach()
    return torch.from_numpy(np.ascontiguousarray(result))
