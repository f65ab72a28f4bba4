"""Measure names as values."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from st_eval_callbacks.kernels.formulas import MEASURES
from st_eval_callbacks.kernels.ranking import ranking_metrics
from st_eval_callbacks.measures import ALIASES, Measure


@st.composite
def measures(draw):
    name = draw(st.sampled_from(list(MEASURES)))
    cutoffs = {"required": st.integers(1, 10**6), "optional": st.none() | st.integers(1, 10**6), "never": st.none()}
    return Measure(name, draw(cutoffs[MEASURES[name].cutoff]))


@given(measures())
def test_a_measure_reads_back_from_its_text(measure):
    again = Measure.parse(str(measure))
    assert again == measure
    assert hash(again) == hash(measure)
    assert f"{again}" == str(measure)


@given(measures())
def test_a_measure_survives_copying_and_pickling(measure):
    for again in (copy.deepcopy(measure), pickle.loads(pickle.dumps(measure))):
        assert again == measure
        assert type(again) is Measure


@given(st.lists(measures()))
def test_measures_sort_by_name_then_cutoff_with_the_whole_list_last(items):
    ordered = sorted(items)
    assert ordered == sorted(items, key=lambda item: (item.name, item.cutoff is None, item.cutoff or 0))
    for first, second in zip(ordered, ordered[1:], strict=False):
        assert first <= second
        assert second >= first
        assert (first < second) == (second > first) == (first != second)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("ndcg@10", "ndcg@10"),
        ("nDCG@10", "ndcg@10"),
        (" map@100 ", "map@100"),
        ("recall@5", "recall@5"),
        ("r_cap@10", "r_cap@10"),
        ("mrr", "mrr"),
        ("MRR@10", "mrr@10"),
        ("success@1", "accuracy@1"),
        ("accuracy@1", "accuracy@1"),
        ("hit_rate@3", "accuracy@3"),
        ("P@10", "precision@10"),
        ("R@10", "recall@10"),
        ("RR@10", "mrr@10"),
        ("AP@100", "map@100"),
        ("Rprec", "rprec"),
        ("r_precision", "rprec"),
        ("ndcg_exp@5", "ndcg_exp@5"),
    ],
)
def test_parse_prints_back_the_canonical_form(text, canonical):
    assert str(Measure.parse(text)) == canonical


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("ndgc@10", ["'ndgc@10'", "Did you mean 'ndcg@10'", "accuracy, precision@k, recall"]),
        ("recal", ["'recal'", "Did you mean 'recall'"]),
        ("sucess@1", ["'sucess@1'", "Did you mean 'success@1'"]),
        ("zzzz", ["'zzzz'", "Measures are accuracy"]),
        ("", ["''", "Measures are accuracy"]),
        ("precision", ["'precision'", "needs a cutoff"]),
        ("rprec@10", ["'rprec@10'", "takes no cutoff"]),
        ("ndcg@", ["'ndcg@'", "at least 1"]),
        ("ndcg@0", ["'ndcg@0'", "at least 1"]),
        ("ndcg@-1", ["'ndcg@-1'", "at least 1"]),
        ("ndcg@1.5", ["'ndcg@1.5'", "at least 1"]),
        ("ndcg@1@2", ["'ndcg@1@2'", "at least 1"]),
        ("ndcg@\u0661", ["at least 1"]),
    ],
)
def test_a_text_that_is_no_measure_is_refused_with_what_is_allowed(text, messages):
    with pytest.raises(ValueError, match=r".") as caught:
        Measure.parse(text)
    for message in messages:
        assert message in str(caught.value)


def test_no_suggestion_is_made_for_a_name_like_no_other():
    with pytest.raises(ValueError, match="Unknown measure") as caught:
        Measure.parse("zzzz")
    assert "Did you mean" not in str(caught.value)


def test_an_invalid_measure_can_not_be_made():
    for arguments in (("ndgc", 10), ("success", 1), ("ndcg", 0), ("precision",), ("rprec", 5)):
        with pytest.raises(ValueError, match=r"measure|cutoff"):
            Measure(*arguments)


def test_measures_are_frozen():
    with pytest.raises(AttributeError):
        Measure("ndcg", 10).cutoff = 5


def test_measures_go_into_the_kernels_and_their_results_are_found_by_them():
    wanted = [Measure.parse("ndcg@10"), Measure.parse("mrr")]
    values = ranking_metrics(torch.tensor([[0.0, 1.0]]), torch.tensor([1]), wanted)
    assert values[wanted[1]].item() == values["mrr", None].item() == 0.5


def test_aliases_lead_to_known_names_and_hide_none():
    assert set(ALIASES.values()) <= set(MEASURES)
    assert not set(ALIASES) & set(MEASURES)


def test_measures_do_not_compare_with_other_things():
    with pytest.raises(TypeError):
        _ = Measure("ndcg", 10) < "ndcg@10"
