"""Tokenised texts, kept between evaluations: neither the texts nor the tokenizer change in training."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from sentence_transformers import SentenceTransformer
from torch import nn

from .standard import input_modules

MAX_TOKEN_BYTES = 256 * 2**20
"""Most memory for the kept token ids of one model, in bytes."""

TYPE_BIT = 30
"""The bit of a kept token id that holds its type; no vocabulary is so large."""

# What keeping a text costs besides its token ids: a key, an entry and the header of its bytes.
_ENTRY_BYTES = 256


@dataclass(frozen=True)
class Layout:
    """How a model's tokenised texts become a batch.

    Attributes:
        is_bag: Token ids follow one another with an offset for each text, instead of padded rows.
        pad_id: Token id of padding.
        pads_left: Whether padding comes before the text.
        has_types: Whether the model wants token types: 0, and 1 for the second text of a pair.
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
