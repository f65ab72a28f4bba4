"""Which models the fast path may drive itself, and what their settings mean for a text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.base.modules import Router
from sentence_transformers.base.modules.transformer import Transformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding

from .options import EncodeOptions

# What the fast path does in the place of; a subclass or a wrapper that changes any of these is asked itself.
_REPLACED = ("encode", "encode_query", "encode_document", "_inference", "_resolve_prompt")
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")
_DEVICES = ("cpu", "cuda", "mps", "xpu")


def is_standard(model: Any) -> bool:
    """Whether a model encodes plain texts as `SentenceTransformer` itself does, with nothing special about it.

    Args:
        model: Any object.

    Returns:
        False for other classes, overridden or replaced methods, compiled models, backends other than torch, inputs
        that are flattened for flash attention, and inside `distributed_evaluation`.
    """
    if not isinstance(model, SentenceTransformer):
        return False
    # Also wrappers put on the instance, say to count or cache calls.
    if any(name in vars(model) or not _is_inherited(type(model), name) for name in _REPLACED):
        return False
    return runs_plainly(model)


def runs_plainly(model: Any) -> bool:
    """Whether a model of sentence-transformers runs as it is, in this process, on padded inputs."""
    return (
        getattr(model, "_distributed_inference", None) is None
        and model._compiled_call_impl is None
        and model.get_backend() == "torch"
        and model.device.type in _DEVICES
        and not model._can_flatten_inputs()
    )


def resolved_prompt(model: SentenceTransformer, options: EncodeOptions) -> str | None:
    """The text put before every input, as `encode`, `encode_query` and `encode_document` choose it.

    Args:
        model: A standard model.
        options: How the inputs are encoded.

    Returns:
        The prompt; None for none or an empty one.

    Raises:
        ValueError: For a `prompt_name` that the model does not have.
    """
    name = options.prompt_name
    if name is None and options.prompt is None:
        candidates = {"query": ("query",), "document": _DOCUMENT_PROMPTS}.get(options.task or "", ())
        name = next((candidate for candidate in candidates if candidate in model.prompts), None)
    return model._resolve_prompt(options.prompt, name) or None


def resolved_task(model: SentenceTransformer, options: EncodeOptions) -> str | None:
    """The task of the inputs, or None where this model treats all tasks alike.

    A query and a document with the same prompt are then one text to encode.

    Args:
        model: A standard model.
        options: How the inputs are encoded.

    Returns:
        `options.task` or None.
    """
    return options.task if _task_matters(model) else None


def input_modules(model: SentenceTransformer) -> Iterator[Any]:
    """The modules that tokenise: the first one, or the first one of each route."""
    first = model[0]
    if isinstance(first, Router):
        for route in first.sub_modules.values():
            yield next(iter(route.children()))
    else:
        yield first


def output_of(model: Any, features: Any) -> Any:
    """What the fast path keeps of a forward pass.

    Args:
        model: A standard model.
        features: What it returned for B inputs.

    Returns:
        (B, d) embeddings; (B, num_labels) scores before the activation function where it scores pairs.
    """
    if not isinstance(model, CrossEncoder):
        return features["sentence_embedding"]
    scores = features["scores"]
    return scores if scores.ndim > 1 else scores[:, None]


def device_of(model: SentenceTransformer) -> torch.device:
    """The device a standard model runs on; modules that its `encode` would move there are moved.

    Args:
        model: A standard model.

    Returns:
        The device.
    """
    # Older releases have no placement to finish.
    resolve = getattr(model, "_resolve_inference_device", None)
    device: torch.device = model.device if resolve is None else resolve(None)
    return device


def _is_inherited(kind: type, name: str) -> bool:
    return getattr(kind, name, None) is getattr(SentenceTransformer, name, None)


def _task_matters(model: SentenceTransformer) -> bool:
    first = model[0]
    if type(model).preprocess is not SentenceTransformer.preprocess or "task" in model.get_model_kwargs():
        return True
    if type(first) is StaticEmbedding:
        return False
    return (
        type(first) is not Transformer
        or first.query_length is not None
        or first.document_length is not None
        or first.query_expansion is not None
        or first._chat_template_declares_task()
    )
