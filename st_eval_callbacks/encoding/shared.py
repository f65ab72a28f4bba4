"""The session that is open, and what needs none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch

from .options import Embeddings, EncodeOptions
from .session import Session
from .state import untouched

_OPEN: ContextVar[Session | None] = ContextVar("open_session", default=None)


@contextmanager
def session(
    *,
    show_progress_bar: bool = False,
    batch_size: int | None = None,
    autocast_dtype: torch.dtype | None = None,
    cache_bytes: int | None = None,
) -> Iterator[Session]:
    """Open a session, or join the one that is open already, whose settings then hold.

    Evaluators called by hand, in a `SequentialEvaluator` or by the callback so share what they encode. The weights
    must not change inside.

    Args:
        show_progress_bar: See `Session`.
        batch_size: See `Session`.
        autocast_dtype: See `Session`.
        cache_bytes: See `Session`.

    Yields:
        The session; one that was opened here is closed at the end and its embeddings are let go.
    """
    current = _OPEN.get()
    if current is not None:
        yield current
        return
    opened = Session(
        show_progress_bar=show_progress_bar,
        batch_size=batch_size,
        autocast_dtype=autocast_dtype,
        cache_bytes=cache_bytes,
    )
    token = _OPEN.set(opened)
    try:
        yield opened
    finally:
        _OPEN.reset(token)


@contextmanager
def apart() -> Iterator[None]:
    """Hide the session that is open: what is encoded inside neither uses nor joins what it keeps.

    Yields:
        Nothing.
    """
    token = _OPEN.set(None)
    try:
        yield
    finally:
        _OPEN.reset(token)


def is_open() -> bool:
    """Whether a session is open."""
    return _OPEN.get() is not None


def encode_once(model: Any, inputs: Sequence[Any], options: EncodeOptions | None = None) -> Embeddings:
    """Embeddings for longer than an evaluation, as those of a fixed teacher; no session keeps or knows them.

    Args:
        model: A SentenceTransformer, or any object with its `encode`; left as it was.
        inputs: P texts, or whatever the model takes.
        options: How they are encoded.

    Returns:
        The table of the distinct inputs and the row of each input.

    Raises:
        TypeError: When `inputs` is a single text or the model has no `encode`.
        ValueError: For an unknown prompt name, or a result that is not one row an input.
    """
    with untouched(model):
        return Session().lookup(model, inputs, options)
