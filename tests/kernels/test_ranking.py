"""Ranking measures against sentence-transformers, pytrec_eval and their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import pytrec_eval
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

from st_eval_callbacks.kernels.formulas import MEASURES
from st_eval_callbacks.kernels.ranking import ranking_metrics, relevance_of

CUTOFFS = [1, 2, 3, 5, 20]
BINARY = [(name, k) for name in ("accuracy", "precision", "recall", "mrr", "ndcg", "map") for k in CUTOFFS]


@st.composite
def judged_rankings(draw, max_gain=3):
    """Gains of ranked documents, and gains of relevant documents that were not retrieved, for some queries."""
    depth = draw(st.integers(1, 8))
    gains = st.lists(st.integers(0, max_gain), min_size=depth, max_size=depth)
    absent = st.lists(st.integers(1, max_gain), max_size=3)
    return draw(st.lists(st.tuples(gains, absent), min_size=1, max_size=6))


def kernel_inputs(rankings, threshold=1):
    relevance = torch.tensor([gains for gains, _ in rankings], dtype=torch.float64)
    judged = [sorted((gain for gain in gains + absent if gain > 0), reverse=True) for gains, absent in rankings]
    width = max(map(len, judged)) + 1
    ideal = torch.tensor([gains + [0] * (width - len(gains)) for gains in judged], dtype=torch.float64)
    num_relevant = torch.tensor([sum(gain >= threshold for gain in gains) for gains in judged])
    return relevance, num_relevant, ideal


@settings(deadline=None)
@given(judged_rankings(max_gain=1))
def test_values_are_those_of_sentence_transformers(rankings):
    rankings = [(gains, absent) for gains, absent in rankings if any(gains) or absent] or [([1], [])]
    relevance, num_relevant, _ = kernel_inputs(rankings)
    values = ranking_metrics(relevance, num_relevant, BINARY)

    relevant_docs = {
        f"q{q}": {f"d{i}" for i, gain in enumerate(gains) if gain} | {f"x{i}" for i in range(len(absent))}
        for q, (gains, absent) in enumerate(rankings)
    }
    evaluator = InformationRetrievalEvaluator(
        dict.fromkeys(relevant_docs, "text"),
        {"d0": "text"},
        relevant_docs,
        accuracy_at_k=CUTOFFS,
        precision_recall_at_k=CUTOFFS,
        mrr_at_k=CUTOFFS,
        ndcg_at_k=CUTOFFS,
        map_at_k=CUTOFFS,
    )
    hits = [[{"corpus_id": f"d{i}", "score": -float(i)} for i in range(len(gains))] for gains, _ in rankings]
    expected = evaluator.compute_metrics(hits)
    for (name, k), value in values.items():
        assert value.mean().item() == pytest.approx(float(expected[f"{name}@k"][k]), abs=1e-12), (name, k)


@settings(deadline=None)
@given(judged_rankings(), st.integers(1, 3))
def test_values_are_those_of_trec_eval(rankings, threshold):
    rankings = [one for one in rankings if max(one[0] + one[1]) >= threshold] or [([3], [])]
    relevance, num_relevant, ideal = kernel_inputs(rankings, threshold)
    names = {
        ("ndcg", None): "ndcg",
        ("map", None): "map",
        ("mrr", None): "recip_rank",
        ("rprec", None): "Rprec",
        ("ndcg", 2): "ndcg_cut_2",
        ("precision", 5): "P_5",
        ("recall", 2): "recall_2",
        ("accuracy", 2): "success_2",
    }
    values = ranking_metrics(
        relevance, num_relevant, list(names), ideal_gains=ideal, relevance_threshold=float(threshold)
    )
    run = {f"q{q}": {f"d{i}": -float(i) for i in range(len(gains))} for q, (gains, _) in enumerate(rankings)}
    qrels = {
        f"q{q}": {f"d{i}": g for i, g in enumerate(gains)} | {f"x{i}": g for i, g in enumerate(absent)}
        for q, (gains, absent) in enumerate(rankings)
    }
    wanted = {"ndcg", "map", "recip_rank", "Rprec", "ndcg_cut.2", "P.5", "recall.2", "success.2"}
    expected = pytrec_eval.RelevanceEvaluator(qrels, wanted, relevance_level=threshold).evaluate(run)
    for key, name in names.items():
        for q, value in enumerate(values[key].tolist()):
            assert value == pytest.approx(expected[f"q{q}"][name], abs=1e-12), (key, q)


def by_definition(name, cutoff, gains, absent):
    """One measure of one query with at least one relevant document, from its definition, for one list of gains."""
    num_relevant = sum(gain > 0 for gain in gains + absent)
    k = len(gains) if cutoff is None else cutoff
    bound = num_relevant if cutoff is None else min(cutoff, num_relevant)
    top = gains[:k]
    hits = sum(gain > 0 for gain in top)
    places = [place for place, gain in enumerate(top, start=1) if gain > 0]

    def dcg(values):
        return sum(value / np.log2(place + 1) for place, value in enumerate(values, start=1))

    def exponential(values):
        return [2.0**value - 1 for value in values]

    ideal = sorted(gains + absent, reverse=True)[:cutoff]
    return {
        "accuracy": lambda: float(hits > 0),
        "precision": lambda: hits / k,
        "recall": lambda: hits / num_relevant,
        "r_cap": lambda: hits / bound,
        "mrr": lambda: 1 / places[0] if places else 0.0,
        "map": lambda: sum(i / place for i, place in enumerate(places, start=1)) / bound,
        "ndcg": lambda: dcg(top) / dcg(ideal),
        "ndcg_exp": lambda: dcg(exponential(top)) / dcg(exponential(ideal)),
        "rprec": lambda: sum(gain > 0 for gain in gains[:num_relevant]) / num_relevant,
    }[name]()


ALL = [
    (name, cutoff)
    for name, kind in MEASURES.items()
    if not kind.needs_judged
    for cutoff in (None, 1, 2, 5, 30)
    if (kind.cutoff != "required" or cutoff is not None) and (kind.cutoff != "never" or cutoff is None)
]


@settings(deadline=None)
@given(judged_rankings())
def test_every_measure_follows_its_definition(rankings):
    relevance, num_relevant, ideal = kernel_inputs(rankings)
    values = ranking_metrics(relevance, num_relevant, ALL, ideal_gains=ideal)
    for (name, cutoff), value in values.items():
        assert value.dtype == torch.float64
        for q, (gains, absent) in enumerate(rankings):
            if num_relevant[q] > 0:
                assert value[q].item() == pytest.approx(by_definition(name, cutoff, gains, absent), abs=1e-12)


def test_without_relevant_documents_measures_that_divide_by_their_number_are_nan():
    values = ranking_metrics(torch.zeros(1, 3), torch.tensor([0]), ALL)
    for (name, _), value in values.items():
        assert value.isnan().item() == (name not in ("accuracy", "precision", "mrr"))
        assert value.isnan().item() or value.item() == 0


@pytest.mark.parametrize(
    ("relevance", "num_relevant", "measure", "expected"),
    [
        pytest.param([1, 0], 1, ("precision", 10), 0.1, id="precision divides by k beyond the corpus"),
        pytest.param([1, 0], 1, ("ndcg", 10), 1.0, id="ndcg of a corpus below the cutoff"),
        pytest.param([1, 1, 1, 1, 1], 10, ("map", 5), 1.0, id="map divides by the smaller of k and relevant"),
        pytest.param([1, 1, 1, 1, 1], 10, ("map", None), 0.5, id="map of the whole list divides by all relevant"),
        pytest.param([1, 0], 2, ("recall", 10), 0.5, id="a relevant document missing from the corpus counts"),
        pytest.param([1, 0, 1], 5, ("r_cap", 2), 0.5, id="capped recall divides by k"),
        pytest.param([1, 0, 1], 2, ("r_cap", 10), 1.0, id="capped recall divides by the relevant"),
        pytest.param([-1, -2, 1], 1, ("mrr", 10), 1 / 3, id="gains below zero are not relevant"),
    ],
)
def test_small_cases(relevance, num_relevant, measure, expected):
    values = ranking_metrics(torch.tensor([relevance]), torch.tensor([num_relevant]), [measure])
    assert values[measure].item() == pytest.approx(expected, abs=1e-12)


def test_a_document_with_gain_zero_is_not_relevant():
    values = ranking_metrics(
        torch.tensor([[0.0, 3.0]]),
        torch.tensor([1]),
        [("accuracy", 1), ("mrr", 10), ("ndcg", 10)],
        ideal_gains=torch.tensor([[3.0]]),
    )
    assert [round(value.item(), 4) for value in values.values()] == [0, 0.5, 0.6309]


def test_binary_ndcg_ignores_grades():
    graded = ranking_metrics(torch.tensor([[0.0, 3.0, 1.0]]), torch.tensor([2]), [("ndcg", 10)])
    binary = ranking_metrics(torch.tensor([[0.0, 1.0, 1.0]]), torch.tensor([2]), [("ndcg", 10)])
    assert graded["ndcg", 10].item() == binary["ndcg", 10].item()


@pytest.mark.parametrize(("q", "relevance", "num_relevant"), [(0, [1, 0, 0], 1), (1, [0, 1, 0, 1, 0], 2)])
def test_queries_with_lists_of_different_lengths(q, relevance, num_relevant):
    rows = {0: ([0.2, 0.3, 0.5], [0, 0, 1]), 1: ([0.1, 0.3, 0.5, 0.2, 0.7], [0, 1, 0, 1, 0])}
    scores, target = rows[q]
    ranked = [[target[i] for i in np.argsort(scores)[::-1]]]
    value = ranking_metrics(torch.tensor(ranked), torch.tensor([num_relevant]), [("ndcg", 1), ("recall", 1)])
    expected = float(ranked[0][0])
    assert value["ndcg", 1].item() == expected
    assert value["recall", 1].item() == expected / num_relevant


@given(st.data())
def test_relevance_of_finds_the_gain_of_each_hit(data):
    num_queries, num_documents = data.draw(st.integers(1, 4)), 6
    pairs = data.draw(
        st.dictionaries(
            st.tuples(st.integers(0, num_queries - 1), st.integers(-1, num_documents + 2)),
            st.floats(0, 4),
            max_size=12,
        )
    )
    rows = st.permutations(range(num_documents)).map(lambda row: row[:4] + [-1])
    positions = [data.draw(rows) for _ in range(num_queries)]
    query = torch.tensor([q for q, _ in pairs], dtype=torch.int64)
    position = torch.tensor([p for _, p in pairs], dtype=torch.int64)
    gains = torch.tensor(list(pairs.values()), dtype=torch.float64)
    expected = [[pairs.get((q, p), 0.0) if p >= 0 else 0.0 for p in row] for q, row in enumerate(positions)]
    assert relevance_of(torch.tensor(positions), query, position, gains).tolist() == expected
    ones = [[float((q, p) in pairs and p >= 0) for p in row] for q, row in enumerate(positions)]
    assert relevance_of(torch.tensor(positions), query, position).tolist() == ones


def test_no_hits_and_no_queries_are_allowed():
    assert relevance_of(torch.zeros(2, 0, dtype=torch.int64), torch.tensor([0]), torch.tensor([3])).shape == (2, 0)
    values = ranking_metrics(torch.zeros(2, 0), torch.tensor([1, 1]), ALL)
    assert all(value.tolist() == [0, 0] for value in values.values())
    values = ranking_metrics(torch.zeros(0, 5), torch.zeros(0, dtype=torch.int64), ALL)
    assert all(value.shape == (0,) for value in values.values())
    assert ranking_metrics(torch.zeros(1, 5), torch.tensor([1]), []) == {}


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        (("hits", 1), "Unknown ranking measure 'hits'"),
        (("precision", None), "needs a cutoff"),
        (("rprec", 10), "takes no cutoff"),
        (("ndcg", 0), "at least 1"),
        (("ndcg", 2.5), "at least 1"),
        (("ndcg", True), "at least 1"),
    ],
)
def test_a_measure_that_does_not_exist_is_refused(measure, message):
    with pytest.raises(ValueError, match=message):
        ranking_metrics(torch.zeros(1, 2), torch.tensor([1]), [measure])


def test_inputs_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="depth"):
        ranking_metrics(torch.zeros(3), torch.tensor([1]), [])
    with pytest.raises(ValueError, match="num_relevant must have shape"):
        ranking_metrics(torch.zeros(1, 3), torch.tensor([1, 2]), [])
    with pytest.raises(ValueError, match="must not be negative"):
        ranking_metrics(torch.zeros(1, 3), torch.tensor([-1]), [])
    with pytest.raises(ValueError, match="more relevant hits"):
        ranking_metrics(torch.ones(1, 3), torch.tensor([2]), [])
    with pytest.raises(ValueError, match="positions"):
        relevance_of(torch.tensor([1]), torch.tensor([0]), torch.tensor([0]))
    with pytest.raises(ValueError, match="gains"):
        relevance_of(torch.tensor([[1]]), torch.tensor([0]), torch.tensor([0]), torch.ones(2))
