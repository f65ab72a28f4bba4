"""Sorting flat values into groups of equal values, on the host."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
RealArray = NDArray[np.float32] | NDArray[np.float64]

_LOW_HALF = np.int64(0xFFFFFFFF)


def host_values(values: Tensor) -> RealArray:
    """Copy a tensor of any real dtype to a float array on the host without changing a value.

    Args:
        values: Any shape. Half precision becomes float32; bool and integers become float64 (exact below 2**53).

    Returns:
        A float32 or float64 array of the same shape; it may share memory with a CPU tensor.
    """
    values = values.detach()
    if not values.is_floating_point():
        values = values.double()
    elif values.dtype != torch.float64:
        values = values.float()
    array: RealArray = values.cpu().numpy()
    return array


def sort_groups(values: RealArray) -> tuple[IntArray, IntArray]:
    """Sort finite values in ascending order and find the groups of equal values.

    Args:
        values: Shape ``(T,)``, float32 or float64, finite, T below 2**31. ``-0.0`` equals ``0.0``.

    Returns:
        ``order`` of shape ``(T,)``, such that ``values[order]`` ascends, and ``bounds`` of shape ``(G + 1,)``:
        group g of equal values is ``order[bounds[g]:bounds[g + 1]]``.

    >>> order, bounds = sort_groups(np.array([2.0, 1.0, 2.0], dtype=np.float32))
    >>> order.tolist(), bounds.tolist()
    ([1, 0, 2], [0, 1, 3])
    """
    if values.dtype == np.float32:
        # Sorting one int64 made of value and index is several times faster than an argsort of the values.
        order, sorted_code = sort_codes(float_codes(values))
        changes = sorted_code[1:] != sorted_code[:-1]
    else:
        order = np.argsort(values)
        sorted_values = values[order]
        changes = sorted_values[1:] != sorted_values[:-1]
    return order, group_bounds(changes, len(values))


def float_codes(values: RealArray) -> NDArray[np.int32]:
    """Integers that compare as float32 values without NaN do; ``-0.0`` equals ``0.0``.

    >>> float_codes(np.array([-2.0, -0.0, 0.0, 1.5], dtype=np.float32)).tolist()
    [-1073741825, 0, 0, 1069547520]
    """
    bits = (values + np.float32(0)).view(np.int32)  # -0.0 and 0.0 have different bits
    codes: NDArray[np.int32] = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
    return codes


def code_floats(codes: NDArray[np.int32]) -> NDArray[np.float32]:
    """The float32 values of codes.

    >>> code_floats(np.array([-1073741825, 0, 1069547520], dtype=np.int32)).tolist()
    [-2.0, 0.0, 1.5]
    """
    values: NDArray[np.float32] = (codes ^ ((codes >> 31) & np.int32(0x7FFFFFFF))).view(np.float32)
    return values


def sort_codes(codes: NDArray[np.integer]) -> tuple[IntArray, IntArray]:
    """Stable ascending sort of 32-bit integers.

    Args:
        codes: Shape ``(T,)``, values within int32, T below 2**31.

    Returns:
        ``order`` of shape ``(T,)`` and the sorted codes, both int64.
    """
    keys = (codes.astype(np.int64) << 32) | np.arange(len(codes), dtype=np.int64)
    keys.sort()
    return keys & _LOW_HALF, keys >> 32


def group_bounds(changes: NDArray[np.bool_], length: int) -> IntArray:
    """Bounds of the runs of a sequence, given where it changes.

    Args:
        changes: Shape ``(length - 1,)``: whether element i + 1 begins a new run.
        length: Length of the sequence.

    Returns:
        Shape ``(num_runs + 1,)``, from 0 to ``length``; only ``[0]`` when the sequence is empty.
    """
    if length == 0:
        return np.zeros(1, dtype=np.int64)
    return np.concatenate(([0], np.flatnonzero(changes) + 1, [length]))


def sums_by_group(groups: IntArray, weights: FloatArray, num_groups: int) -> FloatArray:
    """Sum weights per group in float64, in the order given.

    >>> sums_by_group(np.array([0, 2, 2]), np.array([1.0, 0.5, 0.25]), 3).tolist()
    [1.0, 0.0, 0.75]
    """
    return np.bincount(groups, weights, minlength=num_groups).astype(np.float64, copy=False)
