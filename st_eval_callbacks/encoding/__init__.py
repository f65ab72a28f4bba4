"""Texts to embeddings: distinct, ordered, batched, cached, sliced; training stays untouched."""

from .fallback import whole
from .numbering import key_of
from .options import Embeddings, EncodeOptions
from .predictions import PredictOptions
from .session import Session
from .shared import apart, encode_once, is_open, session
from .state import untouched

__all__ = [
    "Embeddings",
    "EncodeOptions",
    "PredictOptions",
    "Session",
    "apart",
    "encode_once",
    "is_open",
    "key_of",
    "session",
    "untouched",
    "whole",
]
