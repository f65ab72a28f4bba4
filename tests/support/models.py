"""Models for tests, built offline in moments: stubs with given vectors, and tiny real ones with seeded weights."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.base.modules import Dense, Router
from sentence_transformers.cross_encoder.modules import LogitScore
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, StaticEmbedding, Transformer
from sentence_transformers.sparse_encoder.modules import SpladePooling
from sentence_transformers.util.similarity import SimilarityFunction
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    BertTokenizerFast,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Model,
)

WORDS = (
    "a an the cat dog bird fish man woman child sits stands runs sleeps eats sings on in under over beside mat house "
    "river tree road quickly slowly red blue green old new small large and but with without query passage find : . ?"
).split()
"""Every word that the tiny models know; others become unknown tokens."""
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_BERT_FOR: dict[str, Any] = {
    "feature-extraction": BertModel,
    "fill-mask": BertForMaskedLM,
    "sequence-classification": BertForSequenceClassification,
}

TEXTS = [
    "a cat sits on the mat .",
    "the dog runs",
    "an old man and a small child sing under the large green tree beside the river .",
    "bird",
    "the woman sleeps in the new house but the dog stands on the road with a red fish ?",
    "a large blue fish eats slowly without the bird",
    "",
    "the dog runs",
    "unknownword cat",
]
"""Texts of many lengths, with a repeated one, an empty one and an unknown word."""


class ModelCardStub:
    """Takes the metrics that evaluators store for the card."""

    def __init__(self) -> None:
        self.stored: list[tuple[Any, dict[str, Any], float, int]] = []
        self.eval_results_dict: dict[Any, dict[str, Any]] = {}

    def set_evaluation_metrics(self, evaluator: Any, metrics: dict[str, Any], epoch: float = 0, step: int = 0) -> None:
        """Keep one evaluation."""
        self.stored.append((evaluator, dict(metrics), epoch, step))
        self.eval_results_dict[evaluator] = dict(metrics)


class StubModel:
    """Any object with ST's `encode` methods: texts map to the vectors given.

    Args:
        vectors: The vector of each text that may be asked for.
        similarity_fn_name: "cosine", "dot", "euclidean" or "manhattan".
        dtype: What the vectors are returned in.

    Attributes:
        calls: `(method, inputs, keyword arguments)` of every encode call, in order.
    """

    def __init__(
        self,
        vectors: dict[str, list[float]],
        similarity_fn_name: str = "cosine",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.vectors = vectors
        self.similarity_fn_name = similarity_fn_name
        self.dtype = dtype
        self.model_card_data = ModelCardStub()
        self.calls: list[tuple[str, list[Any], dict[str, Any]]] = []

    @property
    def encoded(self) -> list[Any]:
        """All inputs of all calls, in order."""
        return [text for _, inputs, _ in self.calls for text in inputs]

    def encode(
        self,
        inputs: Sequence[str] | str,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        output_value: str | None = "sentence_embedding",
        precision: str = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: str | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Look the inputs up."""
        given = {name: value for name, value in locals().items() if name not in ("self", "inputs", "kwargs")}
        return self._encode("encode", inputs, **given, **kwargs)

    def encode_query(self, inputs: Sequence[str] | str, **kwargs: Any) -> Any:
        """Look queries up."""
        return self._encode("encode_query", inputs, **kwargs)

    def encode_document(self, inputs: Sequence[str] | str, **kwargs: Any) -> Any:
        """Look documents up."""
        return self._encode("encode_document", inputs, **kwargs)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """All pairs."""
        return SimilarityFunction.to_similarity_fn(self.similarity_fn_name)(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """Pair by pair."""
        return SimilarityFunction.to_similarity_pairwise_fn(self.similarity_fn_name)(embeddings1, embeddings2)

    def _encode(self, method: str, inputs: Sequence[str] | str, **kwargs: Any) -> Any:
        single = isinstance(inputs, str)
        texts = [inputs] if single else list(inputs)
        self.calls.append((method, texts, kwargs))
        embeddings = torch.tensor([self.vectors[text] for text in texts], dtype=self.dtype)
        embeddings = embeddings[..., : kwargs.get("truncate_dim")]
        if kwargs.get("normalize_embeddings"):
            embeddings = torch.nn.functional.normalize(embeddings, dim=1)
        result: Any = embeddings
        if not kwargs.get("convert_to_tensor"):
            as_numpy = kwargs.get("convert_to_numpy", True)
            result = np.asarray(embeddings.float()) if as_numpy else list(embeddings)
        return result[0] if single else result


class StubCrossEncoder:
    """Any object with ST's `predict`: pairs map to the scores given.

    Args:
        scores: The score of each pair that may be asked for, or its scores where there are several labels.
        num_labels: How many labels there are.

    Attributes:
        calls: `(pairs, keyword arguments)` of every call, in order.
    """

    def __init__(self, scores: dict[tuple[str, str], Any], num_labels: int = 1) -> None:
        self.scores = scores
        self.num_labels = num_labels
        self.model_card_data = ModelCardStub()
        self.calls: list[tuple[list[tuple[str, str]], dict[str, Any]]] = []

    @property
    def predicted(self) -> list[tuple[str, str]]:
        """All pairs of all calls, in order."""
        return [pair for pairs, _ in self.calls for pair in pairs]

    def predict(self, inputs: Sequence[Any], convert_to_tensor: bool = False, **kwargs: Any) -> Any:
        """Look the pairs up."""
        pairs = [tuple(pair) for pair in inputs]
        self.calls.append((pairs, kwargs))
        found = torch.tensor([self.scores[pair] for pair in pairs])
        return found if convert_to_tensor else found.numpy()


def tiny_tokenizer(padding_side: str = "right") -> PreTrainedTokenizerFast:
    """A BERT tokenizer over `WORDS`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocab.txt"
        path.write_text("\n".join([*SPECIAL_TOKENS, *WORDS]), encoding="utf-8")
        return BertTokenizerFast(vocab=str(path), padding_side=padding_side, model_max_length=64)


def tiny_transformer(
    dim: int = 16,
    *,
    seed: int = 0,
    architecture: str = "bert",
    dropout: float = 0.1,
    padding_side: str = "right",
    task: str = "feature-extraction",
    num_labels: int = 1,
) -> Transformer:
    """A one-layer transformer module.

    Args:
        dim: Its width.
        seed: Seed of the weights.
        architecture: "bert", or "qwen2" (rotary positions, so the padding side does not matter).
        dropout: Dropout in training mode.
        padding_side: "right" or "left".
        task: "feature-extraction", or for "bert" also "fill-mask" or "sequence-classification",
            for "qwen2" also "text-generation".
        num_labels: Labels of the last.

    Returns:
        The module.
    """
    tokenizer = tiny_tokenizer(padding_side)
    size = {
        "vocab_size": len(tokenizer),
        "hidden_size": dim,
        "intermediate_size": 2 * dim,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
    }
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(seed)
        model: Any
        if architecture == "qwen2":
            kind = Qwen2ForCausalLM if task == "text-generation" else Qwen2Model
            model = kind(Qwen2Config(**size, num_key_value_heads=2, attention_dropout=dropout))
        else:
            config = BertConfig(
                **size, num_labels=num_labels, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout
            )
            model = _BERT_FOR[task](config)
        for parameter in model.parameters():
            # Larger weights than a fresh model's, so that texts have clearly different embeddings.
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.4)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        module = Transformer(folder, transformer_task=task)  # type: ignore[arg-type]
    # What is loaded beside a Qwen2 model splits words in another way.
    module.processor = tokenizer
    return module


def tiny_model(
    dim: int = 16,
    *,
    pooling: str | tuple[str, ...] = "mean",
    include_prompt: bool = True,
    dense: int | None = None,
    normalize: bool = False,
    seed: int = 0,
    architecture: str = "bert",
    dropout: float = 0.1,
    padding_side: str = "right",
    **kwargs: Any,
) -> SentenceTransformer:
    """A real SentenceTransformer on the CPU with seeded weights.

    Args:
        dim: Width of the transformer.
        pooling: Pooling mode or modes.
        include_prompt: Whether pooling counts the prompt's tokens.
        dense: Width of a dense module after pooling, or None.
        normalize: Whether a normalising module ends the stack.
        seed: Seed of the weights.
        architecture: "bert" or "qwen2".
        dropout: Dropout of the transformer in training mode.
        padding_side: "right" or "left".
        **kwargs: Given to SentenceTransformer: prompts, default_prompt_name, similarity_fn_name, truncate_dim ...

    Returns:
        The model, in evaluation mode.
    """
    transformer = tiny_transformer(
        dim, seed=seed, architecture=architecture, dropout=dropout, padding_side=padding_side
    )
    modules: list[torch.nn.Module] = [transformer, Pooling(dim, pooling, include_prompt=include_prompt)]
    if dense is not None:
        modules.append(_dense(modules[-1].get_embedding_dimension(), dense, seed))
    if normalize:
        modules.append(Normalize())
    return SentenceTransformer(modules=modules, device="cpu", **kwargs).eval()


def tiny_static_model(dim: int = 16, *, seed: int = 0, **kwargs: Any) -> SentenceTransformer:
    """A real static embedding model on the CPU: the mean of one vector for each word."""
    return SentenceTransformer(modules=[_static_module(dim, seed)], device="cpu", **kwargs).eval()


def tiny_router_model(dim: int = 16, *, seed: int = 0, **kwargs: Any) -> SentenceTransformer:
    """A real model with two routes: a static one for queries, a transformer for documents (the default)."""
    router = Router.for_query_document(
        query_modules=[_static_module(dim, seed + 1)],
        document_modules=[tiny_transformer(dim, seed=seed), Pooling(dim, "mean")],
    )
    return SentenceTransformer(modules=[router], device="cpu", **kwargs).eval()


def tiny_sparse_model(*, seed: int = 0, dropout: float = 0.1, **kwargs: Any) -> SparseEncoder:
    """A real SPLADE model on the CPU: a weight for each token of the tiny vocabulary."""
    transformer = tiny_transformer(seed=seed, dropout=dropout, task="fill-mask")
    return SparseEncoder(modules=[transformer, SpladePooling("max")], device="cpu", **kwargs).eval()


def tiny_cross_encoder(*, seed: int = 0, dropout: float = 0.1, num_labels: int = 1, **kwargs: Any) -> CrossEncoder:
    """A real CrossEncoder on the CPU."""
    transformer = tiny_transformer(seed=seed, dropout=dropout, task="sequence-classification", num_labels=num_labels)
    return CrossEncoder(modules=[transformer], device="cpu", **kwargs).eval()


def tiny_language_cross_encoder(*, seed: int = 0, **kwargs: Any) -> CrossEncoder:
    """A real CrossEncoder on the CPU that pads on the left and reads its score off the logits of two tokens."""
    transformer = tiny_transformer(
        seed=seed, architecture="qwen2", dropout=0.0, padding_side="left", task="text-generation"
    )
    modules: list[torch.nn.Module] = [transformer, LogitScore(true_token_id=7, false_token_id=9)]
    return CrossEncoder(modules=modules, device="cpu", **kwargs).eval()


def tiny_multi_vector_model(
    dim: int = 16, *, seed: int = 0, dropout: float = 0.1, **kwargs: Any
) -> MultiVectorEncoder:
    """A real multi-vector model on the CPU: a unit vector for each token, also for special ones."""
    modules: list[torch.nn.Module] = [
        tiny_transformer(dim, seed=seed, dropout=dropout),
        MultiVectorMask(),
        Normalize(module_input_name="token_embeddings"),
    ]
    return MultiVectorEncoder(modules=modules, device="cpu", **kwargs).eval()


def _dense(in_features: int, out_features: int, seed: int) -> Dense:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Dense(in_features, out_features)


def _static_module(dim: int, seed: int) -> StaticEmbedding:
    vocabulary = {word: row for row, word in enumerate(["[UNK]", *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    weights = torch.randn(len(vocabulary), dim, generator=torch.Generator().manual_seed(seed))
    return StaticEmbedding(tokenizer, embedding_weights=weights)
