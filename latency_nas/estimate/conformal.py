"""Widths of 90 % intervals from the errors of rows or networks that were left out, for any distribution of errors."""

from __future__ import annotations

from math import ceil, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

__all__ = ["LEVEL", "conformal_quantile", "error_bound"]

LEVEL = 0.9
_SLACK = 1e-9  # rounding of sums of floats


def conformal_quantile(scores: NDArray[np.float64], groups: NDArray[np.intp]) -> float:
    """A bound for 90 % of the scores of a new group; with too few groups, the largest score.

    All groups have the same weight, whatever their size, since the new group may be like any of them. The new group
    counts as one whose scores are infinite.

    Args:
        scores: Scores of rows that were left out, ``(rows,)``, one or more.
        groups: Number of each row's group; a group was left out as a whole, ``(rows,)``.

    References:
        Lee, Barber and Willett, "Distribution-free inference with hierarchical data" (2023), section 3; where each row
        is a group, it is split conformal prediction: Lei et al., JASA 113 (2018), section 2.2.

    Example:
        >>> conformal_quantile(np.arange(1.0, 20.0), np.arange(19))
        18.0
        >>> conformal_quantile(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0, 1, 1, 1]))
        4.0
    """
    _, index, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.argsort(scores)
    reached = np.cumsum(1 / sizes[index][order]) / (len(sizes) + 1)
    last = min(int(np.searchsorted(reached, LEVEL - _SLACK)), len(scores) - 1)
    return float(scores[order[last]])


def error_bound(predicted_ms: NDArray[np.float64], measured_ms: NDArray[np.float64]) -> float | None:
    """A bound for the relative error of 90 % of predictions of other networks, relative to the smaller of both times.

    With nine networks or more: the order statistic of split conformal prediction. With two to eight: a Student-t bound,
    at least the largest error seen. With fewer: None.

    Args:
        predicted_ms: Prediction of each network when it was left out, ``(networks,)``.
        measured_ms: Time of each network, ``(networks,)``.

    Example:
        >>> error_bound(np.array([1.1] * 8 + [1.0] * 11), np.ones(19))  # the 18th of 19
        0.10000000000000009
        >>> round(error_bound(np.array([1.1, 1 / 1.1]), np.ones(2)), 3)
        0.406
    """
    errors = np.sort(np.abs(np.log(np.asarray(predicted_ms) / measured_ms)))
    n = len(errors)
    if n < 2:
        return None
    rank = ceil(LEVEL * (n + 1) - _SLACK)
    if rank <= n:
        return float(np.expm1(errors[rank - 1]))
    bound = student.ppf((1 + LEVEL) / 2, n) * sqrt(1 + 1 / n) * np.sqrt(np.square(errors).mean())
    return float(np.expm1(max(bound, errors[-1])))
