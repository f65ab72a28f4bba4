"""Pearson's and Spearman's correlation of two lists of values."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .sorting import FloatArray, RealArray, host_values, sort_groups


def average_ranks(values: Tensor) -> Tensor:
    """Rank values from 1 in ascending order; equal values share the mean of their ranks.

    Args:
        values: Shape ``(N,)``, any real dtype.

    Returns:
        Shape ``(N,)``, float64, on the device of ``values``; all NaN if any value is non-finite.

    Raises:
        ValueError: If ``values`` is not one-dimensional.

    >>> average_ranks(torch.tensor([0.3, 0.1, 0.3, 0.9])).tolist()
    [2.5, 1.0, 2.5, 4.0]
    """
    if values.ndim != 1:
        raise ValueError(f"values must have shape (N,), but has {tuple(values.shape)}.")
    array = host_values(values)
    ranks = _ranks(array) if np.isfinite(array).all() else np.full(len(array), np.nan)
    return torch.from_numpy(ranks).to(values.device)


def pearson(left: Tensor, right: Tensor) -> Tensor:
    """Pearson's correlation: covariance divided by the product of the standard deviations, in float64.

    Args:
        left: Shape ``(N,)``, any real dtype.
        right: Shape ``(N,)``.

    Returns:
        A float64 scalar tensor, -1 to 1, on the device of ``left``. NaN where it is undefined (fewer than two values,
        or all values of one side equal) and where any value is non-finite.

    Raises:
        ValueError: If the inputs are not one-dimensional and of equal length.

    >>> pearson(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2, 4, 6])).item()
    1.0
    """
    _check_shapes(left, right)
    return _as_scalar(_correlation(host_values(left), host_values(right)), left)


def spearman(left: Tensor, right: Tensor) -> Tensor:
    """Spearman's correlation: Pearson's correlation of the average ranks.

    Args:
        left: Shape ``(N,)``, any real dtype.
        right: Shape ``(N,)``.

    Returns:
        A float64 scalar tensor, -1 to 1, on the device of ``left``; NaN in the cases of ``pearson``.

    Raises:
        ValueError: If the inputs are not one-dimensional and of equal length.

    >>> spearman(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([9.0, 8.0, -5.0])).item()
    -1.0
    """
    _check_shapes(left, right)
    left_values, right_values = host_values(left), host_values(right)
    if not (np.isfinite(left_values).all() and np.isfinite(right_values).all()):
        return _as_scalar(float("nan"), left)
    return _as_scalar(_correlation(_ranks(left_values), _ranks(right_values)), left)


def _check_shapes(left: Tensor, right: Tensor) -> None:
    if left.ndim != 1 or left.shape != right.shape:
        raise ValueError(f"Both inputs must have one shape (N,), but have {tuple(left.shape)}, {tuple(right.shape)}.")


def _as_scalar(value: float, like: Tensor) -> Tensor:
    return torch.tensor(value, dtype=torch.float64, device=like.device)


def _ranks(values: RealArray) -> FloatArray:
    order, bounds = sort_groups(values)
    ranks = np.empty(len(values), dtype=np.float64)
    means = (bounds[:-1] + bounds[1:] + 1) / 2
    ranks[order] = means if len(means) == len(ranks) else np.repeat(means, np.diff(bounds))
    return ranks


def _correlation(left: RealArray, right: RealArray) -> float:
    if len(left) < 2 or not (np.isfinite(left).all() and np.isfinite(right).all()):
        return float("nan")
    # The rounded mean of equal values may differ from them: only the values themselves tell that they are constant.
    if left.min() == left.max() or right.min() == right.max():
        return float("nan")
    x, y = _deviations(left), _deviations(right)
    value = float((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum()))
    return max(-1.0, min(1.0, value))


def _deviations(values: RealArray) -> FloatArray:
    """Deviations from the mean, scaled so that the largest is 1: squares of extreme values stay in range."""
    scaled = values.astype(np.float64)
    scaled = np.ldexp(scaled, -np.frexp(np.abs(scaled).max())[1])
    deviations: FloatArray = scaled - scaled.mean()
    deviations /= np.abs(deviations).max()
    return deviations
