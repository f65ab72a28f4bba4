"""Every bundled evaluator over a few texts, by the name of its class; those of NanoBEIR read files of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from sentence_transformers.sentence_transformer.losses import SoftmaxLoss
from sentence_transformers.sentence_transformer.readers import InputExample
from torch.utils.data import DataLoader

from st_eval_callbacks import evaluators

from .models import tiny_cross_encoder, tiny_model, tiny_multi_vector_model, tiny_sparse_model
from .parity import sentences

TEXTS = list(dict.fromkeys(sentences(60, 61)))
A, B, C = TEXTS[:15], TEXTS[15:30], TEXTS[30:45]
LABELS = [i % 2 for i in range(15)]


def label_accuracy(model: Any, **kwargs: Any) -> Any:
    torch.manual_seed(0)
    examples = [InputExample(texts=[a, b], label=label) for a, b, label in zip(A, B, LABELS, strict=True)]
    softmax = SoftmaxLoss(model, model.get_embedding_dimension(), 2)
    return evaluators.LabelAccuracyEvaluator(DataLoader(examples, batch_size=4), softmax_model=softmax, **kwargs)


BUILDERS: dict[str, Callable[..., Any]] = {
    "InformationRetrievalEvaluator": lambda model, **kwargs: evaluators.InformationRetrievalEvaluator(
        dict(enumerate(A)), dict(enumerate(B)), {i: {14 - i} for i in range(15)}, **kwargs
    ),
    "EmbeddingSimilarityEvaluator": lambda model, **kwargs: evaluators.EmbeddingSimilarityEvaluator(
        A, B, LABELS, **kwargs
    ),
    "BinaryClassificationEvaluator": lambda model, **kwargs: evaluators.BinaryClassificationEvaluator(
        A, B, LABELS, **kwargs
    ),
    "TripletEvaluator": lambda model, **kwargs: evaluators.TripletEvaluator(A, B, C, **kwargs),
    "RerankingEvaluator": lambda model, **kwargs: evaluators.RerankingEvaluator(
        [{"query": a, "positive": [b], "negative": C[:5]} for a, b in zip(A, B, strict=True)], **kwargs
    ),
    "ParaphraseMiningEvaluator": lambda model, **kwargs: evaluators.ParaphraseMiningEvaluator(
        {f"s{i}": text for i, text in enumerate(TEXTS)}, [("s0", "s1"), ("s2", "s3")], **kwargs
    ),
    "TranslationEvaluator": lambda model, **kwargs: evaluators.TranslationEvaluator(A, B, **kwargs),
    "MSEEvaluator": lambda model, **kwargs: evaluators.MSEEvaluator(A, B, tiny_model(seed=3), **kwargs),
    "MSEEvaluatorFromDataFrame": lambda model, **kwargs: evaluators.MSEEvaluatorFromDataFrame(
        [{"en": a, "de": b} for a, b in zip(A, B, strict=True)], tiny_model(seed=3), [("en", "de")], **kwargs
    ),
    "LabelAccuracyEvaluator": label_accuracy,
}

RETRIEVAL = dict(enumerate(A)), dict(enumerate(B)), {place: {14 - place} for place in range(15)}
PAIRS = list(zip(A, B, strict=True))
SAMPLES = [
    {"query_id": f"q{place}", "query": a, "positive": [b], "negative": C[:5]} for place, (a, b) in enumerate(PAIRS)
]
# Lists as a search gives them: the first holds nothing relevant, the last has no list.
LISTS = [{"query": a, "positive": [b], "documents": [*C[:4], *([b] if a != A[0] else [])]} for a, b in PAIRS[:-1]]
RANKINGS = [
    [{"query_id": place, "positive": [b], "documents": [*C[:way], b, *C[way:4]]} for place, (_, b) in enumerate(PAIRS)]
    for way in (1, 3)
]
TEACHER_SCORES = [[float(place * way % 7) for way in range(5)] for place in range(1, 16)]

MORE: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "SparseBinaryClassificationEvaluator": (
        tiny_sparse_model,
        lambda model, **kwargs: evaluators.SparseBinaryClassificationEvaluator(A, B, LABELS, **kwargs),
    ),
    "SparseEmbeddingSimilarityEvaluator": (
        tiny_sparse_model,
        lambda model, **kwargs: evaluators.SparseEmbeddingSimilarityEvaluator(A, B, LABELS, **kwargs),
    ),
    "SparseTripletEvaluator": (
        tiny_sparse_model,
        lambda model, **kwargs: evaluators.SparseTripletEvaluator(A, B, C, **kwargs),
    ),
    "SparseTranslationEvaluator": (
        tiny_sparse_model,
        lambda model, **kwargs: evaluators.SparseTranslationEvaluator(A, B, **kwargs),
    ),
    "SparseMSEEvaluator": (
        tiny_sparse_model,
        lambda model, **kwargs: evaluators.SparseMSEEvaluator(A, B, tiny_sparse_model(seed=3), **kwargs),
    ),
    "SparseRerankingEvaluator": (
        tiny_sparse_model,
        lambda model, **kwargs: evaluators.SparseRerankingEvaluator(SAMPLES, **kwargs),
    ),
    "SparseInformationRetrievalEvaluator": (
        tiny_sparse_model,
        lambda model, **kwargs: evaluators.SparseInformationRetrievalEvaluator(*RETRIEVAL, **kwargs),
    ),
    "CrossEncoderCorrelationEvaluator": (
        tiny_cross_encoder,
        lambda model, **kwargs: evaluators.CrossEncoderCorrelationEvaluator(PAIRS, range(15), **kwargs),
    ),
    "CrossEncoderClassificationEvaluator": (
        tiny_cross_encoder,
        lambda model, **kwargs: evaluators.CrossEncoderClassificationEvaluator(PAIRS, LABELS, **kwargs),
    ),
    "CrossEncoderRerankingEvaluator": (
        tiny_cross_encoder,
        lambda model, **kwargs: evaluators.CrossEncoderRerankingEvaluator(
            [*LISTS, SAMPLES[-1]], always_rerank_positives=False, **kwargs
        ),
    ),
    "MultiVectorInformationRetrievalEvaluator": (
        tiny_multi_vector_model,
        lambda model, **kwargs: evaluators.MultiVectorInformationRetrievalEvaluator(*RETRIEVAL, **kwargs),
    ),
    "MultiVectorTripletEvaluator": (
        tiny_multi_vector_model,
        lambda model, **kwargs: evaluators.MultiVectorTripletEvaluator(A, B, C, **kwargs),
    ),
    "MultiVectorRerankingEvaluator": (
        tiny_multi_vector_model,
        lambda model, **kwargs: evaluators.MultiVectorRerankingEvaluator(SAMPLES, **kwargs),
    ),
    "MultiVectorDistillationEvaluator": (
        tiny_multi_vector_model,
        lambda model, **kwargs: evaluators.MultiVectorDistillationEvaluator(
            A, [C[place : place + 5] for place in range(10)] + [C[:5]] * 5, TEACHER_SCORES, **kwargs
        ),
    ),
    "ReciprocalRankFusionEvaluator": (
        tiny_model,
        lambda model, **kwargs: evaluators.ReciprocalRankFusionEvaluator(*RANKINGS, **kwargs),
    ),
}
"""Those of other kinds of model, and of none: what makes the model, and the evaluator."""
