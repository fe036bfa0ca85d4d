"""The distribution of a plan's cost over all architectures of its space, without listing them.

The choices are summed over one by one (`elimination`); for each state, the distribution of the sum so far is kept. It
is exact where all costs are multiples of a unit, or where there are few different sums. Elsewhere it is kept on a grid,
and the rounding errors give bounds of the distribution function that hold for every cost (`sums`). Where choices depend
on too many others at once, architectures are sampled; the bound is that of Dvoretzky, Kiefer and Wolfowitz.

References:
    Massart, The tight constant in the Dvoretzky-Kiefer-Wolfowitz inequality, Annals of Probability 18, 1990.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log, prod, sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from latency_nas.errors import SearchError
from latency_nas.search.plan.limits import refuse_limits
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.distribution import Distribution
from latency_nas.search.select.elimination import Join, Step, steps_of
from latency_nas.search.select.sampling import sampled_costs
from latency_nas.search.select.sums import Grid, Vector, common_unit, exact_sums, grid_sums, make_grid, span_of

__all__ = ["distribution_of"]

_MAX_LISTED = 5_000_000  # architectures of a space whose sums are all kept
_MAX_SUMS = 200_000  # different sums of one step in a larger space
_FIRST_WORK, _MAX_WORK = 2e8, 4e9  # additions: of the first grid, and of the finest one
_MAX_BYTES = 5e8  # of the sums of a step
_MAX_CELLS, _MIN_CELLS = 2**20, 2**12  # of a grid
_MAX_SAMPLES = 10_000_000  # architectures
_ALPHA = 0.01  # probability that the bound of a sampled distribution does not hold
_TRANSFORM_ERROR = 1e-9  # of a distribution function, where sums are added by Fourier transforms
_SPARE = 1.2  # finer than needed, since the bound is not exactly proportional to the width


def distribution_of(
    plan: CostPlan, gates: ArrayLike | None = None, *, max_error: float = 1e-3, seed: int = 0
) -> Distribution:
    """The distribution of a plan's cost over all architectures of its space.

    Args:
        plan: Plan that says what the candidates cost.
        gates: Probability of each candidate, flat, of shape ``(gates,)``; None for architectures that are all equally
            likely.
        max_error: Error of the distribution function to reach, where it can be reached; `Distribution.cdf_error` says
            what was.
        seed: Seed of the random numbers, for a plan whose choices depend on too many others.

    Raises:
        SearchError: if the gates of a choice are no probabilities, `max_error` is not between 0 and 1, or the plan has
            limits on choices.
    """
    if not 0 < max_error < 1:
        raise SearchError(f"Expected `max_error` to be between 0 and 1, but got {max_error}.")
    refuse_limits(plan.limits, "a distribution over its space")
    weights = _weights_of(plan, gates)
    steps = steps_of(plan)
    if steps is None or _n_cells(steps, _MAX_WORK) < _MIN_CELLS:
        return _sampled(plan, weights, max_error, seed)
    exact = _on_unit(plan, steps, weights) or _listed(plan, steps, weights)
    return exact or _on_grid(plan, steps, weights, max_error)


def _weights_of(plan: CostPlan, gates: ArrayLike | None) -> list[Vector]:
    """The probabilities of each choice's candidates; without gates they are equal."""
    if gates is None:
        return [np.full(len(names), 1 / len(names)) for names in plan.candidates]
    weights = np.split(plan.check_gates(gates), plan.offsets[1:-1])
    for choice, part in zip(plan.choices, weights, strict=True):
        if part.min() < 0 or abs(part.sum() - 1) > 1e-6:
            raise SearchError(
                f"Expected the gates of `{choice}` to be probabilities that sum to 1, but got {part.tolist()}."
            )
    return [part / part.sum() for part in weights]


def _n_cells(steps: Sequence[Step], work: float) -> int:
    """Number of cells of a grid, so that its sums take so many additions and fit the memory."""
    n_terms = sum(step.source_states.size * (64 if isinstance(step, Join) else 1) for step in steps)
    n_states = max(len(step.source_states.T if isinstance(step, Join) else step.costs) for step in steps)
    return int(min(work / n_terms, _MAX_BYTES / 16 / n_states, _MAX_CELLS))


def _on_unit(plan: CostPlan, steps: Sequence[Step], weights: Sequence[Vector]) -> Distribution | None:
    """Exactly, on a grid of a unit; None where the costs have none, or the grid would be too large."""
    unit = common_unit(steps)
    if unit is None or span_of(steps) / unit > _n_cells(steps, _FIRST_WORK):
        return None
    grid = make_grid(steps, [len(part) for part in weights], weights, unit)
    return _of_grid(plan, steps, grid, weights) if grid.is_exact else None


def _listed(plan: CostPlan, steps: Sequence[Step], weights: Sequence[Vector]) -> Distribution | None:
    """Exactly, from all different sums; None where they are too many."""
    n = prod(len(part) for part in weights)
    found = exact_sums(steps, weights, _MAX_LISTED if n <= _MAX_LISTED else _MAX_SUMS)
    if found is None:
        return None
    costs, cumulative = found[0] + plan.fixed.value, _cumulative(found[1])
    return _distribution(plan, costs, cumulative, method="exact", tolerance=_tolerance(costs))


def _on_grid(plan: CostPlan, steps: Sequence[Step], weights: Sequence[Vector], max_error: float) -> Distribution:
    """On a grid; on a finer one, if the first one's error is too large and shrinks with the cells."""
    sizes = [len(part) for part in weights]
    n_cells = _n_cells(steps, _FIRST_WORK)
    while True:
        grid = make_grid(steps, sizes, weights, span_of(steps) / n_cells)
        found = _of_grid(plan, steps, grid, weights)
        finer = int(min(n_cells * found.cdf_error / max_error * _SPARE, _n_cells(steps, _MAX_WORK)))
        if found.cdf_error <= max_error or finer <= n_cells:
            return found
        n_cells = finer


def _of_grid(plan: CostPlan, steps: Sequence[Step], grid: Grid, weights: Sequence[Vector]) -> Distribution:
    cumulative = _cumulative(grid_sums(steps, grid, weights)[-1][0])
    costs = plan.fixed.value + grid.origin + grid.width * (np.arange(len(cumulative), dtype=np.float64) + grid.mean)
    if grid.is_exact:
        return _distribution(plan, costs, cumulative, method="exact", tolerance=1e-6 * grid.width)
    below, above = grid.highest - grid.mean + 1e-6, grid.mean - grid.lowest + 1e-6  # in cells; more by floating point
    margin = _TRANSFORM_ERROR if any(isinstance(step, Join) for step in steps) else 0.0
    error = max(_largest_rise(cumulative, ceil(below)), _largest_rise(cumulative, ceil(above))) + margin
    return _distribution(
        plan,
        costs,
        cumulative,
        method="grid",
        cdf_error=error,
        shifts=(below * grid.width, above * grid.width),
        margin=margin,
        tolerance=_tolerance(costs),
    )


def _sampled(plan: CostPlan, weights: Sequence[Vector], max_error: float, seed: int) -> Distribution:
    n = min(ceil(log(2 / _ALPHA) / (2 * max_error**2)), _MAX_SAMPLES)
    error = sqrt(log(2 / _ALPHA) / (2 * n))
    costs = np.sort(sampled_costs(plan, weights, n, seed=seed))
    return _distribution(
        plan,
        costs,
        np.arange(1, n + 1) / n,
        method="sampled",
        cdf_error=error,
        n_samples=n,
        margin=error,
        tolerance=_tolerance(costs),
    )


def _distribution(plan: CostPlan, costs: Vector, cumulative: Vector, **how: Any) -> Distribution:
    try:
        cheapest, dearest = plan.bounds()
    except SearchError:  # too many choices depend on each other
        cheapest, dearest = float(costs[0]), float(costs[-1])
    n_architectures = prod(len(names) for names in plan.candidates)
    return Distribution(
        quantity=plan.quantity,
        n_architectures=n_architectures,
        costs=costs,
        cumulative=cumulative,
        cheapest=cheapest,
        dearest=dearest,
        **{"cdf_error": 0.0, **how},
    )


def _cumulative(parts: Vector) -> Vector:
    cumulative: Vector = np.cumsum(parts)
    return np.asarray(np.minimum(cumulative / cumulative[-1], 1.0))


def _largest_rise(cumulative: Vector, n_cells: int) -> float:
    """The largest difference of the distribution function over so many cells."""
    padded = np.concatenate([np.zeros(n_cells), cumulative, np.ones(n_cells)])
    return float((padded[n_cells:] - padded[: len(padded) - n_cells]).max())


def _tolerance(costs: Vector) -> float:
    return 1e-12 * float(np.abs(costs).max())
