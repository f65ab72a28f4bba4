"""One of several processes that evaluate: measures ours, then sentence-transformers', and writes what it counted.

Started by `torchrun`: ``python -m benchmarks.one_process FOLDER THREADS NUM_QUERIES NUM_DOCUMENTS ...``.
"""

from __future__ import annotations

import json
import pickle
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import evaluation as st

from st_eval_callbacks import evaluators as ours
from st_eval_callbacks.distributed import TRAFFIC
from st_eval_callbacks.evaluation import EvalSettings, evaluate
from st_eval_callbacks.tasks import build_tasks

from . import measure
from .compare import OURS, PEER
from .stubs import static_model

DIM, K = 64, 100
_WORDS = [f"word{number:04d}" for number in range(2_000)]
_NUM_WORDS, _NUM_SHARED = 12, 4


def arguments(num_queries: int, num_documents: int) -> dict[str, Any]:
    """Documents of random words; a query has some words of one document, which is relevant, and others."""
    random = np.random.default_rng(0)
    documents = random.integers(len(_WORDS), size=(num_documents, _NUM_WORDS))
    places = random.integers(num_documents, size=num_queries)
    queries = random.integers(len(_WORDS), size=(num_queries, _NUM_WORDS))
    queries[:, :_NUM_SHARED] = documents[places, :_NUM_SHARED]
    return {
        "queries": {f"q{place:08d}": _text(row) for place, row in enumerate(queries)},
        "corpus": {f"d{place:08d}": _text(row) for place, row in enumerate(documents)},
        "relevant_docs": {f"q{place:08d}": {f"d{document:08d}"} for place, document in enumerate(places)},
    }


def _text(words: Any) -> str:
    return " ".join(_WORDS[word] for word in words)


@contextmanager
def counting(model: SentenceTransformer) -> Iterator[dict[str, int]]:
    """Count texts that the model encodes here, meetings of ours, and bytes of messages.

    Bytes of tensors are those received; of pickled objects those of the embeddings that this process hands in, and of
    the texts that it is handed.
    """
    counts = dict.fromkeys(("encoded", "received", "meetings", "embeddings_sent", "texts_received", "messages"), 0)

    def count(module: Any, given: Any) -> None:
        counts["encoded"] += len(given[0]["offsets"])

    gather_object, scatter_object_list = dist.gather_object, dist.scatter_object_list

    def gather(one: Any, *args: Any, **kwargs: Any) -> None:
        counts["embeddings_sent"] += len(pickle.dumps(one))
        counts["messages"] += 1
        gather_object(one, *args, **kwargs)

    def scatter(handed: list[Any], *args: Any, **kwargs: Any) -> None:
        scatter_object_list(handed, *args, **kwargs)
        counts["texts_received"] += len(pickle.dumps(handed[0]))
        counts["messages"] += 1

    handle = model[0].register_forward_pre_hook(count)
    dist.gather_object, dist.scatter_object_list = gather, scatter
    received, meetings = TRAFFIC.num_gathered_bytes, TRAFFIC.num_meetings
    try:
        yield counts
    finally:
        handle.remove()
        dist.gather_object, dist.scatter_object_list = gather_object, scatter_object_list
        counts["received"] = TRAFFIC.num_gathered_bytes - received
        counts["meetings"] = TRAFFIC.num_meetings - meetings


def together(evaluator: Any, model: SentenceTransformer) -> dict[str, float]:
    """An event as the callback runs it."""
    outcome = evaluate(
        build_tasks([evaluator], None), model, output_path=None, epoch=0.0, step=0, settings=EvalSettings()
    )
    return outcome.merged


def served(evaluator: Any, model: SentenceTransformer) -> dict[str, float]:
    """An evaluation as sentence-transformers' trainer runs it."""
    from sentence_transformers.util.distributed import distributed_evaluation

    with distributed_evaluation(model) as is_running:
        found: dict[str, float] = evaluator(model) if is_running else {}
    return found


def sides(num_queries: int, num_documents: int, model: SentenceTransformer) -> dict[str, Callable[[], Any]]:
    """Both, over the same data."""
    given = arguments(num_queries, num_documents)
    ours_one, st_one = ours.InformationRetrievalEvaluator(**given), st.InformationRetrievalEvaluator(**given)
    return {OURS: lambda: together(ours_one, model), PEER: lambda: served(st_one, model)}


def measured(run: Callable[[], Any], model: SentenceTransformer) -> dict[str, Any]:
    """One run for memory and time, and one in which messages are counted."""

    def from_the_start() -> float:
        dist.barrier()
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    first = measure.with_peak(from_the_start)
    with counting(model) as counts:
        again = run()
    return {
        **counts,
        "peak_mib": first.peak_mib,
        "seconds": first.timed.result,
        "values": {key: float(value) for key, value in again.items()},
    }


def main(folder: str, threads: str, num_queries: str, *sizes: str) -> None:
    """Measure corpora of these sizes one after another."""
    torch.set_num_threads(int(threads))
    model = static_model(_WORDS, DIM)
    dist.init_process_group("gloo")
    for run in sides(5, 20, model).values():
        run()
    told = {
        size: {name: measured(run, model) for name, run in sides(int(num_queries), int(size), model).items()}
        for size in sizes
    }
    path = Path(folder) / f"told_{dist.get_rank()}.json"
    path.write_text(json.dumps(told), encoding="utf-8")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
