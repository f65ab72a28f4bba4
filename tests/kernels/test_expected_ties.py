"""The mean over orders of ties against an enumeration of all orders."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from st_eval_callbacks.kernels.expected import expected_ranking_metrics
from st_eval_callbacks.kernels.formulas import MEASURES
from st_eval_callbacks.kernels.ranking import ranking_metrics

ALL = [
    (name, cutoff)
    for name, kind in MEASURES.items()
    if not kind.needs_judged
    for cutoff in (None, 1, 2, 3, 4, 30)
    if (kind.cutoff != "required" or cutoff is not None) and (kind.cutoff != "never" or cutoff is None)
]
DOCUMENTS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=6)
ABSENT = st.lists(st.integers(1, 3), max_size=2)


def judged(documents, absent, threshold):
    gains = sorted((gain for gain in [g for _, g in documents] + absent if gain > 0), reverse=True)
    return torch.tensor([sum(g >= threshold for g in gains)]), torch.tensor([[*gains, 0]], dtype=torch.float64)


def mean_over_orders(documents, depth, num_relevant, ideal, threshold):
    """Every order of all documents that the scores allow, cut at the depth."""
    orders = {tuple(sorted(order, key=lambda i: -documents[i][0])) for order in permutations(range(len(documents)))}
    rows = torch.tensor([[float(documents[i][1]) for i in order[:depth]] for order in sorted(orders)])
    values = ranking_metrics(
        rows,
        num_relevant.expand(len(rows)),
        ALL,
        ideal_gains=None if ideal is None else ideal.expand(len(rows), -1),
        relevance_threshold=threshold,
    )
    return {key: value.mean().item() for key, value in values.items()}


@settings(deadline=None, max_examples=60)
@given(DOCUMENTS, ABSENT, st.integers(1, 6), st.booleans(), st.sampled_from([None, 2.0]))
def test_values_are_the_mean_over_all_orders_also_of_ties_that_cross_the_depth(
    documents, absent, depth, graded, threshold
):
    depth = min(depth, len(documents))
    num_relevant, ideal = judged(documents, absent, threshold or 1)
    ideal = ideal if graded else None
    expected = mean_over_orders(documents, depth, num_relevant, ideal, threshold)

    ranked = sorted(documents, key=lambda document: -document[0])
    last = [gain for score, gain in documents if score == ranked[depth - 1][0]]
    values = expected_ranking_metrics(
        torch.tensor([[float(score) for score, _ in ranked[:depth]]]),
        torch.tensor([[float(gain) for _, gain in ranked[:depth]]]),
        num_relevant,
        ALL,
        boundary_size=torch.tensor([len(last)]),
        boundary_relevant=torch.tensor([sum(gain >= (threshold or 1) for gain in last)]),
        boundary_gain=torch.tensor([float(sum(last))]) if graded else None,
        boundary_exponential_gain=torch.tensor([sum(2.0**gain - 1 for gain in last)]) if graded else None,
        ideal_gains=ideal,
        relevance_threshold=threshold,
    )
    for key, value in values.items():
        assert value.item() == pytest.approx(expected[key], abs=1e-12, nan_ok=True), key


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 1), min_size=5, max_size=5), min_size=1, max_size=5))
def test_values_without_ties_are_those_of_ranking_metrics(rows):
    relevance = torch.tensor(rows, dtype=torch.float64)
    scores = torch.arange(5, 0, -1.0).expand(len(rows), -1)
    num_relevant = relevance.sum(1).long() + 1
    plain = ranking_metrics(relevance, num_relevant, ALL)
    one = torch.ones(len(rows))
    for boundary in ({}, {"boundary_size": one, "boundary_relevant": relevance[:, -1]}):
        expected = expected_ranking_metrics(scores, relevance, num_relevant, ALL, **boundary)
        for key, value in expected.items():
            torch.testing.assert_close(value, plain[key], rtol=0, atol=1e-12, equal_nan=True)


@settings(deadline=None, max_examples=40)
@given(st.lists(DOCUMENTS, min_size=2, max_size=4))
def test_queries_do_not_touch_each_other(queries):
    depth = max(map(len, queries))
    scores = torch.full((len(queries), depth), float("-inf"))
    relevance = torch.zeros(len(queries), depth)
    for q, documents in enumerate(queries):
        ranked = sorted(documents, reverse=True)
        scores[q, : len(ranked)] = torch.tensor([float(score) for score, _ in ranked])
        relevance[q, : len(ranked)] = torch.tensor([float(gain) for _, gain in ranked])
    num_relevant = (relevance > 0).sum(1)
    together = expected_ranking_metrics(scores, relevance, num_relevant, ALL)
    for q in range(len(queries)):
        alone = expected_ranking_metrics(scores[[q]], relevance[[q]], num_relevant[[q]], ALL)
        for key in ALL:
            torch.testing.assert_close(together[key][[q]], alone[key], rtol=0, atol=1e-12, equal_nan=True)


def test_values_do_not_depend_on_which_tied_documents_the_list_shows():
    boundary = {"boundary_size": torch.tensor([5]), "boundary_relevant": torch.tensor([2])}
    scores, num_relevant = torch.tensor([[2.0, 1.0, 1.0, 1.0]]), torch.tensor([3])
    shown = [[1, 1, 1, 0], [1, 0, 0, 0], [1, 0, 0, 1]]
    values = [expected_ranking_metrics(scores, torch.tensor([row]), num_relevant, ALL, **boundary) for row in shown]
    for key in ALL:
        assert values[0][key].item() == values[1][key].item() == values[2][key].item()


@pytest.mark.parametrize("place", range(3))
def test_three_equal_documents_give_the_same_values_wherever_the_relevant_one_stands(place):
    relevance = torch.zeros(1, 3)
    relevance[0, place] = 1
    values = expected_ranking_metrics(
        torch.zeros(1, 3), relevance, torch.tensor([1]), [("mrr", 10), ("map", 100), ("ndcg", 10)]
    )
    assert [round(value.item(), 4) for value in values.values()] == [0.6111, 0.6111, 0.7103]


def test_a_corpus_of_equal_documents_has_the_expected_values_of_a_random_order():
    size, depth, relevant = 200_000, 100, 40
    values = expected_ranking_metrics(
        torch.zeros(1, depth),
        torch.zeros(1, depth),
        torch.tensor([relevant]),
        [("precision", 10), ("accuracy", 100), ("recall", 100)],
        boundary_size=torch.tensor([size]),
        boundary_relevant=torch.tensor([relevant]),
    )
    none = np.prod((size - relevant - np.arange(depth)) / (size - np.arange(depth)))
    assert values["precision", 10].item() == pytest.approx(relevant / size, rel=1e-12)
    assert values["accuracy", 100].item() == pytest.approx(1 - none, abs=1e-12)
    assert values["recall", 100].item() == pytest.approx(depth / size, rel=1e-12)


def test_places_without_a_document_are_not_tied_documents():
    scores = torch.tensor([[0.5, 0.5, float("-inf"), float("-inf")]])
    relevance = torch.tensor([[0.0, 1.0, 0.0, 0.0]])
    values = expected_ranking_metrics(
        scores,
        relevance,
        torch.tensor([1]),
        [("mrr", 10), ("recall", 10)],
        boundary_size=torch.tensor([9]),
        boundary_relevant=torch.tensor([3]),
    )
    assert values["mrr", 10].item() == 0.75
    assert values["recall", 10].item() == 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_non_finite_score_makes_its_query_nan_and_no_other(bad):
    scores = torch.tensor([[bad, 0.5], [1.0, 0.5]])
    values = expected_ranking_metrics(scores, torch.tensor([[1.0, 0.0]] * 2), torch.tensor([1, 1]), ALL)
    for value in values.values():
        assert value.isnan().tolist() == [True, False]


def test_no_hits_and_no_queries_are_allowed():
    values = expected_ranking_metrics(torch.zeros(2, 0), torch.zeros(2, 0), torch.tensor([1, 1]), ALL)
    assert all(value.tolist() == [0, 0] for value in values.values())
    values = expected_ranking_metrics(torch.zeros(0, 3), torch.zeros(0, 3), torch.zeros(0), ALL)
    assert all(value.shape == (0,) for value in values.values())


def test_inputs_that_do_not_fit_are_refused():
    scores, relevance, one = torch.zeros(1, 2), torch.ones(1, 2), torch.tensor([1])
    two = one * 2
    with pytest.raises(ValueError, match="scores and relevance"):
        expected_ranking_metrics(scores, torch.ones(1, 3), two, [])
    with pytest.raises(ValueError, match="given together"):
        expected_ranking_metrics(scores, relevance, two, [], boundary_size=two)
    with pytest.raises(ValueError, match="hits included"):
        expected_ranking_metrics(scores, relevance, two, [], boundary_size=one, boundary_relevant=one)
    with pytest.raises(ValueError, match="Graded ndcg"):
        expected_ranking_metrics(
            scores,
            relevance,
            two,
            [("ndcg", 10)],
            boundary_size=two,
            boundary_relevant=two,
            ideal_gains=torch.ones(1, 2),
        )
