"""Tokenised texts, kept between evaluations: neither the texts nor the tokenizer change in training."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from .standard import input_modules

MAX_TOKEN_BYTES = 256 * 2**20
"""Most memory for the kept token ids of one model, in bytes."""

# Texts tokenised in one call: enough for a tokenizer that works in parallel, few enough to bound the padding.
_CHUNK = 512
# What keeping a text costs besides its token ids: a key, an entry and the header of its bytes.
_ENTRY_BYTES = 256
_PADDED_KEYS = {"input_ids", "attention_mask", "token_type_ids"}
_PLAIN = (str, int, bool, type(None))


@dataclass(frozen=True)
class Layout:
    """How a model's tokenised texts become a batch.

    Attributes:
        is_bag: Token ids follow one another with an offset for each text, instead of padded rows.
        pad_id: Token id of padding.
        pads_left: Whether padding comes before the text.
        has_types: Whether the model wants token types (zero for a single text).
        constants: Features that are the same for every text, such as the length of the prompt.
    """

    is_bag: bool
    pad_id: int
    pads_left: bool
    has_types: bool
    constants: Mapping[str, Any]


class TokenStore:
    """Token ids of texts for one model, as bytes of int32.

    When it is full, texts that the current evaluation has not used make room; texts in use never do, so a corpus that
    is too large keeps the part that fits instead of pushing itself out.

    Args:
        max_bytes: Most memory to use.

    Attributes:
        num_bytes: Memory used.
        num_halvings: How often batches of this model did not fit into the device's memory and were halved.
    """

    def __init__(self, max_bytes: int = MAX_TOKEN_BYTES) -> None:
        """Start empty."""
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self.num_halvings = 0
        self.fingerprint: Any = None
        self.layouts: dict[tuple[str | None, str | None], Layout | None] = {}
        self._rows: OrderedDict[tuple[str, str | None, str | None], tuple[bytes, int]] = OrderedDict()

    def __len__(self) -> int:
        """Number of texts kept."""
        return len(self._rows)

    def clear(self) -> None:
        """Forget everything."""
        self.layouts.clear()
        self._rows.clear()
        self.num_bytes = 0

    def get(self, key: tuple[str, str | None, str | None], event: int) -> bytes | None:
        """Token ids of a (text, prompt, task), or None when they are not kept."""
        found = self._rows.get(key)
        if found is None:
            return None
        self._rows[key] = (found[0], event)
        self._rows.move_to_end(key)
        return found[0]

    def put(self, key: tuple[str, str | None, str | None], row: bytes, event: int) -> None:
        """Keep the token ids of a (text, prompt, task) if there is room, now or by dropping unused ones."""
        size = len(row) + _ENTRY_BYTES
        while self.num_bytes + size > self.max_bytes:
            oldest = next(iter(self._rows), None)
            if oldest is None or self._rows[oldest][1] >= event:
                return
            self.num_bytes -= len(self._rows.pop(oldest)[0]) + _ENTRY_BYTES
        self._rows[key] = (row, event)
        self.num_bytes += size


# By the module that tokenises, so that it goes when the model goes.
_STORES: WeakKeyDictionary[nn.Module, TokenStore] = WeakKeyDictionary()


def token_store(model: SentenceTransformer) -> TokenStore:
    """The kept token ids of a model; emptied when its tokenizer or its limits have changed.

    Args:
        model: A standard model.

    Returns:
        The store.
    """
    store = _STORES.setdefault(model[0], TokenStore())
    fingerprint = [_settings(module) for module in input_modules(model)]
    if store.fingerprint != fingerprint:
        store.clear()
        store.fingerprint = fingerprint
    return store


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
        layouts[prompt, task] = _probe(preprocess(model, ["a", "a a a a a a a a"], prompt, task))
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
        For each text its int32 token ids as bytes, special tokens included, without padding.
    """
    store = token_store(model)
    rows = [store.get((text, prompt, task), event) for text in texts]
    missing = sorted((i for i, row in enumerate(rows) if row is None), key=lambda i: len(texts[i]))
    for start in range(0, len(missing), _CHUNK):
        chunk = missing[start : start + _CHUNK]
        features = preprocess(model, [texts[i] for i in chunk], prompt, task)
        for i, row in zip(chunk, _split(features, layout), strict=True):
            rows[i] = row
            store.put((texts[i], prompt, task), row, event)
    return [row for row in rows if row is not None]


def preprocess(model: SentenceTransformer, texts: list[str], prompt: str | None, task: str | None) -> dict[str, Any]:
    """The model's own features of a batch of texts, as `encode` makes them."""
    return dict(model.preprocess(texts, prompt=prompt, **({} if task is None else {"task": task})))


def _settings(module: Any) -> tuple[Any, ...]:
    tokenizer: Any = getattr(module, "tokenizer", None)
    names = ("max_seq_length", "query_length", "document_length", "processing_kwargs", "do_lower_case")
    sides = ("padding_side", "truncation_side", "model_max_length", "pad_token_id")
    vocabulary = len(tokenizer) if hasattr(tokenizer, "__len__") else None
    return (
        id(tokenizer),
        vocabulary,
        *(repr(getattr(module, name, None)) for name in names),
        *(getattr(tokenizer, name, None) for name in sides),
    )


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
    if (ids[padding] != pad_id).any() or (types is not None and types[~padding].any()):
        return None
    return Layout(False, pad_id, bool(padding[0, 0]), types is not None, constants)


def _split(features: dict[str, Any], layout: Layout) -> list[bytes]:
    ids: Tensor = features["input_ids"]
    if layout.is_bag:
        starts: list[int] = features["offsets"].tolist()
    else:
        mask = features["attention_mask"] != 0
        ids = ids[mask]
        starts = [0, *torch.cumsum(mask.sum(dim=1), dim=0).tolist()[:-1]]
    flat = np.ascontiguousarray(ids.numpy().astype(np.int32))
    return [flat[start:end].tobytes() for start, end in zip(starts, [*starts[1:], len(flat)], strict=True)]
