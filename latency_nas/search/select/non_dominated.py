"""Which points no other one is better than, in every objective at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latency_nas.errors import SearchError

__all__ = ["non_dominated"]

_BLOCK = 512  # points that are compared with each other at once


def non_dominated(costs: ArrayLike, scores: ArrayLike, *, keep_equal: bool = True) -> NDArray[np.intp]:
    """The points that no other one dominates: none has no higher cost and no lower score, and is better in one of them.

    Two objectives take one sort, and several take one comparison of each point with the front.

    Args:
        costs: Lower is better: shape ``(points,)``, or ``(points, costs)`` for several.
        scores: Higher is better: shape ``(points,)``, or ``(points, scores)`` for several.
        keep_equal: Whether all points of the front that are equal in every objective are kept, or only the first.

    Returns:
        Numbers of the points, ascending, of shape ``(front,)``.

    Raises:
        SearchError: if the numbers of points differ, or one is NaN.

    Example:
        >>> non_dominated([10.0, 12.0, 11.0, 12.0], [0.7, 0.8, 0.6, 0.8]).tolist()
        [0, 1, 3]
        >>> non_dominated([10.0, 12.0, 11.0, 12.0], [0.7, 0.8, 0.6, 0.8], keep_equal=False).tolist()
        [0, 1]

    References:
        Kung, Luccio and Preparata, On finding the maxima of a set of vectors, Journal of the ACM 22, 1975: sorting
        first makes later points unable to dominate earlier ones.
    """
    points = _points(costs, scores)
    if not len(points):
        return np.zeros(0, np.intp)
    order = np.lexsort(points.T[::-1])  # by the first objective, then by the second; equal points in their order
    ordered = points[order]
    is_new = np.append(True, (ordered[1:] != ordered[:-1]).any(1))
    distinct = ordered[is_new]
    on_front = _front_of_two(distinct[:, 1]) if points.shape[1] == 2 else _front_of_many(distinct)
    kept = on_front[is_new.cumsum() - 1]
    return np.sort(order[kept if keep_equal else kept & is_new])


def _points(costs: ArrayLike, scores: ArrayLike) -> NDArray[np.float64]:
    """All objectives, lower is better, of shape ``(points, objectives)``."""
    columns = [np.asarray(values, np.float64) for values in (costs, scores)]
    columns = [values[:, None] if values.ndim == 1 else values for values in columns]
    if any(values.ndim != 2 for values in columns) or len(columns[0]) != len(columns[1]):
        shapes = " and ".join(str(np.shape(values)) for values in (costs, scores))
        raise SearchError(f"Expected costs and scores of the same points, a row for each, but got the shapes {shapes}.")
    points = np.concatenate([columns[0], -columns[1]], axis=1)
    if np.isnan(points).any():
        raise SearchError(
            f"Expected costs and scores without NaN, but point {np.isnan(points).any(1).argmax()} has it."
        )
    return points


def _front_of_two(second: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Of points sorted by the first objective: those whose second one is lower than that of every earlier point."""
    lowest = np.minimum.accumulate(second)
    return np.append(True, second[1:] < lowest[:-1])


def _front_of_many(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Of distinct points in lexicographic order: those that no earlier one dominates."""
    on_front = np.zeros(len(points), bool)
    front = np.zeros((0, points.shape[1]))
    for begin in range(0, len(points), _BLOCK):
        block = points[begin : begin + _BLOCK]
        left = np.flatnonzero(~_dominated(block, front))
        within = (block[left][None] <= block[left][:, None]).all(2)  # by an earlier point of the block
        left = left[~np.tril(within, -1).any(1)]
        on_front[begin + left] = True
        front = np.concatenate([front, block[left]])
    return on_front


def _dominated(block: NDArray[np.float64], front: NDArray[np.float64]) -> NDArray[np.bool_]:
    dominated = np.zeros(len(block), bool)
    for begin in range(0, len(front), _BLOCK):
        left = np.flatnonzero(~dominated)
        better = np.asarray((front[begin : begin + _BLOCK][None] <= block[left][:, None]).all(2))
        dominated[left] = better.any(1)
    return dominated
