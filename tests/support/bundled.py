"""Every bundled evaluator of dense models over a few texts, by the name of its class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from sentence_transformers.sentence_transformer.losses import SoftmaxLoss
from sentence_transformers.sentence_transformer.readers import InputExample
from torch.utils.data import DataLoader

from st_eval_callbacks import evaluators

from .models import tiny_model
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
