"""The bundled evaluators: sentence-transformers' names, arguments, keys and values."""

from __future__ import annotations

from .base import Evaluator
from .binary_classification import BinaryClassificationEvaluator
from .cross_encoder_classification import CrossEncoderClassificationEvaluator
from .cross_encoder_correlation import CrossEncoderCorrelationEvaluator
from .cross_encoder_nano_beir import CrossEncoderNanoBEIREvaluator
from .cross_encoder_reranking import CrossEncoderRerankingEvaluator
from .embedding_similarity import EmbeddingSimilarityEvaluator
from .information_retrieval import InformationRetrievalEvaluator
from .label_accuracy import LabelAccuracyEvaluator
from .mse import MSEEvaluator
from .mse_from_dataframe import MSEEvaluatorFromDataFrame
from .multi_vector import (
    MultiVectorInformationRetrievalEvaluator,
    MultiVectorNanoBEIREvaluator,
    MultiVectorRerankingEvaluator,
    MultiVectorTripletEvaluator,
)
from .multi_vector_distillation import MultiVectorDistillationEvaluator
from .nano_beir import NanoBEIREvaluator
from .paraphrase_mining import ParaphraseMiningEvaluator
from .reciprocal_rank_fusion import ReciprocalRankFusionEvaluator
from .reranking import RerankingEvaluator
from .sequential import SequentialEvaluator
from .sparse_pairs import (
    SparseBinaryClassificationEvaluator,
    SparseEmbeddingSimilarityEvaluator,
    SparseMSEEvaluator,
    SparseTranslationEvaluator,
    SparseTripletEvaluator,
)
from .sparse_retrieval import (
    SparseInformationRetrievalEvaluator,
    SparseNanoBEIREvaluator,
    SparseRerankingEvaluator,
)
from .translation import TranslationEvaluator
from .triplet import TripletEvaluator

__all__ = [
    "BinaryClassificationEvaluator",
    "CrossEncoderClassificationEvaluator",
    "CrossEncoderCorrelationEvaluator",
    "CrossEncoderNanoBEIREvaluator",
    "CrossEncoderRerankingEvaluator",
    "EmbeddingSimilarityEvaluator",
    "Evaluator",
    "InformationRetrievalEvaluator",
    "LabelAccuracyEvaluator",
    "MSEEvaluator",
    "MSEEvaluatorFromDataFrame",
    "MultiVectorDistillationEvaluator",
    "MultiVectorInformationRetrievalEvaluator",
    "MultiVectorNanoBEIREvaluator",
    "MultiVectorRerankingEvaluator",
    "MultiVectorTripletEvaluator",
    "NanoBEIREvaluator",
    "ParaphraseMiningEvaluator",
    "ReciprocalRankFusionEvaluator",
    "RerankingEvaluator",
    "SequentialEvaluator",
    "SparseBinaryClassificationEvaluator",
    "SparseEmbeddingSimilarityEvaluator",
    "SparseInformationRetrievalEvaluator",
    "SparseMSEEvaluator",
    "SparseNanoBEIREvaluator",
    "SparseRerankingEvaluator",
    "SparseTranslationEvaluator",
    "SparseTripletEvaluator",
    "TranslationEvaluator",
    "TripletEvaluator",
]
