"""Sorting into groups of equal values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from st_eval_callbacks.kernels.sorting import host_values, sort_codes, sort_groups

FLOATS = st.lists(
    st.floats(width=32, allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, -0.0, 1e-45, -1e-45, 3.4e38])
)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(values=FLOATS)
def test_groups_hold_equal_values_in_ascending_order(dtype, values):
    array = np.array(values, dtype=dtype)
    order, bounds = sort_groups(array)
    assert sorted(order.tolist()) == list(range(len(array)))
    groups = [array[order[start:end]] for start, end in zip(bounds[:-1], bounds[1:], strict=True)]
    assert [group[0] for group in groups] == sorted({value + 0.0 for value in array.tolist()})
    assert all((group == group[0]).all() for group in groups)


def test_equal_codes_keep_their_order():
    order, codes = sort_codes(np.array([3, -1, 3, 0, -1]))
    assert order.tolist() == [1, 4, 3, 0, 2]
    assert codes.tolist() == [-1, -1, 0, 3, 3]


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float16, np.float32),
        (torch.bfloat16, np.float32),
        (torch.float32, np.float32),
        (torch.float64, np.float64),
        (torch.int64, np.float64),
        (torch.bool, np.float64),
    ],
)
def test_values_of_every_dtype_reach_the_host_unchanged(dtype, expected):
    values = host_values(torch.tensor([1, 0, 1], dtype=dtype))
    assert values.dtype == expected
    assert values.tolist() == [1, 0, 1]
