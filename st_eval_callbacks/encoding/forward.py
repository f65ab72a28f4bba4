"""Distinct texts through a standard model: longest first, in batches by token budget."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from .batches import collate, num_chars, to_device, token_budget
from .standard import device_of, output_of
from .token_store import token_store
from .tokens import layout_of, preprocess, tokenise

logger = logging.getLogger(__name__)

# Texts in a batch whose features only the model can put together, so that their lengths are not known before.
_OPAQUE_ROWS = 32
# Short texts reach the budget late; more rows than this gain nothing.
_MAX_ROWS = 8192


@dataclass(eq=False)
class Counters:
    """What went through models.

    Attributes:
        num_requested: Inputs that evaluators asked for.
        num_encoded: Inputs that a model encoded.
        num_tokens: Tokens of the texts encoded by the fast path.
        num_padded_tokens: Those tokens and the padding beside them.
    """

    num_requested: int = 0
    num_encoded: int = 0
    num_tokens: int = 0
    num_padded_tokens: int = 0

    def restore(self, *counts: int) -> None:
        """Go back to earlier counts, in the order of the attributes."""
        self.num_requested, self.num_encoded, self.num_tokens, self.num_padded_tokens = counts


@dataclass
class _Batch:
    start: int
    end: int
    positions: Tensor
    features: dict[str, Any]

    @property
    def num_rows(self) -> int:
        return self.end - self.start


def encode_texts(
    model: SentenceTransformer,
    texts: list[str],
    prompt: str | None,
    task: str | None,
    *,
    batch_size: int | None,
    autocast_dtype: torch.dtype | None,
    event: int,
    counters: Counters,
    progress: Callable[[int], Any],
    num_passes: Callable[[int], int] | None = None,
) -> Tensor:
    """Encode texts with the model in evaluation mode and without gradients; the caller sees to both.

    Args:
        model: A standard model.
        texts: At least one text.
        prompt: Text put before every input.
        task: "query", "document" or None.
        batch_size: Most texts in a batch; None for no limit but the token budget.
        autocast_dtype: Compute in this type where torch deems it safe; None leaves that as it is.
        event: Number of the evaluation.
        counters: Counts what is encoded.
        progress: Called with the number of texts of each batch done.
        num_passes: Given the number of batches, says how often the model must run, where processes share one model:
            the last batch is then repeated. None where a batch too large for the memory may be halved.

    Returns:
        (len(texts), d) embeddings in the order of the texts, whole: neither truncated nor normalised.
    """
    batches = _Batches(model, texts, prompt, task, batch_size, event)
    kwargs = {} if task is None else {"task": task}
    autocast: AbstractContextManager[Any] = nullcontext()
    if autocast_dtype is not None:
        autocast = torch.autocast(batches.device.type, dtype=autocast_dtype)
    table: Tensor | None = None
    num_repeats = 0 if num_passes is None else num_passes(len(batches)) - len(batches)
    batch = batches.prepare(0)
    while batch is not None:
        embeddings: Tensor | None = None
        try:
            with autocast:
                embeddings = output_of(model, model(batch.features, **kwargs))
        except torch.cuda.OutOfMemoryError:
            if batch.num_rows == 1 or num_passes is not None:
                raise
        if embeddings is None:
            # Not inside the except block, whose traceback keeps the activations alive.
            batch.features.clear()
            batch = batches.smaller(batch)
            continue
        # A GPU computes on while the next batch is put together.
        upcoming = batches.prepare(batch.end)
        if table is None:
            table = embeddings.new_empty((len(texts), embeddings.shape[1]))
        table[batch.positions.to(table.device)] = embeddings.to(table.dtype)
        counters.num_encoded += batch.num_rows
        counters.num_tokens += batches.num_tokens(batch.start, batch.end)
        counters.num_padded_tokens += batches.num_padded_tokens(batch.start, batch.end)
        progress(batch.num_rows)
        if upcoming is None:
            for _ in range(num_repeats):
                with autocast:
                    model(batch.features, **kwargs)
        batch = upcoming
    assert table is not None
    return table


class _Batches:
    """The batches of one call. Each is sized when it is prepared, so the budget may shrink on the way."""

    def __init__(
        self,
        model: SentenceTransformer,
        texts: list[str],
        prompt: str | None,
        task: str | None,
        batch_size: int | None,
        event: int,
    ) -> None:
        self._model, self._texts, self._prompt, self._task = model, texts, prompt, task
        self.device = device_of(model)
        self._store = token_store(model)
        self._layout = layout_of(model, prompt, task)
        self._rows: list[bytes] = []
        self._max_rows = batch_size or (_OPAQUE_ROWS if self._layout is None else _MAX_ROWS)
        if self._layout is None:
            lengths = np.array([num_chars(text) for text in texts])
        else:
            self._rows = tokenise(model, self._layout, texts, prompt, task, event)
            lengths = np.array([len(row) // 4 for row in self._rows])
        # Longest first: if memory runs out it does so at once.
        self._order = np.argsort(-lengths, kind="stable")
        self._lengths = lengths[self._order]

    def __len__(self) -> int:
        num_batches = start = 0
        while start < len(self._order):
            start += self._num_rows(start)
            num_batches += 1
        return num_batches

    def prepare(self, start: int) -> _Batch | None:
        """The batch that begins at a text (counted from the longest), on the device; None after the last one."""
        if start >= len(self._order):
            return None
        end = min(start + self._num_rows(start), len(self._order))
        chosen = self._order[start:end]
        if self._layout is None:
            features = preprocess(self._model, [self._texts[i] for i in chosen], self._prompt, self._task)
        else:
            features = collate(self._layout, [self._rows[i] for i in chosen])
        moved = to_device({**features, "": torch.from_numpy(chosen)}, self.device)
        return _Batch(start, end, moved.pop(""), moved)

    def smaller(self, failed: _Batch) -> _Batch | None:
        """The batch that begins where one began that did not fit into memory, after halving the budget."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if self._store.num_halvings == 0:
            logger.warning(
                "Out of memory while encoding for an evaluation: batches become half as large, as often as needed. "
                "The evaluation goes on; its values do not depend on it."
            )
        # A batch that the texts or the caller had kept below the budget only shrinks after several halvings.
        while self._store.num_halvings == 0 or self._num_rows(failed.start) >= failed.num_rows > 1:
            self._store.num_halvings += 1
        return self.prepare(failed.start)

    def num_tokens(self, start: int, end: int) -> int:
        """Tokens in a batch; 0 where they are not known."""
        return 0 if self._layout is None else int(self._lengths[start:end].sum())

    def num_padded_tokens(self, start: int, end: int) -> int:
        """Tokens and padding in a batch; 0 where they are not known."""
        if self._layout is None or self._layout.is_bag:
            return self.num_tokens(start, end)
        return int(self._lengths[start]) * (end - start)

    def _num_rows(self, start: int) -> int:
        rows = self._max_rows
        if self._layout is not None:
            budget = token_budget(self.device, self._layout.is_bag)
            rows = min(rows, budget // max(int(self._lengths[start]), 1))
        return max(rows >> self._store.num_halvings, 1)
