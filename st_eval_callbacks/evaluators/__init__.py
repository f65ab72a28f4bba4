"""The bundled evaluators: sentence-transformers' names, arguments, keys and values."""

from __future__ import annotations

from .base import Evaluator
from .embedding_similarity import EmbeddingSimilarityEvaluator
from .information_retrieval import InformationRetrievalEvaluator

__all__ = ["EmbeddingSimilarityEvaluator", "Evaluator", "InformationRetrievalEvaluator"]
