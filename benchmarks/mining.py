"""Tasks over all pairs of texts: paraphrase mining and translation."""

from __future__ import annotations

import torch

from .compare import Bars, Case, Row, Settings, compare
from .pairs import case_of
from .report import Section
from .stubs import StubModel, clustered, names, near, num_clusters

_NUM_PARAPHRASES = 3


def paraphrases(num_texts: int) -> Case:
    """Clusters of three texts that mean the same, within larger clusters."""
    num_meanings = -(-num_texts // _NUM_PARAPHRASES)
    meanings = clustered(num_meanings, seed=1, noise=0.5)
    table = near(meanings.repeat(_NUM_PARAPHRASES, 1)[:num_texts], seed=2, noise=0.75)
    texts = names("t", num_texts)
    duplicates = [
        (texts[place], texts[place + distance * num_meanings])
        for distance in range(1, _NUM_PARAPHRASES)
        for place in range(num_texts - distance * num_meanings)
    ]
    arguments = {"sentences_map": dict(zip(texts, texts, strict=True)), "duplicates_list": duplicates}
    return case_of("ParaphraseMiningEvaluator", f"{num_texts:,} sentences", StubModel(texts, table), arguments)


def translations(num_texts: int) -> Case:
    """Sentences in small clusters, and translations that are now and then nearer to a neighbour."""
    source = clustered(num_texts, seed=1, per_cluster=min(50, num_texts), noise=0.6)
    assert num_clusters(num_texts) >= 1
    texts = names("t", 2 * num_texts)
    model = StubModel(texts, torch.cat([source, near(source, seed=2, noise=2.0)]))
    arguments = {"source_sentences": texts[:num_texts], "target_sentences": texts[num_texts:]}
    return case_of("TranslationEvaluator", f"{num_texts:,} x {num_texts:,}", model, arguments)


ROWS = (
    Row(
        "paraphrase mining",
        paraphrases,
        full={"num_texts": 50_000},
        quick={"num_texts": 5_000},
        smallest={"num_texts": 60},
        bars=Bars(4.4),
    ),
    Row(
        "translation",
        translations,
        full={"num_texts": 10_000},
        quick={"num_texts": 3_000},
        smallest={"num_texts": 60},
        bars=Bars(4.4),
    ),
)


def run(settings: Settings) -> list[Section]:
    """The table."""
    return [compare("All pairs", ROWS, settings)]
