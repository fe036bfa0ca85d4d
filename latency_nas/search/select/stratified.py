"""Random architectures with equal numbers from each interval of a cost, however rare the interval is.

The distribution of the cost is found on a grid, choice by choice (`sums`). Going back through its steps draws an
architecture: a cell of the sum within the interval first, then each choice's candidate with the probability that the
rest of the sum comes out. All architectures of the drawn cells are equally likely. The cells cover the interval and, by
the largest rounding errors, a little more; what lies outside the interval by its exact cost is drawn again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from latency_nas.errors import SearchError
from latency_nas.search.plan.many import Rows, costs_of
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.backward import BackwardSampler
from latency_nas.search.select.reach import reach
from latency_nas.search.select.sampling import draw_rows

__all__ = ["StratifiedSample", "stratified_architectures"]

_BATCH, _MIN_BATCH = 16_384, 1024  # architectures
_MAX_IDLE = 50  # batches without a new architecture, before the rest is taken for empty


@dataclass(frozen=True, slots=True, kw_only=True)
class StratifiedSample:
    """Random architectures by intervals of their cost.

    Args:
        rows: Indices of candidates, of shape ``(architectures, choices)``, one interval after the other.
        costs: Cost of each, of shape ``(architectures,)``.
        edges: Edges of the intervals, of shape ``(intervals + 1,)``. An interval includes its lower edge; the last one
            includes both.
        counts: Number of architectures drawn from each interval; fewer than asked for where none were found.
        method: Way in which they were drawn: ``"backward"`` (each interval by its distribution) or ``"rejection"``
            (from the whole space, so that rare intervals may stay empty).
    """

    rows: Rows = field(repr=False)
    costs: NDArray[np.float64] = field(repr=False)
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    method: str


def stratified_architectures(
    plan: CostPlan, n: int, *, bins: int | Sequence[float] = 10, seed: int
) -> StratifiedSample:
    """`n` random architectures from each of several intervals of the cost, for training an accuracy predictor, say.

    Within an interval all architectures that keep the plan's limits on choices are equally likely, and may be drawn
    more than once. Where each choice depends on a few others, and there are no limits, intervals are reached that
    uniform sampling of the space would never meet.

    Args:
        plan: Plan that says what the candidates cost.
        n: Number of architectures of each interval.
        bins: Number of equal intervals from the cheapest to the dearest architecture, or their edges, rising.
        seed: Seed of the random numbers.

    Raises:
        SearchError: if `n` is negative, or the edges do not rise.

    Example:
        >>> from latency_nas.search.plan.cost import Cost
        >>> costs = tuple(Cost(value=value) for value in (1.0, 2.0, 4.0))
        >>> names = ("3x3", "5x5", "7x7")
        >>> plan = CostPlan(choices=("a", "b"), candidates=(names,) * 2, costs=(costs,) * 2, fixed=Cost(value=10.0))
        >>> sample = stratified_architectures(plan, 2, bins=[12, 13, 18], seed=0)
        >>> sample.rows[:2].tolist(), sample.counts, sample.method
        ([[0, 0], [0, 0]], (2, 2), 'backward')
    """
    if n < 0:
        raise SearchError(f"Expected the number of architectures to be 0 or more, but got {n}.")
    edges = _edges(plan, bins)
    random = np.random.default_rng(seed)
    sampler = None if plan.limits else BackwardSampler.of(plan, float(np.diff(edges).min()))
    found = _by_rejection(plan, edges, n, random) if sampler is None else _backward(plan, sampler, edges, n, random)
    rows = np.concatenate(found).astype(np.min_scalar_type(int(np.diff(plan.offsets).max()) - 1))
    return StratifiedSample(
        rows=rows,
        costs=costs_of(plan, rows),
        edges=tuple(edges.tolist()),
        counts=tuple(map(len, found)),
        method="rejection" if sampler is None else "backward",
    )


def _edges(plan: CostPlan, bins: int | Sequence[float]) -> NDArray[np.float64]:
    if isinstance(bins, int) and bins < 1:
        raise SearchError(f"Expected one interval or more, but got {bins}.")
    edges = np.linspace(*reach(plan), bins + 1) if isinstance(bins, int) else np.asarray(bins, np.float64)
    if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise SearchError(
            f"Expected edges of one interval or more that rise, but got {edges.tolist()}"
            + (": all architectures cost the same." if isinstance(bins, int) else ".")
        )
    return edges


def _interval(plan: CostPlan, edges: NDArray[np.float64], rows: Rows) -> NDArray[np.intp]:
    """The interval of each architecture, by its exact cost; -1 or the number of intervals outside of them.

    The first and the last edge have a tolerance for the order in which floating-point numbers are added.
    """
    tolerance = 1e-12 * float(np.abs(edges).max())
    inner = edges.copy()
    inner[[0, -1]] += [-tolerance, tolerance]
    return np.searchsorted(inner, costs_of(plan, rows), side="right") - 1


def _backward(
    plan: CostPlan, sampler: BackwardSampler, edges: NDArray[np.float64], n: int, random: np.random.Generator
) -> list[Rows]:
    """Up to `n` architectures of each interval, each drawn by going back from it."""
    found: list[Rows] = []
    for number, (low, high) in enumerate(pairwise(edges)):
        drawn = [np.zeros((0, len(plan.choices)), np.int64)]
        missing, n_idle = n, 0
        while missing and n_idle < _MAX_IDLE:
            rows = sampler.draw(low, high, min(max(2 * missing, _MIN_BATCH), _BATCH), random)
            rows = rows[_interval(plan, edges, rows) == number][:missing]
            drawn.append(rows)
            missing, n_idle = missing - len(rows), 0 if len(rows) else n_idle + 1
        found.append(np.concatenate(drawn))
    return found


def _by_rejection(plan: CostPlan, edges: NDArray[np.float64], n: int, random: np.random.Generator) -> list[Rows]:
    """Up to `n` architectures of each interval, of those that are drawn from the whole space."""
    sizes = np.diff(plan.offsets)
    found = [np.zeros((0, len(sizes)), np.int64) for _ in range(len(edges) - 1)]
    n_idle = 0
    while n_idle < _MAX_IDLE and min(map(len, found)) < n:
        rows = draw_rows(plan, _BATCH, random)
        intervals = _interval(plan, edges, rows)
        n_before = sum(map(len, found))
        found = [np.concatenate([part, rows[intervals == number]])[:n] for number, part in enumerate(found)]
        n_idle = 0 if sum(map(len, found)) > n_before else n_idle + 1
    return found
