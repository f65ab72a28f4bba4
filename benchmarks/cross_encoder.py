"""Cross-encoders: the metrics of given scores, and the time a real model takes for pairs of mixed length."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder import evaluation as st
from torch import Tensor

from st_eval_callbacks import evaluators as ours
from st_eval_callbacks.encoding import Session
from st_eval_callbacks.encoding.predictions import PredictOptions

from .compare import PEER, Bars, Case, Row, Settings, compare
from .report import Section
from .stubs import CardStub, generator, integers, names

_NUM_POSITIVE = 5
_NUM_WORDS = 500
_NUM_PROBES = 64


class StubCrossEncoder:
    """A model whose `predict` looks scores up, so that only metrics take time.

    Pairs that come in the order of the table get the table itself.

    Args:
        pairs: The pairs it knows, all distinct.
        table: (len(pairs),) or (len(pairs), num_labels) their scores.
    """

    def __init__(self, pairs: Sequence[tuple[str, str]], table: Tensor) -> None:
        self.pairs = list(pairs)
        self.table = table
        self.num_labels = 1 if table.ndim == 1 else table.shape[1]
        self.model_card_data = CardStub()
        self._rows: dict[tuple[str, str], int] = {}

    def predict(self, inputs: Sequence[Any], convert_to_tensor: bool = False, **kwargs: Any) -> Any:
        """Scores as `CrossEncoder.predict` returns them."""
        found = self._lookup(inputs)
        return found if convert_to_tensor else found.numpy()

    def _lookup(self, inputs: Sequence[Any]) -> Tensor:
        num = len(inputs)
        probes = {num * probe // _NUM_PROBES for probe in range(_NUM_PROBES)} | {num - 1}
        # Pairs are distinct: a shuffled list passes for an ordered one only if all probes stand right by chance.
        if num == len(self.pairs) and all(tuple(inputs[place]) == self.pairs[place] for place in probes):
            return self.table
        if not self._rows:
            self._rows = {pair: row for row, pair in enumerate(self.pairs)}
        return self.table[[self._rows[tuple(pair)] for pair in inputs]]


def _case(kind: str, size: str, model: Any, arguments: dict[str, Any]) -> Case:
    arguments = {**arguments, "show_progress_bar": False}
    ours_one, st_one = getattr(ours, kind)(**arguments), getattr(st, kind)(**arguments)
    return Case(size=size, ours=lambda: ours_one(model), peers={PEER: lambda: st_one(model)})


def rerank(num_queries: int, num_documents: int, with_base: bool = False) -> Case:
    """Queries with lists of documents, of which the positives have a little higher scores."""
    queries, texts = names("q", num_queries), names("d", num_queries * num_documents)
    scores = torch.randn(num_queries, num_documents, generator=generator(1))
    scores[:, :_NUM_POSITIVE] += 1
    pairs = [(query, texts[i * num_documents + j]) for i, query in enumerate(queries) for j in range(num_documents)]
    samples = []
    for number, query in enumerate(queries):
        found = texts[number * num_documents : (number + 1) * num_documents]
        positive, others = found[:_NUM_POSITIVE], found[_NUM_POSITIVE:]
        # In a ranked list the positives stand in the middle.
        half = len(others) // 2
        rest = {"documents": others[:half] + positive + others[half:]} if with_base else {"negative": others}
        samples.append({"query": query, "positive": positive, **rest})
    model = StubCrossEncoder(pairs, scores.flatten())
    size = f"{num_queries:,} queries x {num_documents} documents"
    return _case("CrossEncoderRerankingEvaluator", size, model, {"samples": samples})


def classify(num_pairs: int, num_classes: int) -> Case:
    """Pairs whose label raises the score of its class."""
    labels = integers(max(num_classes, 2), num_pairs, seed=1)
    if num_classes == 1:
        scores = torch.sigmoid(torch.randn(num_pairs, generator=generator(2)) + labels)
    else:
        scores = torch.randn(num_pairs, num_classes, generator=generator(2))
        scores[torch.arange(num_pairs), labels] += 1
    pairs = list(zip(names("a", num_pairs), names("b", num_pairs), strict=True))
    return _case(
        "CrossEncoderClassificationEvaluator",
        f"{num_pairs:,} pairs",
        StubCrossEncoder(pairs, scores),
        {"sentence_pairs": pairs, "labels": labels.tolist()},
    )


def correlate(num_pairs: int) -> Case:
    """Pairs whose scores follow the judged ones roughly."""
    judged = torch.rand(num_pairs, generator=generator(1))
    scores = judged + torch.randn(num_pairs, generator=generator(2))
    pairs = list(zip(names("a", num_pairs), names("b", num_pairs), strict=True))
    return _case(
        "CrossEncoderCorrelationEvaluator",
        f"{num_pairs:,} pairs",
        StubCrossEncoder(pairs, scores),
        {"sentence_pairs": pairs, "scores": judged.tolist()},
    )


def predict(num_pairs: int, most_words: int) -> Case:
    """A tiny BERT over queries of a few words and documents of all lengths, few of them long."""
    model = tiny_bert()
    chooser = random.Random(1)
    words = names("w", _NUM_WORDS)
    pairs = []
    for _ in range(num_pairs):
        length = max(1, int(most_words * chooser.random() ** 3))
        pairs.append((" ".join(chooser.choices(words, k=6)), " ".join(chooser.choices(words, k=length))))

    def by_ours() -> dict[str, float]:
        return _described(Session().lookup(model, pairs, PredictOptions()).rows())

    def by_st() -> dict[str, float]:
        return _described(model.predict(pairs, convert_to_tensor=True, show_progress_bar=False))

    size = f"{num_pairs:,} pairs, documents of 1-{most_words} words"
    return Case(size=size, ours=by_ours, peers={PEER: by_st})


def tiny_bert() -> CrossEncoder:
    """Two layers of width 64 with random weights, and a tokenizer of whole words."""
    from sentence_transformers.base.modules import Transformer
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        vocabulary = Path(folder) / "vocab.txt"
        vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *names("w", _NUM_WORDS)]))
        tokenizer = BertTokenizerFast(vocab=str(vocabulary), model_max_length=256)
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=256,
            num_labels=1,
        )
        BertForSequenceClassification(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        module = Transformer(folder, transformer_task="sequence-classification")
    return CrossEncoder(modules=[module], device="cpu").eval()


def _described(scores: Tensor) -> dict[str, float]:
    """Enough of the scores to compare them: evenly spaced ones."""
    chosen = scores[:: max(len(scores) // 100, 1)]
    return {f"score {place}": value for place, value in enumerate(chosen.tolist())}


ROWS = (
    Row(
        "cross-encoder reranking",
        rerank,
        full={"num_queries": 5_000, "num_documents": 100},
        quick={"num_queries": 500, "num_documents": 100},
        smallest={"num_queries": 4, "num_documents": 10},
        bars=Bars(100),
    ),
    Row(
        "cross-encoder reranking of ranked lists",
        rerank,
        full={"num_queries": 5_000, "num_documents": 100, "with_base": True},
        quick={"num_queries": 500, "num_documents": 100, "with_base": True},
        smallest={"num_queries": 4, "num_documents": 10, "with_base": True},
        bars=Bars(100),
    ),
    Row(
        "cross-encoder classification, one label",
        classify,
        full={"num_pairs": 1_000_000, "num_classes": 1},
        quick={"num_pairs": 20_000, "num_classes": 1},
        smallest={"num_pairs": 40, "num_classes": 1},
        bars=Bars(100),
    ),
    Row(
        "cross-encoder classification, three labels",
        classify,
        full={"num_pairs": 1_000_000, "num_classes": 3},
        quick={"num_pairs": 50_000, "num_classes": 3},
        smallest={"num_pairs": 40, "num_classes": 3},
        bars=Bars(20),
    ),
    Row(
        "cross-encoder correlation",
        correlate,
        full={"num_pairs": 1_000_000},
        quick={"num_pairs": 100_000},
        smallest={"num_pairs": 40},
        bars=Bars(10),
    ),
    Row(
        "cross-encoder predictions",
        predict,
        full={"num_pairs": 4_000, "most_words": 200},
        quick={"num_pairs": 400, "most_words": 200},
        smallest={"num_pairs": 10, "most_words": 20},
    ),
)


def run(settings: Settings) -> list[Section]:
    """The table."""
    return [compare("Cross-encoders", ROWS, settings)]
