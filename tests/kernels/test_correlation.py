"""Correlations against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from st_eval_callbacks.kernels.correlation import average_ranks, pearson, spearman

DTYPES = st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64])
PAIRS = st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=2, max_size=30)
REALS = st.lists(st.tuples(st.floats(-100, 100), st.floats(-100, 100)), min_size=3, max_size=30)


@given(st.lists(st.integers(-5, 5), max_size=40), DTYPES)
def test_average_ranks_are_those_of_scipy(values, dtype):
    ranks = average_ranks(torch.tensor(values, dtype=dtype))
    assert ranks.dtype == torch.float64
    assert ranks.tolist() == scipy.stats.rankdata(values).tolist()


@settings(deadline=None)
@given(PAIRS, DTYPES, DTYPES)
def test_correlations_of_tied_values_are_those_of_scipy(pairs, left_dtype, right_dtype):
    left, right = np.array(pairs).T
    assume(len(set(left)) > 1 and len(set(right)) > 1)
    x, y = torch.tensor(left, dtype=left_dtype), torch.tensor(right, dtype=right_dtype)
    assert pearson(x, y).item() == pytest.approx(scipy.stats.pearsonr(left, right).statistic, abs=1e-12)
    assert spearman(x, y).item() == pytest.approx(scipy.stats.spearmanr(left, right).statistic, abs=1e-12)


@settings(deadline=None)
@given(REALS)
def test_correlations_of_real_values_are_those_of_scipy(pairs):
    left, right = np.array(pairs).T
    # Where the deviations are rounding errors of the values no digit of Pearson's correlation is certain.
    assume(np.ptp(left) > 1e-3 and np.ptp(right) > 1e-3)
    x, y = torch.tensor(left), torch.tensor(right)
    assert pearson(x, y).item() == pytest.approx(scipy.stats.pearsonr(left, right).statistic, abs=1e-12)
    assert spearman(x, y).item() == pytest.approx(scipy.stats.spearmanr(left, right).statistic, abs=1e-12)


def test_pearson_in_half_precision_is_computed_in_float64():
    left = [0.4746, 0.4805, 0.4766, 0.4805, 0.4766, 0.4805, 0.4785, 0.4824, 0.4805]
    right = [0.0336, 0.3676, 0.6302, 0.7192, 0.2295, 0.2886, 0.6302, 0.7096, 0.0208]
    halves, floats = torch.tensor(left, dtype=torch.float16), torch.tensor(right)
    assert pearson(halves, floats).item() == pytest.approx(0.3720, abs=5e-5)
    both = scipy.stats.pearsonr(halves.double().numpy(), floats.half().double().numpy()).statistic
    assert pearson(halves, floats.half()).item() == pytest.approx(both, abs=1e-12)


@pytest.mark.parametrize("correlation", [pearson, spearman])
@pytest.mark.parametrize(
    ("left", "right"),
    [
        ([0.1] * 7, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]),
        ([1.0, 2.0, 3.0], [0.7, 0.7, 0.7]),
        ([0.0, -0.0], [1.0, 2.0]),
        ([1.0], [2.0]),
        ([], []),
        ([1.0, 2.0, float("nan")], [1.0, 2.0, 3.0]),
        ([1.0, 2.0, 3.0], [1.0, float("inf"), 3.0]),
        ([1.0, 2.0, 3.0], [1.0, float("-inf"), 3.0]),
    ],
)
def test_correlation_is_nan_where_it_is_undefined_or_a_value_is_not_finite(correlation, left, right):
    for dtype in (torch.float32, torch.float64):
        value = correlation(torch.tensor(left, dtype=dtype), torch.tensor(right, dtype=dtype))
        assert value.isnan()
        assert value.dtype == torch.float64
        assert value.shape == ()


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1.7e308])
def test_pearson_does_not_depend_on_the_scale_of_values(scale):
    left = torch.tensor([0.5, 1.0, -1.0, 0.25], dtype=torch.float64)
    right = torch.tensor([1.0, 2.0, 4.0, 3.0], dtype=torch.float64)
    assert pearson(left * scale, right).item() == pytest.approx(pearson(left, right).item(), abs=1e-12)


def test_correlations_never_leave_their_range():
    values = torch.tensor([0.1, 0.2, 0.7], dtype=torch.float64)
    assert pearson(values, values * 3).item() <= 1
    assert spearman(values, -values).item() == -1


def test_ranks_of_values_with_a_nan_are_all_nan():
    assert average_ranks(torch.tensor([1.0, float("nan")])).isnan().all()


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="shape"):
        pearson(torch.ones(3), torch.ones(4))
    with pytest.raises(ValueError, match="shape"):
        spearman(torch.ones(2, 2), torch.ones(2, 2))
    with pytest.raises(ValueError, match="shape"):
        average_ranks(torch.ones(2, 2))
