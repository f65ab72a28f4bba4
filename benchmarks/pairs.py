"""Pairs and triplets of texts: classification, correlation, order."""

from __future__ import annotations

from typing import Any

import torch
from sentence_transformers.sentence_transformer import evaluation as st

from st_eval_callbacks import evaluators as ours

from .compare import PEER, Bars, Case, Row, Settings, compare
from .report import Section
from .stubs import StubModel, clustered, generator, integers, names, near, num_clusters

FUNCTIONS = ["cosine", "dot", "euclidean", "manhattan"]


def case_of(kind: str, size: str, model: StubModel, arguments: dict[str, Any]) -> Case:
    """Our evaluator of a kind beside the peer's, with the same arguments."""
    ours_one, st_one = getattr(ours, kind)(**arguments), getattr(st, kind)(**arguments)
    return Case(size=size, ours=lambda: ours_one(model), peers={PEER: lambda: st_one(model)})


def binary(num_pairs: int, num_functions: int) -> Case:
    """Pairs over a pool of texts a quarter as large: half of one cluster, and a tenth of the labels turned around."""
    num_texts = max(num_pairs // 4, 10)
    texts = names("t", num_texts)
    model = StubModel(texts, clustered(num_texts, seed=1))
    left = integers(num_texts, num_pairs, seed=2)
    step = num_clusters(num_texts)
    same = (left + step * (1 + integers(8, num_pairs, seed=3))) % (step * (num_texts // step))
    is_same = integers(2, num_pairs, seed=4).bool()
    right = torch.where(is_same, same, integers(num_texts, num_pairs, seed=5))
    labels = is_same ^ (integers(10, num_pairs, seed=6) == 0)
    return case_of(
        "BinaryClassificationEvaluator",
        f"{num_pairs:,} pairs of {num_texts:,} texts, {_functions(num_functions)}",
        model,
        {
            "sentences1": [texts[place] for place in left.tolist()],
            "sentences2": [texts[place] for place in right.tolist()],
            "labels": labels.long().tolist(),
            "similarity_fn_names": FUNCTIONS[:num_functions],
        },
    )


def similarity(num_pairs: int, num_functions: int) -> Case:
    """Pairs of distinct texts whose distance varies, and a judged score that follows it roughly."""
    left = clustered(num_pairs, seed=1)
    closeness = torch.rand(num_pairs, generator=generator(2))
    table = torch.cat([left, torch.randn(left.shape, generator=generator(3)).mul_(left.shape[1] ** -0.5)])
    table[num_pairs:].add_(left.mul_(closeness[:, None]))
    del left
    table[:num_pairs] = clustered(num_pairs, seed=1)
    texts = names("t", 2 * num_pairs)
    scores = closeness + 0.2 * torch.randn(num_pairs, generator=generator(4))
    return case_of(
        "EmbeddingSimilarityEvaluator",
        f"{num_pairs:,} pairs, {_functions(num_functions)}",
        StubModel(texts, table),
        {
            "sentences1": texts[:num_pairs],
            "sentences2": texts[num_pairs:],
            "scores": scores.tolist(),
            "similarity_fn_names": FUNCTIONS[:num_functions],
        },
    )


def triplets(num_triplets: int, num_functions: int) -> Case:
    """The negative is nearer to the anchor than the positive now and then."""
    anchors = clustered(num_triplets, seed=1)
    table = torch.cat([anchors, near(anchors, seed=2, noise=3.0), near(anchors, seed=3, noise=3.1)])
    texts = names("t", len(table))
    return case_of(
        "TripletEvaluator",
        f"{num_triplets:,} triplets, {_functions(num_functions)}",
        StubModel(texts, table),
        {
            "anchors": texts[:num_triplets],
            "positives": texts[num_triplets : 2 * num_triplets],
            "negatives": texts[2 * num_triplets :],
            "similarity_fn_names": FUNCTIONS[:num_functions],
        },
    )


def _functions(num: int) -> str:
    return "1 function" if num == 1 else f"{num} functions"


def _row(name: str, build: Any, noun: str, full: int, quick: int, functions: int, bars: Bars) -> Row:
    sizes = ({noun: num, "num_functions": functions} for num in (full, quick, 40))
    return Row(name, build, *sizes, bars=bars)


ROWS = (
    _row("binary classification", binary, "num_pairs", 10_000, 2_000, 4, Bars()),
    _row("binary classification", binary, "num_pairs", 100_000, 10_000, 4, Bars(60)),
    _row("binary classification", binary, "num_pairs", 1_000_000, 20_000, 4, Bars(100)),
    _row("binary classification", binary, "num_pairs", 100_000, 10_000, 1, Bars()),
    _row("embedding similarity", similarity, "num_pairs", 10_000, 5_000, 4, Bars()),
    _row("embedding similarity", similarity, "num_pairs", 1_000_000, 50_000, 4, Bars(6.5)),
    _row("triplet", triplets, "num_triplets", 100_000, 20_000, 4, Bars(5)),
)


def run(settings: Settings) -> list[Section]:
    """The table."""
    return [compare("Pairs and triplets", ROWS, settings)]
