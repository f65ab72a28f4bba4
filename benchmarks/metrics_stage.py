"""The metrics of given hits: no embeddings, no search."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sentence_transformers.sentence_transformer import evaluation as st

from st_eval_callbacks import evaluators as ours
from st_eval_callbacks.evaluators.hits import measure
from st_eval_callbacks.kernels.hits import Hits
from st_eval_callbacks.scorers import SearchResult

from .compare import PEER, Bars, Case, Row, Settings, compare
from .report import Section
from .stubs import generator, integers, names

_ACCURACY = (1, 3, 5, 10)
_PRECISION = (1, 3, 5, 10, 100)
_MRR = (10,)
_NDCG = (10, 100, 1000)
_MAP = (100, 1000)
_NUM_RELEVANT = 5
_NO_RANX = "ranx is not installed, or compiles for minutes in a quick run: its line is left out."


def build(num_queries: int, num_hits: int, with_ranx: bool = False) -> Case:
    """The same ranking in the form that each library takes.

    Args:
        num_queries: Queries.
        num_hits: Hits of each query.
        with_ranx: Whether ranx takes part, if it is there. Its first call compiles.
    """
    # A power of two, which odd steps walk through without a repetition: most documents are relevant to no query.
    num_documents = 1 << max(100 * num_queries, 4 * num_hits).bit_length()
    query_ids, document_ids = names("q", num_queries), names("d", num_documents)
    first = integers(num_documents, num_queries, seed=1)[:, None]
    step = 2 * integers(num_documents // 2, num_queries, seed=2)[:, None] + 1
    order = (first + step * torch.arange(num_hits)) % num_documents
    # Relevant documents are more often in front; some stand behind the last hit.
    places = torch.rand(num_queries, _NUM_RELEVANT, generator=generator(3)).square().mul(2 * num_hits).long()
    relevant = {
        query: {document_ids[place] for place in row}
        for query, row in zip(query_ids, ((first + step * places) % num_documents).tolist(), strict=True)
    }
    scores = (1 - torch.arange(num_hits) / num_hits).expand(num_queries, -1).contiguous()
    hits = Hits(scores, order)

    arguments: dict[str, Any] = {
        "queries": dict.fromkeys(query_ids, "text"),
        "corpus": dict.fromkeys(document_ids, "text"),
        "relevant_docs": relevant,
        "accuracy_at_k": _ACCURACY,
        "precision_recall_at_k": _PRECISION,
        "mrr_at_k": _MRR,
        "ndcg_at_k": _NDCG,
        "map_at_k": _MAP,
    }
    our_evaluator = ours.InformationRetrievalEvaluator(**arguments)
    st_evaluator = st.InformationRetrievalEvaluator(**arguments)
    st_hits = [
        [{"corpus_id": document_ids[place], "score": score} for place, score in zip(*row, strict=True)]
        for row in zip(order.tolist(), scores.tolist(), strict=True)
    ]
    result = SearchResult(hits, num_nonfinite=0, num_tied=None, watched_scores=None)

    def by_ours() -> dict[str, float]:
        values = measure(hits, result, our_evaluator.data.judged, our_evaluator.wanted(), our_evaluator.conventions)
        return {f"{name}@{cutoff}": float(value.mean()) for (name, cutoff), value in values.items()}

    def by_st() -> dict[str, float]:
        values = st_evaluator.compute_metrics(st_hits)
        return {f"{name.removesuffix('@k')}@{k}": value for name, of_k in values.items() for k, value in of_k.items()}

    peers = {PEER: by_st}
    notes = []
    try:
        peers["pytrec_eval"] = _by_pytrec_eval(relevant, query_ids, document_ids, hits)
    except ImportError:
        notes.append("pytrec_eval is not installed: its line is left out.")
    try:
        if not with_ranx:
            raise ImportError
        peers["ranx"] = _by_ranx(relevant, query_ids, document_ids, hits)
    except ImportError:
        notes.append(_NO_RANX)
    return Case(
        size=f"{num_queries:,} queries x {num_hits:,} hits",
        ours=by_ours,
        peers=peers,
        notes=notes if num_hits > 10 else [],
    )


def _as_dicts(query_ids: list[str], document_ids: list[str], hits: Hits) -> dict[str, dict[str, float]]:
    return {
        query: dict(zip([document_ids[place] for place in positions], scores, strict=True))
        for query, positions, scores in zip(query_ids, hits.positions.tolist(), hits.scores.tolist(), strict=True)
    }


def _by_pytrec_eval(relevant: dict[str, set[str]], query_ids: list[str], document_ids: list[str], hits: Hits) -> Any:
    """Its measures of the same definition; MAP@k and MRR@k of trec_eval divide or cut off in other ways."""
    import pytrec_eval

    judged = {query: dict.fromkeys(found, 1) for query, found in relevant.items()}
    ranking = _as_dicts(query_ids, document_ids, hits)
    named = {f"P_{k}": f"precision@{k}" for k in _PRECISION}
    named |= {f"recall_{k}": f"recall@{k}" for k in _PRECISION}
    named |= {f"ndcg_cut_{k}": f"ndcg@{k}" for k in _NDCG}
    named |= {f"success_{k}": f"accuracy@{k}" for k in _ACCURACY}
    others = {"map_cut.100,1000", "recip_rank"}

    def run() -> dict[str, float]:
        cut = {
            f"P.{','.join(map(str, _PRECISION))}",
            f"recall.{','.join(map(str, _PRECISION))}",
            f"ndcg_cut.{','.join(map(str, _NDCG))}",
            f"success.{','.join(map(str, _ACCURACY))}",
        }
        values = pytrec_eval.RelevanceEvaluator(judged, cut | others).evaluate(ranking)
        return {key: float(np.mean([one[name] for one in values.values()])) for name, key in named.items()}

    return run


def _by_ranx(relevant: dict[str, set[str]], query_ids: list[str], document_ids: list[str], hits: Hits) -> Any:
    import ranx

    judged = ranx.Qrels({query: dict.fromkeys(found, 1) for query, found in relevant.items()})
    ranking = ranx.Run(_as_dicts(query_ids, document_ids, hits))
    named = {f"precision@{k}": f"precision@{k}" for k in _PRECISION}
    named |= {f"recall@{k}": f"recall@{k}" for k in _PRECISION}
    named |= {f"ndcg@{k}": f"ndcg@{k}" for k in _NDCG}
    named |= {f"mrr@{k}": f"mrr@{k}" for k in _MRR}
    named |= {f"hit_rate@{k}": f"accuracy@{k}" for k in _ACCURACY}
    wanted = [*named, *(f"map@{k}" for k in _MAP)]

    def run() -> dict[str, float]:
        values = ranx.evaluate(judged, ranking, wanted)
        return {key: float(values[name]) for name, key in named.items()}

    return run


ROWS = (
    Row(
        "metric stage",
        build,
        full={"num_queries": 10_000, "num_hits": 1_000, "with_ranx": True},
        quick={"num_queries": 300, "num_hits": 1_000},
        smallest={"num_queries": 5, "num_hits": 10},
        bars=Bars(100),
    ),
)


def run(settings: Settings) -> list[Section]:
    """The table."""
    return [compare("Metric stage: nDCG, MAP, MRR, precision, recall and accuracy of given hits", ROWS, settings)]
