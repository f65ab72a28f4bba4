"""A full evaluation event with a real model and real texts: encoding, scoring and metrics."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import evaluation as st

from examples.search_api_docs import Pair, collect_pairs, load_model, sample
from st_eval_callbacks import evaluators as ours

from .compare import PEER, Bars, Case, Row, Settings, compare
from .report import Section

SIZES = (384, 256, 128, 64, 32)
_NUM_WORDS = 60  # most words of a document: two or three sentences
_Made = tuple[str, dict[str, Any]]


class Counted(dict[str, float]):
    """Metrics of an event, and what the model encoded for them: texts, tokens, and tokens with padding."""

    def __init__(self, metrics: Mapping[str, float], counts: Mapping[str, int]) -> None:
        super().__init__(metrics)
        self.counts = dict(counts)

    def __reduce__(self) -> Any:
        return type(self), (dict(self), self.counts)

    @property
    def padding(self) -> float:
        return 1 - self.counts["tokens"] / max(self.counts["padded"], 1)


@contextmanager
def counting(model: SentenceTransformer) -> Iterator[dict[str, int]]:
    """Count what goes into a model, whoever calls it."""
    counts = {"texts": 0, "tokens": 0, "padded": 0}

    def count(module: Any, args: Any, kwargs: Any) -> None:
        mask = (args[0] if args else kwargs["features"])["attention_mask"]
        counts["texts"] += len(mask)
        counts["padded"] += mask.numel()
        counts["tokens"] += int(mask.sum())

    handle = model[0].register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield counts
    finally:
        handle.remove()


@functools.cache
def model() -> SentenceTransformer:
    """The MiniLM that a package carries, on the CPU."""
    return load_model(None).to("cpu")


@functools.cache
def pairs() -> list[Pair]:
    """Summary lines and what follows them, cut to a few sentences: texts of many lengths."""
    return [
        pair._replace(document=" ".join(pair.document.split(". ")[0].split()[:_NUM_WORDS])) for pair in collect_pairs()
    ]


def case_of(size: str, made: list[_Made], num_requested: int) -> Case:
    """Both sequences of the same evaluators, and how much they encode."""
    sides = {
        name: sequence([getattr(module, kind)(**arguments) for kind, arguments in made])
        for name, module, sequence in (
            ("ours", ours, ours.SequentialEvaluator),
            (PEER, st, _st_sequence),
        )
    }

    def run(name: str) -> Callable[[], Counted]:
        def evaluate() -> Counted:
            with counting(model()) as counts:
                metrics = sides[name](model())
            return Counted(metrics, counts)

        return evaluate

    def detail(results: Mapping[str, Any]) -> str:
        told = []
        for name, result in results.items():
            texts, padded = result.counts["texts"], result.counts["padded"]
            told.append(f"{name} encodes {texts:,} texts of {padded:,} tokens, {result.padding:.0%} of them padding")
        return f"{num_requested:,} texts are asked for; {'; '.join(told)}."

    return Case(size=size, ours=run("ours"), peers={PEER: run(PEER)}, detail=detail)


def _st_sequence(evaluators: list[Any]) -> Any:
    from sentence_transformers.base.evaluation import SequentialEvaluator

    return SequentialEvaluator(evaluators)


def retrieval(chosen: list[Pair], num_queries: int, **settings: Any) -> _Made:
    """Summary lines look for their own documents."""
    return "InformationRetrievalEvaluator", {
        "queries": {pair.name: pair.query for pair in sample(chosen, num_queries)},
        "corpus": {pair.name: pair.document for pair in chosen},
        "relevant_docs": {pair.name: {pair.name} for pair in chosen},
        **settings,
    }


def evaluator_set(num_pairs: int) -> Case:
    """Five evaluators over one pool of texts, as a training run has them."""
    chosen = sample(pairs(), num_pairs)
    queries, documents = [pair.query for pair in chosen], [pair.document for pair in chosen]
    random = torch.Generator().manual_seed(1)
    others = [int(place) for place in torch.randperm(num_pairs, generator=random)]
    is_own = [place % 2 == 0 for place in range(num_pairs)]
    second = [
        documents[place if own else other] for place, (own, other) in enumerate(zip(is_own, others, strict=True))
    ]
    third = num_pairs * 2 // 3
    num_samples, num_documents, stride = max(num_pairs // 9, 1), min(num_pairs, 10), max(num_pairs // 10, 1)
    samples = [
        {
            "query": queries[place],
            "positive": [documents[place]],
            "negative": [documents[(place + step * stride) % num_pairs] for step in range(1, num_documents)],
        }
        for place in range(num_samples)
    ]
    num_queries = max(num_pairs // 5, 1)
    made: list[_Made] = [
        (
            "EmbeddingSimilarityEvaluator",
            {"sentences1": queries, "sentences2": second, "scores": list(map(float, is_own)), "name": "similarity"},
        ),
        (
            "TripletEvaluator",
            {
                "anchors": queries[:third],
                "positives": documents[:third],
                "negatives": [documents[place] for place in others[:third]],
                "name": "triplet",
            },
        ),
        (
            "BinaryClassificationEvaluator",
            {"sentences1": queries, "sentences2": second, "labels": list(map(int, is_own)), "name": "binary"},
        ),
        retrieval(chosen, num_queries, name="retrieval"),
        ("RerankingEvaluator", {"samples": samples, "name": "reranking"}),
    ]
    num_requested = 4 * num_pairs + 3 * third + num_queries + num_pairs + (1 + num_documents) * num_samples
    return case_of(f"5 evaluators, {2 * num_pairs:,} distinct texts", made, num_requested)


def matryoshka(num_pairs: int) -> Case:
    """One retrieval set at five sizes of the embeddings."""
    chosen = sample(pairs(), num_pairs)
    num_queries = max(num_pairs // 2, 1)
    made = [retrieval(chosen, num_queries, name=f"dim{dim}", truncate_dim=dim) for dim in SIZES]
    size = f"{len(SIZES)} sizes, {num_queries:,} queries x {num_pairs:,} documents"
    return case_of(size, made, len(SIZES) * (num_queries + num_pairs))


def large_retrieval(num_documents: int, num_queries: int) -> Case:
    """One retrieval set."""
    chosen = sample(pairs(), num_documents)
    size = f"{num_queries:,} queries x {len(chosen):,} documents"
    return case_of(size, [retrieval(chosen, num_queries)], num_queries + len(chosen))


ROWS = (
    Row(
        "(a) evaluators over overlapping texts",
        evaluator_set,
        {"num_pairs": 235},
        {"num_pairs": 40},
        {"num_pairs": 4},
        Bars(4.5),
    ),
    Row("(b) five Matryoshka sizes", matryoshka, {"num_pairs": 300}, {"num_pairs": 30}, {"num_pairs": 4}, Bars(6)),
    Row(
        "(c) one retrieval set",
        large_retrieval,
        {"num_documents": 3_000, "num_queries": 500},
        {"num_documents": 120, "num_queries": 30},
        {"num_documents": 4, "num_queries": 2},
        Bars(1.4),
    ),
)


def run(settings: Settings) -> list[Section]:
    """The table."""
    return [compare("A full evaluation event with MiniLM", ROWS, settings)]
