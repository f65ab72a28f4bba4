"""What several processes exchange, counted; sizes are small, and so are the pieces in which work is shared out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from typing import Any

from support.models import tiny_static_model
from support.parity import sentences
from support.scenarios import FUNCTIONS, measured, small_blocks

from st_eval_callbacks import evaluators
from st_eval_callbacks.distributed import TRAFFIC

DIM = 16
CHUNK, SHARE, BLOCK = 24, 3, 8
NUM_PAIRS, NUM_MINED, NUM_QUERIES = 23, 124, 7
LONG, SHORT = 61, 20
TOP_K, MANY_PAIRS, FEW_PAIRS = 3, 10_000, 30


def prepare() -> None:
    """Nothing is made through files."""


def distinct(num: int, seed: int) -> list[str]:
    """So many texts, none of which has the words of another."""
    found: dict[tuple[str, ...], str] = {}
    for text in sentences(4 * num, seed=seed, max_words=14):
        found.setdefault(tuple(sorted(text.split())), text)
    return list(found.values())[:num]


def corpus_texts(num_documents: int) -> list[str]:
    """Those of a corpus, in the order in which it is searched."""
    return distinct(NUM_QUERIES + num_documents, seed=1)[NUM_QUERIES:]


def counted(make: Callable[[], Any]) -> Callable[[Path], Any]:
    """A scenario: the bytes and meetings of an event."""

    def run(folder: Path) -> Any:
        evaluator, model = make(), tiny_static_model(DIM)
        kernel = sys.modules["st_eval_callbacks.kernels.mining"]
        before, kernel._BLOCK = kernel._BLOCK, BLOCK
        try:
            with small_blocks(CHUNK, SHARE):
                meetings, received = astuple(TRAFFIC)
                measured([evaluator], model)
        finally:
            kernel._BLOCK = before
        return [TRAFFIC.num_gathered_bytes - received, TRAFFIC.num_meetings - meetings]

    return run


def _retrieval(num_documents: int, k: int, **settings: Any) -> Any:
    queries = {f"q{place}": text for place, text in enumerate(distinct(NUM_QUERIES + num_documents, 1)[:NUM_QUERIES])}
    corpus = {f"d{place:03d}": text for place, text in enumerate(corpus_texts(num_documents))}
    relevant = {query: {f"d{place:03d}"} for place, query in enumerate(queries)}
    return evaluators.InformationRetrievalEvaluator(queries, corpus, relevant, map_at_k=[k], **settings)


def _similarity() -> Any:
    texts = distinct(2 * NUM_PAIRS, seed=2)
    scores = [float(place % 6) for place in range(NUM_PAIRS)]
    return evaluators.EmbeddingSimilarityEvaluator(
        texts[:NUM_PAIRS], texts[NUM_PAIRS:], scores, similarity_fn_names=FUNCTIONS
    )


def _mining(max_pairs: int) -> Any:
    texts = {f"t{place}": text for place, text in enumerate(distinct(NUM_MINED, seed=3))}
    return evaluators.ParaphraseMiningEvaluator(
        texts, duplicates_list=[("t0", "t1")], max_pairs=max_pairs, top_k=TOP_K
    )


def _translation() -> Any:
    texts = distinct(2 * NUM_PAIRS, seed=4)
    return evaluators.TranslationEvaluator(texts[:NUM_PAIRS], texts[NUM_PAIRS:])


short_corpus = counted(lambda: _retrieval(SHORT, 10))
long_corpus = counted(lambda: _retrieval(LONG, 15))
two_functions = counted(lambda: _retrieval(LONG, 12, score_functions={"cosine": "cosine", "dot": "dot"}))
ties_expected = counted(lambda: _retrieval(LONG, 11, ties="expected"))
pairs = counted(_similarity)
many_mined = counted(lambda: _mining(MANY_PAIRS))
few_mined = counted(lambda: _mining(FEW_PAIRS))
translations = counted(_translation)
