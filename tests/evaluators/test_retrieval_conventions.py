"""Retrieval with grades, thresholds, unjudged documents, fewer bits, samples, and files for other tools."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
import pytest
import pytrec_eval
import torch
from sentence_transformers.util import quantize_embeddings
from support.models import StubModel, tiny_model, tiny_sparse_model

from st_eval_callbacks.encoding import session
from st_eval_callbacks.evaluators import InformationRetrievalEvaluator

NUM_QUERIES, NUM_DOCUMENTS, WIDTH = 12, 60, 8
GENERATOR = np.random.default_rng(3)
QUERIES = {f"q{i}": f"q{i}" for i in range(NUM_QUERIES)}
CORPUS = {f"d{i}": f"d{i}" for i in range(NUM_DOCUMENTS)}
# Gains of 0 to 3; a few are of documents that are not in the corpus, d60 and above.
QRELS = {
    query: {
        f"d{place}": int(gain)
        for place, gain in zip(
            GENERATOR.choice(NUM_DOCUMENTS + 3, 14, replace=False), GENERATOR.integers(0, 4, 14), strict=True
        )
    }
    for query in QUERIES
}
CUTOFFS: dict[str, Any] = {
    "accuracy_at_k": [5],
    "precision_recall_at_k": [5, 20],
    "mrr_at_k": [10],
    "ndcg_at_k": [5, 20],
    "map_at_k": [100],
}
PEER = {
    "precision@5": "P_5",
    "recall@20": "recall_20",
    "ndcg@5": "ndcg_cut_5",
    "ndcg@20": "ndcg_cut_20",
    "map": "map",
    "rprec": "Rprec",
    "bpref": "bpref",
    "mrr": "recip_rank",
    "accuracy@5": "success_5",
}


def vectors() -> dict[str, list[float]]:
    rows = torch.randn(NUM_QUERIES + NUM_DOCUMENTS, WIDTH, generator=torch.Generator().manual_seed(4))
    return dict(zip([*QUERIES, *CORPUS], rows.tolist(), strict=True))


def model(similarity: str = "dot") -> StubModel:
    return StubModel(vectors(), similarity)


def retrieval(**settings: Any) -> InformationRetrievalEvaluator:
    data = {"queries": QUERIES, "corpus": CORPUS, "relevant_docs": QRELS, "name": "r"}
    return InformationRetrievalEvaluator(**{**data, **CUTOFFS, **settings})


def ranked() -> dict[str, dict[str, float]]:
    """Scores of all documents for each query."""
    rows = {name: torch.tensor(row) for name, row in vectors().items()}
    return {query: {doc: float(rows[query] @ rows[doc]) for doc in CORPUS} for query in QUERIES}


def per_query(evaluator: InformationRetrievalEvaluator, key: str) -> dict[str, float]:
    assert evaluator.per_query is not None
    return dict(zip(evaluator.per_query.ids, evaluator.per_query.values[f"r_dot_{key}"], strict=True))


@pytest.mark.parametrize("threshold", [None, 2, 3])
@pytest.mark.parametrize("ignore_unjudged", [False, True])
def test_every_measure_of_every_query_is_that_of_trec_eval(threshold: int | None, ignore_unjudged: bool) -> None:
    evaluator = retrieval(
        relevance_threshold=threshold,
        ignore_unjudged=ignore_unjudged,
        measures=["map", "rprec", "bpref", "mrr"],
        keep_per_query=True,
    )
    evaluator(model())
    measures = {"map", "Rprec", "bpref", "recip_rank", "P.5", "recall.20", "ndcg_cut.5,20", "success.5"}
    oracle = pytrec_eval.RelevanceEvaluator(
        QRELS, measures, relevance_level=threshold or 1, judged_docs_only_flag=ignore_unjudged
    ).evaluate(ranked())
    for key, name in PEER.items():
        # trec_eval keeps bpref in float32.
        for query, value in per_query(evaluator, key).items():
            assert value == pytest.approx(oracle[query][name], abs=1e-6 if key == "bpref" else 1e-9), (key, query)


def test_a_query_without_a_document_at_the_threshold_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    qrels = {**QRELS, "q0": {"d1": 1}}
    evaluator = retrieval(relevant_docs=qrels, relevance_threshold=2)
    assert evaluator.queries_ids == list(QUERIES)[1:]
    assert "1 of 12 queries have no relevant document" in caplog.text


def test_exponential_gain_is_asked_for_by_name() -> None:
    plain = retrieval(measures=["ndcg_exp@20"])(model())
    exponential = retrieval(gain="exponential")(model())
    assert exponential["r_dot_ndcg@20"] == plain["r_dot_ndcg_exp@20"] != plain["r_dot_ndcg@20"]
    assert exponential["r_dot_map@100"] == plain["r_dot_map@100"]


def test_judged_and_hole_tell_how_far_judgements_reach() -> None:
    found = retrieval(measures=["judged@10", "hole@10"])(model())
    scores, anywhere = ranked(), {doc for docs in QRELS.values() for doc in docs}
    top = {query: sorted(docs, key=docs.__getitem__, reverse=True)[:10] for query, docs in scores.items()}
    judged = [sum(doc in QRELS[query] for doc in docs) / 10 for query, docs in top.items()]
    holes = [sum(doc not in anywhere for doc in docs) / 10 for docs in top.values()]
    assert found["r_dot_judged@10"] == pytest.approx(np.mean(judged))
    assert found["r_dot_hole@10"] == pytest.approx(np.mean(holes))


def test_a_condensed_list_may_leave_the_querys_own_document_out_too() -> None:
    corpus = {**CORPUS, "q0": "q0"}
    qrels = {**QRELS, "q0": {**QRELS["q0"], "q0": 3}}
    settings: dict[str, Any] = {"corpus": corpus, "relevant_docs": qrels, "ignore_unjudged": True}
    with_own = retrieval(**settings, keep_per_query=True)
    with_own(model())
    without = retrieval(**settings, ignore_identical_ids=True, keep_per_query=True)
    without(model())
    # Without those that nobody judged, 20 places hold all that is judged: only the document itself is missed.
    lost = per_query(with_own, "recall@20")["q0"] - per_query(without, "recall@20")["q0"]
    assert lost == pytest.approx(1 / sum(gain > 0 for gain in qrels["q0"].values()))
    assert per_query(without, "mrr@10")["q1"] == per_query(with_own, "mrr@10")["q1"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gain": "log"}, "'linear' or 'exponential'"),
        ({"relevance_threshold": 0}, "above 0"),
        ({"relevance_threshold": 9}, "none of the 12 queries"),
        ({"ties": "expected", "ignore_unjudged": True}, "cannot be combined"),
        ({"ties": "expected", "measures": ["bpref"]}, "not for bpref"),
        ({"precision": "int4"}, "int8, uint8"),
        ({"write_predictions": "csv"}, "jsonl, trec"),
        ({"max_queries": 0}, "max_queries=0"),
        ({"max_corpus": 2.5}, "max_corpus=2.5: a whole number"),
        ({"relevant_docs": {"q0": {"d1": math.nan}}}, "gain of 'd1' is nan"),
        ({"relevant_docs": {"q0": {"d1": "high"}}}, "gain of 'd1' is 'high'"),
        ({"relevant_docs": {"q0": {"d1": None}}}, "gain of 'd1' is None"),
        ({"relevant_docs": {"q0": {"d1": 2000}}, "gain": "exponential"}, "gain 2000; with exponential gain"),
        ({"relevant_docs": {"q0": {"d1": 2000}}, "measures": ["ndcg_exp@5"]}, "gain 2000; with exponential gain"),
        ({"relevant_docs": {"q0": {"d1": 1e308}}}, "with linear gain at most"),
        ({"num_worst": -1}, "num_worst=-1"),
        ({"measures": ["bprf"]}, "Did you mean 'bpref'"),
    ],
)
def test_what_does_not_exist_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        retrieval(**settings)


@pytest.mark.parametrize("given", ["d1", None, 3])
def test_what_is_no_collection_of_ids_is_refused(given: Any) -> None:
    with pytest.raises(TypeError, match="a single id or none"):
        retrieval(relevant_docs={"q0": given})


def test_large_gains_are_measured_to_the_end() -> None:
    found = retrieval(relevant_docs={"q0": {"d1": 960, "d2": 959}}, gain="exponential")(model())
    assert all(math.isfinite(value) for value in found.values())


@pytest.mark.parametrize("ignore_unjudged", [False, True])
def test_judged_at_more_places_than_documents_is_the_share_of_the_hits(ignore_unjudged: bool, tmp_path: Path) -> None:
    corpus = {doc: CORPUS[doc] for doc in ("d1", "d2", "d3", "d4")}
    qrels = {"q0": {"d1": 1, "d2": 0, "d9": 2}, "q1": {"d3": 1}}
    evaluator = retrieval(
        corpus=corpus,
        relevant_docs=qrels,
        measures=["judged@3", "judged@10"],
        ignore_unjudged=ignore_unjudged,
        write_predictions="trec",
    )
    found = evaluator(model(), str(tmp_path))
    [path] = tmp_path.glob("*.trec")
    rows = [ir_measures.Qrel(q, doc, gain) for q, docs in qrels.items() for doc, gain in docs.items()]
    for cutoff in (3, 10):
        expected = ir_measures.calc_aggregate(
            [ir_measures.Judged @ cutoff], rows, list(ir_measures.read_trec_run(str(path)))
        )
        assert [found[f"r_dot_judged@{cutoff}"]] == pytest.approx(list(expected.values()))


def test_measures_may_be_one_name_or_pairs() -> None:
    assert retrieval(measures="map").wanted() == retrieval(measures=[("map", None)]).wanted()


# -- fewer bits -------------------------------------------------------------------------------------------------------


def quantised_ranking(precision: str, dim: int) -> dict[str, list[str]]:
    """Documents by cosine of embeddings quantised by sentence-transformers, ties in ascending order of ids."""
    rows = torch.tensor(list(vectors().values()))[:, :dim]
    rows = torch.nn.functional.normalize(rows, dim=1).numpy()
    corpus = rows[NUM_QUERIES:]
    ranges = np.stack([corpus.min(axis=0), corpus.max(axis=0)])
    both = quantize_embeddings(rows, precision=precision, ranges=ranges)  # type: ignore[arg-type]
    if precision == "binary":
        both = (both.astype(np.int16) + 128).astype(np.uint8)
    if precision.endswith("binary"):
        both = np.unpackbits(both, axis=1)
    values = torch.nn.functional.normalize(torch.from_numpy(both.astype(np.float64)), dim=1)
    scores = (values[:NUM_QUERIES] @ values[NUM_QUERIES:].T).numpy().round(6)
    ids = list(CORPUS)
    return {
        query: sorted(ids, key=lambda doc: (-scores[row, ids.index(doc)], doc)) for row, query in enumerate(QUERIES)
    }


@pytest.mark.parametrize("precision", ["float32", "int8", "uint8", "binary", "ubinary"])
@pytest.mark.parametrize("settings", [{}, {"truncate_dim": 4}, {"truncate_dims": [8, 4]}, {"corpus_chunk_size": 7}])
def test_hits_are_those_of_quantised_embeddings(precision: str, settings: dict[str, Any]) -> None:
    evaluator = retrieval(precision=precision, measures=["mrr"], keep_per_query=True, **settings)
    evaluator(model("cosine"))
    sizes = evaluator.at_sizes or [evaluator]
    for one in sizes:
        dim = one.truncate_dim or WIDTH
        expected = quantised_ranking(precision, dim)
        assert one.per_query is not None
        values = one.per_query.values[f"{one.name}_cosine_mrr"]
        for query, value in zip(one.per_query.ids, values, strict=True):
            place = next(i for i, doc in enumerate(expected[query]) if QRELS[query].get(doc, 0) > 0)
            assert value == pytest.approx(1 / (place + 1)), (query, dim)


def test_embeddings_that_are_given_are_quantised_as_well() -> None:
    rows = torch.tensor([vectors()[doc] for doc in CORPUS])
    evaluator = retrieval(precision="int8")
    assert evaluator(model("cosine"), corpus_embeddings=rows) == evaluator(model("cosine"))


@pytest.mark.parametrize("precision", [None, "int8"])
@pytest.mark.parametrize("kind", [np.asarray, list, lambda rows: list(rows.numpy()), lambda rows: rows.tolist()])
def test_embeddings_may_be_given_in_any_form(kind: Any, precision: Any) -> None:
    rows = torch.tensor([vectors()[doc] for doc in CORPUS])
    evaluator = retrieval(precision=precision)
    assert evaluator(model("cosine"), corpus_embeddings=kind(rows)) == evaluator(model("cosine"))


@pytest.mark.parametrize("precision", ["float32", "int8", "binary"])
def test_long_vectors_in_half_precision_are_normalised_without_overflow(precision: Any) -> None:
    # Each component fits into float16, the length of some vectors does not.
    large = {name: (torch.tensor(row) * 15000).half().float().tolist() for name, row in vectors().items()}
    assert max(torch.tensor(row).norm() for row in large.values()) > 65504
    each = [StubModel(large, "cosine", dtype) for dtype in (torch.float16, torch.float32)]
    assert retrieval(precision=precision)(each[0]) == retrieval(precision=precision)(each[1])


def test_quantised_retrieval_is_for_dense_models() -> None:
    with pytest.raises(TypeError, match="precision='int8' is for dense"):
        retrieval(precision="int8").metric_names(tiny_sparse_model())


# -- samples ----------------------------------------------------------------------------------------------------------


def test_a_sample_keeps_what_is_relevant_and_is_a_part_of_a_larger_one() -> None:
    small, large = retrieval(max_queries=3, max_corpus=40), retrieval(max_queries=6, max_corpus=50)
    assert len(small.queries) == 3
    assert set(small.queries_ids) < set(large.queries_ids) < set(QUERIES)
    relevant = {doc for query in small.queries_ids for doc, gain in QRELS[query].items() if gain and doc in CORPUS}
    assert relevant <= set(small.corpus_ids)
    assert len(small.corpus_ids) == 40
    assert small.corpus_ids == [doc for doc in CORPUS if doc in small.corpus_ids]
    again = retrieval(max_queries=3, max_corpus=40, queries=dict(reversed(QUERIES.items())))
    assert set(again.queries_ids) == set(small.queries_ids)
    assert set(retrieval(max_queries=3, seed=1).queries_ids) != set(small.queries_ids)


def test_a_sample_smaller_than_what_is_relevant_says_so(caplog: pytest.LogCaptureFixture) -> None:
    evaluator = retrieval(max_corpus=2)
    assert len(evaluator.corpus_ids) > 2
    assert "are relevant to its queries and stay, more than max_corpus=2" in caplog.text


def test_a_sample_beside_the_whole_encodes_nothing_more() -> None:
    encoder = tiny_model()
    texts = [f"cat {word}" for word in "sits runs sleeps eats sings on in under over beside".split()]
    data = {str(i): text for i, text in enumerate(texts)}
    whole = InformationRetrievalEvaluator(data, data, {i: {i} for i in data}, name="all")
    part = InformationRetrievalEvaluator(data, data, {i: {i} for i in data}, name="few", max_queries=3, max_corpus=5)
    with session() as current:
        whole(encoder)
        before = current.num_encoded
        part(encoder)
        assert current.num_encoded == before > 0


# -- files for others -------------------------------------------------------------------------------------------------


def test_a_trec_run_is_read_by_ir_measures_to_the_same_values(tmp_path: Path) -> None:
    evaluator = retrieval(write_predictions=["jsonl", "trec"], measures=["map", "bpref", "judged@10"])
    found = evaluator(model(), str(tmp_path))
    assert len(list(tmp_path.glob("*_predictions_dot.jsonl"))) == 1
    [path] = tmp_path.glob("*.trec")
    assert path.name == "Information-Retrieval_evaluation_r_predictions_dot.trec"
    run = list(ir_measures.read_trec_run(str(path)))
    assert len(run) == NUM_QUERIES * NUM_DOCUMENTS
    qrels = [ir_measures.Qrel(q, doc, gain) for q, docs in QRELS.items() for doc, gain in docs.items()]
    wanted = {
        "ndcg@20": ir_measures.nDCG @ 20,
        "map": ir_measures.AP,
        "bpref": ir_measures.Bpref,
        "judged@10": ir_measures.Judged @ 10,
    }
    values = ir_measures.calc_aggregate(list(wanted.values()), qrels, run)
    for key, measure in wanted.items():
        assert found[f"r_dot_{key}"] == pytest.approx(values[measure], abs=1e-6 if key == "bpref" else 1e-9)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("matplotlib_is_there")
def test_a_trec_run_is_read_by_ranx_to_the_same_values(tmp_path: Path) -> None:
    ranx = pytest.importorskip("ranx")
    found = retrieval(write_predictions="trec")(model(), str(tmp_path))
    [path] = tmp_path.glob("*.trec")
    run = ranx.Run.from_file(str(path), kind="trec")
    qrels = ranx.Qrels({q: {doc: gain for doc, gain in docs.items() if gain} for q, docs in QRELS.items()})
    values = ranx.evaluate(qrels, run, ["ndcg@20", "mrr@10", "precision@5", "recall@20"])
    for name, value in values.items():
        assert found[f"r_dot_{name}"] == pytest.approx(value, abs=1e-9)


def test_ids_that_trec_cannot_hold_are_refused_before_anything_is_encoded() -> None:
    corpus = {**CORPUS, "two words": "d1"}
    with pytest.raises(ValueError, match="'two words' has a blank"):
        retrieval(corpus=corpus, write_predictions="trec")
    retrieval(corpus=corpus, write_predictions=True)


@pytest.mark.parametrize("side", ["queries", "corpus"])
def test_ids_that_read_the_same_are_refused_in_a_run_of_trec(side: str) -> None:
    data = {side: {1: "d1", "1": "d2"}, "relevant_docs": {1: {1}, "1": {1}, "q0": {1, "d0"}}}
    with pytest.raises(ValueError, match="the ids 1 and '1' read the same"):
        retrieval(**data, write_predictions="trec")
    retrieval(**data, write_predictions=True)


def test_ids_of_queries_and_documents_may_be_the_same_in_a_run_of_trec() -> None:
    retrieval(corpus={**CORPUS, "q0": "q0"}, write_predictions="trec")


def test_ids_of_numpy_are_written_as_numbers(tmp_path: Path) -> None:
    corpus = {np.int64(place): f"d{place}" for place in range(3)}
    retrieval(queries={np.int64(7): "q0"}, corpus=corpus, relevant_docs={7: {1}}, write_predictions=True, num_worst=1)(
        model(), str(tmp_path)
    )
    [path] = tmp_path.glob("*_predictions_dot.jsonl")
    [line] = read_lines(path)
    assert line["query_id"] == 7
    assert sorted(hit["corpus_id"] for hit in line["results"]) == [0, 1, 2]
    [path] = tmp_path.glob("*_worst_queries.jsonl")
    _, worst = read_lines(path)
    assert worst["query_id"] == 7
    assert sorted(hit["corpus_id"] for hit in worst["found"]) == [0, 1, 2]


def test_each_size_writes_its_hits(tmp_path: Path) -> None:
    retrieval(write_predictions="trec", truncate_dims=[8, 4])(model(), str(tmp_path))
    stem = "Information-Retrieval_evaluation_r"
    assert {path.name for path in tmp_path.glob("*.trec")} == {
        f"{stem}_8_predictions_dot.trec",
        f"{stem}_4_predictions_dot.trec",
    }


def test_data_of_other_tools_make_an_evaluator(tmp_path: Path) -> None:
    (tmp_path / "qrels").mkdir()
    rows = {"corpus": CORPUS, "queries": QUERIES}
    for name, texts in rows.items():
        lines = [json.dumps({"_id": one, "text": text}) for one, text in texts.items()]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
        (tmp_path / f"{name}.tsv").write_text("".join(f"{one}\t{text}\n" for one, text in texts.items()))
    judged = [(query, doc, gain) for query, docs in QRELS.items() for doc, gain in docs.items()]
    head = "query-id\tcorpus-id\tscore\n"
    (tmp_path / "qrels" / "test.tsv").write_text(head + "".join(f"{q}\t{d}\t{g}\n" for q, d, g in judged))
    (tmp_path / "trec.qrels").write_text("".join(f"{q} 0 {d} {g}\n" for q, d, g in judged))
    expected = retrieval()(model())
    settings = {"name": "r", **CUTOFFS}
    tables = {
        "corpus": [{"_id": one, "text": text} for one, text in CORPUS.items()],
        "queries": [{"_id": one, "text": text} for one, text in QUERIES.items()],
        "qrels": [{"query-id": q, "corpus-id": d, "score": g} for q, d, g in judged],
    }
    made = InformationRetrievalEvaluator
    for evaluator in (
        made.from_beir(tmp_path, **settings),
        made.from_trec(tmp_path / "corpus.tsv", tmp_path / "queries.tsv", tmp_path / "trec.qrels", **settings),
        made.from_datasets(tables, **settings),
    ):
        assert evaluator(model()) == expected


# -- what went wrong --------------------------------------------------------------------------------------------------


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_worst_queries_are_shown_with_what_was_found_and_missed(tmp_path: Path) -> None:
    evaluator = retrieval(num_worst=3, ndcg_at_k=[10], keep_per_query=True)
    first = evaluator(model(), str(tmp_path), 1.0, 5)
    values = per_query(evaluator, "ndcg@10")
    [path] = tmp_path.glob("*_worst_queries.jsonl")
    summary, *worst = read_lines(path)
    assert summary["metric"] == "r_dot_ndcg@10"
    assert summary["mean"] == pytest.approx(first["r_dot_ndcg@10"])
    assert (summary["steps"], summary["mean_before"], summary["num_better"]) == (5, None, 0)
    assert [one["query_id"] for one in worst] == sorted(values, key=lambda query: values[query])[:3]
    scores = ranked()
    for one in worst:
        query = one["query_id"]
        best = sorted(scores[query], key=scores[query].__getitem__, reverse=True)
        assert [hit["corpus_id"] for hit in one["found"]] == best[:5]
        assert [hit["gain"] for hit in one["found"]] == [QRELS[query].get(doc) for doc in best[:5]]
        relevant = {doc for doc, gain in QRELS[query].items() if gain}
        assert one["num_missed"] == len(relevant - set(best[:5]))
        for missed in one["missed"]:
            assert missed["rank"] == (best.index(missed["corpus_id"]) + 1 if missed["corpus_id"] in best else None)

    changed = model()
    changed.vectors["q3"], changed.vectors["q4"] = changed.vectors["q4"], changed.vectors["q3"]
    evaluator(changed, str(tmp_path), 2.0, 10)
    later = per_query(evaluator, "ndcg@10")
    summary, *_ = read_lines(path)
    change = {query: later[query] - values[query] for query in values if later[query] != values[query]}
    assert set(change) <= {"q3", "q4"}
    assert summary["steps_before"] == 5
    assert summary["num_better"] == sum(one > 0 for one in change.values())
    assert summary["most_worse"] == pytest.approx({query: one for query, one in change.items() if one < 0})


def test_what_conventions_leave_out_is_not_missed(tmp_path: Path) -> None:
    corpus = {doc: doc for doc in CORPUS if doc != "d5"}
    qrels = {"q0": {"q0": 3, "d5": 2, "d6": 1, "d7": 2}}
    settings: dict[str, Any] = {
        "corpus": {**corpus, "q0": "q0"},
        "relevant_docs": qrels,
        "ignore_missing_docs": True,
        "ignore_identical_ids": True,
        "relevance_threshold": 2,
        "num_worst": 1,
    }
    retrieval(**settings)(model(), str(tmp_path))
    [path] = tmp_path.glob("*_worst_queries.jsonl")
    _, worst = read_lines(path)
    assert {one["corpus_id"] for one in worst["missed"]} <= {"d7"}
    assert "q0" not in {one["corpus_id"] for one in worst["found"]}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_worst_queries_of_a_broken_model_are_valid_json(
    value: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    broken = {"broken": lambda queries, documents: torch.full((len(queries), len(documents)), value)}
    retrieval(num_worst=2, score_functions=broken)(model(), str(tmp_path))
    [path] = tmp_path.glob("*_worst_queries.jsonl")
    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))
