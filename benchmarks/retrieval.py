"""Retrieval: evaluators beside each other, and the search beside the matrix product that bounds it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from sentence_transformers.sentence_transformer import evaluation as st
from sentence_transformers.util import dot_score, semantic_search
from torch import Tensor

from st_eval_callbacks import evaluators as ours
from st_eval_callbacks.encoding.shared import session
from st_eval_callbacks.kernels import product as kernel
from st_eval_callbacks.kernels.topk import StreamingSearch

from . import measure
from .compare import OURS, PEER, Bars, Case, Row, Settings, compare
from .report import Section, Verdict, reached_text, seconds_text
from .stubs import StubModel, clustered, integers, names, near, num_clusters

K = 100
_BLOCK = (512, 4096)
_MM = "plain mm"
_LIMIT = "The search beside the matrix product"
_MOST_PRODUCTS = 1.5


@contextmanager
def plain_mm() -> Iterator[None]:
    """Let the package take torch's `mm` inside, whatever is fastest on this processor."""
    chosen = kernel._fastest
    kernel._fastest = lambda dim: kernel._mm  # type: ignore[assignment]
    try:
        yield
    finally:
        kernel._fastest = chosen


def chosen_product(dim: int) -> str:
    """Name of the product kernel that the package takes for float32 on this processor."""
    product = kernel.product_for(dim, torch.float32, torch.device("cpu"))
    return "torch.mm" if product is kernel._mm else "oneDNN"


def embeddings(num_queries: int, num_documents: int) -> tuple[Tensor, Tensor]:
    """Documents in clusters, and queries each of which is near one of them."""
    documents = clustered(num_documents, seed=1)
    queries = near(documents[integers(num_documents, num_queries, seed=2)], seed=3, noise=1.0)
    return queries, documents


def evaluator_arguments(num_queries: int, num_documents: int) -> dict[str, Any]:
    """Three relevant documents for each query: its neighbour, one more of the cluster, and one of another cluster."""
    queries, documents = names("q", num_queries), names("d", num_documents)
    source = integers(num_documents, num_queries, seed=2)
    step = num_clusters(num_documents)
    places = torch.stack([source, (source + step) % num_documents, (source + 7 * step + 1) % num_documents], dim=1)
    relevant = [{documents[place] for place in row} for row in places.tolist()]
    return {
        "queries": dict(zip(queries, queries, strict=True)),
        "corpus": dict(zip(documents, documents, strict=True)),
        "relevant_docs": dict(zip(queries, relevant, strict=True)),
    }


def stub(num_queries: int, num_documents: int, similarity: str) -> StubModel:
    """The model of these queries and documents."""
    texts = [*names("q", num_queries), *names("d", num_documents)]
    return StubModel(texts, torch.cat(embeddings(num_queries, num_documents)), similarity)


def build(num_queries: int, num_documents: int, similarity: str, more: bool = False) -> Case:
    """An evaluator of each kind, with a stub.

    Args:
        num_queries: Queries.
        num_documents: Documents.
        similarity: The model's similarity.
        more: Whether ours also runs with the plain product, and without keeping embeddings for other evaluators.
    """
    arguments = evaluator_arguments(num_queries, num_documents)
    model = stub(num_queries, num_documents, similarity)
    our_evaluator = ours.InformationRetrievalEvaluator(**arguments)
    st_evaluator = st.InformationRetrievalEvaluator(**arguments)

    def with_mm() -> Any:
        with plain_mm():
            return our_evaluator(model)

    def keeping_nothing() -> Any:
        with session(cache_bytes=0):
            return our_evaluator(model)

    return Case(
        size=f"{num_queries:,} x {num_documents:,} x {model.table.shape[1]}, k {K}",
        ours=lambda: our_evaluator(model),
        peers={PEER: lambda: st_evaluator(model)},
        variants={f"{_MM} on both sides": with_mm, "documents not kept for others": keeping_nothing} if more else {},
    )


def _row(similarity: str, num_queries: int, num_documents: int, bars: Bars, more: bool = False) -> Row:
    quick = (max(num_queries // 10, 100), num_documents // 20)
    sizes = [
        {"num_queries": queries, "num_documents": documents, "similarity": similarity}
        for queries, documents in [(num_queries, num_documents), quick, (5, 200)]
    ]
    full = {**sizes[0], "more": more}
    return Row(f"retrieval, {similarity}", build, full, {**sizes[1], "more": more}, sizes[2], bars)


ROWS = (
    _row("cosine", 1_000, 100_000, Bars(3.5, 128), more=True),
    _row("dot", 1_000, 100_000, Bars(3.5, 128)),
    _row("euclidean", 1_000, 100_000, Bars(peak_mib=128)),
    _row("cosine", 1_000, 500_000, Bars(peak_mib=128)),
    _row("cosine", 10_000, 100_000, Bars(7.5, 128), more=True),
    _row("cosine", 10_000, 500_000, Bars(peak_mib=128)),
)


def run(settings: Settings) -> list[Section]:
    """Both tables."""
    return [compare("Retrieval", ROWS, settings), limit(settings)]


# -- The limit --------------------------------------------------------------------------------------------------------


def product_in_blocks(product: kernel.Product, queries: Tensor, documents: Tensor) -> None:
    """All scores, block by block into one buffer, and nothing else."""
    num_queries, num_documents = _BLOCK
    out = torch.empty(_BLOCK)
    with kernel.full_precision(queries.device):
        for start in range(0, len(documents), num_documents):
            block = documents[start : start + num_documents]
            for first in range(0, len(queries), num_queries):
                rows = queries[first : first + num_queries]
                product(rows, block, out.view(-1)[: len(rows) * len(block)].view(len(rows), len(block)))


def search(queries: Tensor, documents: Tensor) -> None:
    """The package's search."""
    searching = StreamingSearch(queries, K, "dot")
    searching.add(documents)
    searching.result()


def topk_of_chunks(queries: Tensor, documents: Tensor) -> None:
    """What torch makes easy: a product and a `topk` for each chunk, and one over their hits."""
    found = [torch.topk(queries @ chunk.T, min(K, len(chunk)), dim=1).values for chunk in documents.split(50_000)]
    torch.topk(torch.cat(found, dim=1), K, dim=1)


def contenders(num_queries: int, num_documents: int) -> tuple[dict[str, Callable[[], Any]], list[str]]:
    """All that finds the best documents by dot product, and notes on what is missing."""
    queries, documents = embeddings(num_queries, num_documents)
    arguments = evaluator_arguments(num_queries, num_documents)
    model = StubModel(
        [*names("q", num_queries), *names("d", num_documents)],
        torch.cat([queries, documents]),
        similarity_fn_name="dot",
    )
    our_evaluator = ours.InformationRetrievalEvaluator(**arguments)
    st_evaluator = st.InformationRetrievalEvaluator(**arguments)
    fastest = kernel.product_for(queries.shape[1], queries.dtype, queries.device)

    def with_mm(work: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> Any:
            with plain_mm():
                return work()

        return run

    found: dict[str, Callable[[], Any]] = {
        "pure product, fastest kernel": lambda: product_in_blocks(fastest, queries, documents),
        f"pure product, {_MM}": lambda: product_in_blocks(kernel._mm, queries, documents),
        f"{OURS}, search": lambda: search(queries, documents),
        f"{OURS}, search, {_MM}": with_mm(lambda: search(queries, documents)),
        f"{OURS}, evaluator": lambda: our_evaluator(model),
        f"{OURS}, evaluator, {_MM}": with_mm(lambda: our_evaluator(model)),
        "mm of 50,000 documents at a time and topk": lambda: topk_of_chunks(queries, documents),
        f"{PEER}, util.semantic_search": lambda: semantic_search(
            queries, documents, top_k=K, score_function=dot_score, query_chunk_size=100, corpus_chunk_size=500_000
        ),
        f"{PEER}, evaluator": lambda: st_evaluator(model),
    }
    try:
        import faiss
    except ImportError:
        return found, ["faiss is not installed: its row is left out."]
    index = faiss.IndexFlatIP(queries.shape[1])
    index.add(documents.numpy())
    found["faiss IndexFlatIP, search"] = lambda: index.search(queries.numpy(), K)
    return found, []


def limit(settings: Settings) -> Section:
    """Each way to search, in units of the product that none can do without."""
    num_queries, num_documents = {"full": (1_000, 100_000), "quick": (200, 20_000), "smallest": (5, 200)}[
        settings.size
    ]
    settings.say(_LIMIT)
    found, notes = contenders(num_queries, num_documents)
    with measure.inputs_not_collected():
        first = measure.interleaved(found, 1, warm_up=False)
        rounds = measure.rounds_within(settings.budget, sum(map(first.median, found)), settings.rounds)
        timings = measure.interleaved(found, rounds, warm_up=False)
    size = f"{num_queries:,} x {num_documents:,} x 384, k {K}, dot"
    section = Section(
        f"{_LIMIT} ({size})",
        (
            "what",
            "time",
            "times the fastest product (min-max)",
            f"times the product by {_MM}",
            "rounds",
            "bar",
            "reached",
        ),
    )
    best, by_mm = list(found)[:2]
    for name in found:
        multiple = timings.ratio(name, best)
        verdicts = []
        if name == f"{OURS}, search":
            reached = multiple.median <= _MOST_PRODUCTS if settings.size == "full" else None
            bar = f"at most {_MOST_PRODUCTS} times"
            verdicts = [Verdict(f"search, {size}", bar, f"{multiple.median:.3g} times", reached)]
        section.verdicts += verdicts
        section.rows.append(
            (
                name,
                seconds_text(timings.median(name)),
                f"{multiple.median:.2f} ({multiple.lowest:.2f}-{multiple.highest:.2f})",
                f"{timings.ratio(name, by_mm).median:.2f}",
                str(timings.num_rounds),
                "; ".join(verdict.bar for verdict in verdicts) or "-",
                reached_text(verdicts),
            )
        )
    section.notes = [
        f"The fastest product on this processor is that of {chosen_product(384)}. "
        "The product runs in blocks of 512 x 4,096 and keeps nothing.",
        *notes,
    ]
    return section
