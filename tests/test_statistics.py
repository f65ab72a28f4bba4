"""Intervals and paired tests against cases whose answers are known."""

from __future__ import annotations

import math
import tracemalloc
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from st_eval_callbacks.report.statistics import mean_interval, paired_test

VALUES = st.lists(st.integers(0, 8).map(lambda i: i / 8), min_size=1, max_size=9)


def by_id(values: list[float]) -> dict[str, float]:
    return {str(i): value for i, value in enumerate(values)}


def enumerated(differences: list[float]) -> float:
    """p from all assignments of signs, written down plainly; eighths, so that sums are exact."""
    sums = [sum(s * d for s, d in zip(signs, differences, strict=True)) for signs in product((1, -1), repeat=9)]
    seen = abs(sum(differences))
    return sum(abs(one) >= seen for one in sums) / len(sums)


# -- intervals of a mean ----------------------------------------------------------------------------------------------


def test_the_interval_of_many_normal_values_is_the_analytic_one() -> None:
    values = np.random.default_rng(1).normal(0.6, 0.2, 2000)
    found = mean_interval(values)
    half = 1.96 * values.std(ddof=1) / math.sqrt(2000)
    assert found.method == "BCa"
    assert found.mean == values.mean()
    assert found.low == pytest.approx(values.mean() - half, abs=0.0006)
    assert found.high == pytest.approx(values.mean() + half, abs=0.0006)


def test_of_a_hundred_samples_about_ninety_five_intervals_hold_the_true_mean() -> None:
    rng = np.random.default_rng(2)
    found = [mean_interval(rng.binomial(1, 0.7, 60).astype(float), num_resamples=999) for _ in range(100)]
    assert 90 <= sum(one.low <= 0.7 <= one.high for one in found) <= 99


@pytest.mark.parametrize("values", [[0.25], [0.5] * 7, [1.0, math.nan, 1.0]])
def test_equal_values_have_an_interval_without_width(values: list[float]) -> None:
    found = mean_interval(values)
    assert found.low == found.mean == found.high == values[0]
    assert found.method == "none"


def test_items_without_a_value_are_left_out_and_counted() -> None:
    values = [0.1, 0.9, 0.4, 0.8, 0.3]
    with_nan = mean_interval([math.nan, *values[:2], math.nan, *values[2:]])
    alone = mean_interval(values)
    assert (with_nan.mean, with_nan.low, with_nan.high) == (alone.mean, alone.low, alone.high)
    assert (with_nan.num_items, with_nan.num_left_out, alone.num_left_out) == (5, 2, 0)


def test_without_any_value_there_is_no_mean() -> None:
    found = mean_interval([math.nan, math.nan])
    assert math.isnan(found.mean)
    assert math.isnan(found.low)
    assert (found.num_items, found.num_left_out) == (0, 2)


def test_where_bca_is_undefined_the_percentiles_are_taken() -> None:
    # With few draws, none of them is below the mean: the correction for bias is then infinite.
    found = [mean_interval([0.0] * 199 + [1.0], num_resamples=2, seed=seed) for seed in range(20)]
    assert {"BCa", "percentile"} == {one.method for one in found}
    assert all(math.isfinite(one.low) and one.low <= one.high for one in found)


def test_equal_seeds_give_equal_intervals_and_a_higher_confidence_a_wider_one() -> None:
    values = list(np.random.default_rng(3).random(50))
    assert mean_interval(values, seed=4) == mean_interval(values, seed=4)
    wide, narrow = mean_interval(values, confidence=0.99), mean_interval(values, confidence=0.5)
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize("given", [{"confidence": 0.0}, {"confidence": 95.0}, {"num_resamples": 0}])
def test_settings_that_make_no_sense_are_refused(given: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(given))):
        mean_interval([0.1, 0.2], **given)


# -- the paired test --------------------------------------------------------------------------------------------------


@given(VALUES, st.data())
@settings(max_examples=60, deadline=None)
def test_swapped_runs_flip_the_sign_and_leave_p(left: list[float], data: st.DataObject) -> None:
    right = data.draw(st.lists(st.sampled_from(left), min_size=len(left), max_size=len(left)))
    for num_resamples in (99, 600):
        one = paired_test(by_id(left), by_id(right), num_resamples=num_resamples)
        other = paired_test(by_id(right), by_id(left), num_resamples=num_resamples)
        assert other.difference == -one.difference
        assert other.p_value == one.p_value


@given(VALUES)
@settings(max_examples=20, deadline=None)
def test_equal_runs_have_p_1_and_an_interval_of_nothing(values: list[float]) -> None:
    found = paired_test(by_id(values), by_id(values))
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)


@given(st.lists(st.integers(-8, 8).map(lambda i: i / 8), min_size=9, max_size=9))
@settings(max_examples=40, deadline=None)
def test_few_items_have_the_p_of_all_assignments_of_signs(differences: list[float]) -> None:
    found = paired_test(by_id([0.0] * 9), by_id(differences), num_resamples=512)
    assert found.is_exact
    assert found.p_value == enumerated(differences)


@pytest.mark.parametrize(
    ("differences", "p_value"), [([0.1], 1.0), ([0.1, 0.2], 0.5), ([0.3] * 5, 2 / 32), ([0.1, 0.1, -0.1], 1.0)]
)
def test_small_cases_by_hand(differences: list[float], p_value: float) -> None:
    assert paired_test(by_id([0.0] * len(differences)), by_id(differences)).p_value == p_value


@pytest.mark.parametrize(("shift", "noise"), [(0.0, 0.03), (0.02, 0.03), (0.05, 0.006)])
def test_many_items_have_the_p_of_scipys_test(shift: float, noise: float) -> None:
    each = np.random.default_rng(5).normal(shift, 0.3, 300)
    found = paired_test(by_id([0.0] * 300), by_id(list(each)))
    scipys = stats.permutation_test(
        (each,), np.mean, permutation_type="samples", vectorized=True, batch=500, rng=np.random.default_rng(6)
    )
    assert not found.is_exact
    assert found.p_value == pytest.approx(scipys.pvalue, abs=noise)


def test_no_number_of_draws_gives_p_0() -> None:
    assert paired_test(by_id([0.0] * 40), by_id([1.0] * 40), num_resamples=99).p_value == 0.01


def test_items_are_matched_by_their_ids_whatever_their_order() -> None:
    left = {"a": 0.1, "b": 0.2, "c": 0.3, "only left": 9.0, "no value": math.nan}
    right = {"c": 0.5, "no value": 0.1, "a": 0.3, "b": 0.4, "only right": 7.0, "also right": 7.0}
    found = paired_test(left, right)
    assert found.difference == pytest.approx(0.2)
    assert (found.num_items, found.num_left_only, found.num_right_only, found.num_left_out) == (3, 1, 2, 1)


def test_runs_without_a_common_item_have_no_difference() -> None:
    found = paired_test({"a": 0.1}, {"b": 0.2})
    assert math.isnan(found.difference)
    assert math.isnan(found.p_value)
    assert (found.num_items, found.num_left_only, found.num_right_only) == (0, 1, 1)


def test_ten_thousand_items_take_no_gigabyte() -> None:
    values = list(np.random.default_rng(7).random(10_000))
    tracemalloc.start()
    try:
        paired_test(by_id(values), by_id(values[::-1]), num_resamples=300)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100e6
