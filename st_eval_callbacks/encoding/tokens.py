"""Texts to token ids without padding, by the model's own tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from torch import Tensor

from .batches import num_chars
from .token_store import TYPE_BIT, Layout, token_store

# Texts tokenised in one call: enough for a tokenizer that works in parallel, few enough to bound the padding.
_CHUNK = 512
_PADDED_KEYS = {"input_ids", "attention_mask", "token_type_ids"}
_PLAIN = (str, int, bool, type(None))
_PROBE_TEXTS = ["a", "a a a a a a a a"]
_PROBE_PAIRS = [("a", text) for text in _PROBE_TEXTS]


def layout_of(model: SentenceTransformer, prompt: str | None, task: str | None) -> Layout | None:
    """How this model's tokenised texts become a batch.

    Args:
        model: A standard model.
        prompt: Text put before every input.
        task: "query", "document" or None.

    Returns:
        The layout, or None when the features are of a form that only the model itself can put together.
    """
    layouts = token_store(model).layouts
    if (prompt, task) not in layouts:
        inputs = _PROBE_PAIRS if isinstance(model, CrossEncoder) else _PROBE_TEXTS
        layouts[prompt, task] = _probe(preprocess(model, inputs, prompt, task))
    return layouts[prompt, task]


def tokenise(
    model: SentenceTransformer, layout: Layout, texts: Sequence[str], prompt: str | None, task: str | None, event: int
) -> list[bytes]:
    """Token ids of texts, from the store or the tokenizer.

    Args:
        model: A standard model.
        layout: What `layout_of` says.
        texts: The texts.
        prompt: Text put before every input.
        task: "query", "document" or None.
        event: Number of the evaluation, for the store.

    Returns:
        For each text its int32 token ids as bytes, special tokens included, without padding. Where the layout has
        types, that of each token is its bit `TYPE_BIT`.
    """
    store = token_store(model)
    rows = [store.get((text, prompt, task), event) for text in texts]
    missing = sorted((i for i, row in enumerate(rows) if row is None), key=lambda i: num_chars(texts[i]))
    for start in range(0, len(missing), _CHUNK):
        chunk = missing[start : start + _CHUNK]
        features = preprocess(model, [texts[i] for i in chunk], prompt, task)
        for i, row in zip(chunk, _split(features, layout), strict=True):
            rows[i] = row
            store.put((texts[i], prompt, task), row, event)
    return [row for row in rows if row is not None]


def preprocess(model: SentenceTransformer, texts: list[Any], prompt: str | None, task: str | None) -> dict[str, Any]:
    """The model's own features of a batch of texts, as `encode` makes them."""
    return dict(model.preprocess(texts, prompt=prompt, **({} if task is None else {"task": task})))


def _probe(features: dict[str, Any]) -> Layout | None:
    """Read the layout off a short and a long text."""
    constants = {name: value for name, value in features.items() if not isinstance(value, Tensor)}
    tensors = {name: value for name, value in features.items() if isinstance(value, Tensor)}
    if not all(isinstance(value, _PLAIN) for value in constants.values()):
        return None
    ids, offsets = tensors.get("input_ids"), tensors.get("offsets")
    if ids is None:
        return None
    if set(tensors) == {"input_ids", "offsets"} and offsets is not None:
        fits = ids.ndim == 1 and len(offsets) == 2 and int(offsets[0]) == 0
        return Layout(True, 0, False, False, constants) if fits else None
    mask, types = tensors.get("attention_mask"), tensors.get("token_type_ids")
    if mask is None or not set(tensors) <= _PADDED_KEYS or mask.ndim != 2 or mask.shape != ids.shape or mask.all():
        return None
    padding = mask == 0
    pad_id = int(ids[padding][0])
    if (ids[padding] != pad_id).any() or (types is not None and not set(types[~padding].tolist()) <= {0, 1}):
        return None
    return Layout(False, pad_id, bool(padding[0, 0]), types is not None, constants)


def _split(features: dict[str, Any], layout: Layout) -> list[bytes]:
    ids: Tensor = features["input_ids"]
    if layout.is_bag:
        starts: list[int] = features["offsets"].tolist()
    else:
        mask = features["attention_mask"] != 0
        if layout.has_types:
            ids = ids | features["token_type_ids"] << TYPE_BIT
        ids = ids[mask]
        starts = [0, *torch.cumsum(mask.sum(dim=1), dim=0).tolist()[:-1]]
    flat = np.ascontiguousarray(ids.numpy().astype(np.int32))
    return [flat[start:end].tobytes() for start, end in zip(starts, [*starts[1:], len(flat)], strict=True)]
