"""Limits of costs as rows of a program, exactly where they are linear, and by bounds of the deviation where not.

A limit of a quantile compares cost + n_std x standard deviation. The deviation is not below its tangents
(`Spread.support`) and not above the sum of its parts. Where the deviation counts against an architecture (added below
an upper limit, or subtracted above a lower one), tangents are added until the solution keeps the limit.

References:
    Kelley, The cutting-plane method for solving convex programs, Journal of the SIAM 8, 1960.
"""

from __future__ import annotations

from math import inf

import numpy as np
from numpy.typing import NDArray

from latency_nas.estimate.uncertainty import MAE_TO_STD
from latency_nas.search.plan.spread import Spread
from latency_nas.search.select.budget import Limit
from latency_nas.search.select.program import Program

__all__ = ["LinearLimit"]

_TOLERANCE = 1e-9  # share of a limit by which a point has to exceed it for another tangent


class LinearLimit:
    """The rows of one limit in a program.

    Args:
        program: Program that gets the rows.
        limit: Limit of an architecture's cost.
    """

    def __init__(self, program: Program, limit: Limit) -> None:
        self.program, self.limit = program, limit
        plan = limit.plan
        self.variables = program.summands(plan)
        self.costs = plan.summand_costs
        if not limit.n_std:
            self._bound(self.costs, limit.min_cost, limit.max_cost)
            return
        uniform = plan.summands(np.repeat(1 / np.diff(plan.offsets), np.diff(plan.offsets)))
        self._bound_by_tangent(uniform)
        if plan.spread is not None:
            std = _std_upper_bound(plan.spread, uniform)
            lower, upper = self._relaxed()
            self._bound(self.costs + limit.n_std * std, lower, upper)

    def cut(self, values: NDArray[np.float64]) -> bool:
        """Add the tangent at a point that exceeds the limit.

        Args:
            values: Values of the program's variables, between 0 and 1 where they are those of a relaxation.

        Returns:
            Whether a tangent was added.
        """
        weights = np.concatenate([[1.0], values[self.variables]])
        spread, n_std = self.limit.plan.spread, self.limit.n_std
        if not n_std or spread is None:
            return False
        cost = float((self.costs + n_std * spread.support(weights)) @ weights)
        lower, upper = self._convex()
        if lower - _TOLERANCE * abs(lower) <= cost <= upper + _TOLERANCE * abs(upper):
            return False
        self._bound_by_tangent(weights)
        return True

    def _convex(self) -> tuple[float, float]:
        """Those of the limits that tangents of the deviation describe: the deviation counts against architectures."""
        return (-inf, self.limit.max_cost) if self.limit.n_std > 0 else (self.limit.min_cost, inf)

    def _relaxed(self) -> tuple[float, float]:
        """The other limits, for which the deviation counts in favour of architectures."""
        return (self.limit.min_cost, inf) if self.limit.n_std > 0 else (-inf, self.limit.max_cost)

    def _bound_by_tangent(self, weights: NDArray[np.float64]) -> None:
        if self.limit.plan.spread is not None:
            lower, upper = self._convex()
            self._bound(self.costs + self.limit.n_std * self.limit.plan.spread.support(weights), lower, upper)

    def _bound(self, slope: NDArray[np.float64], lower: float, upper: float) -> None:
        if lower > -inf or upper < inf:
            self.program.bound(self.variables, slope, lower=lower, upper=upper)


def _std_upper_bound(spread: Spread, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """A linear upper bound of the standard deviation.

    The root of a sum of squares is at most the sum of the roots: those of the table's shared error, of the families and
    of the own variances. The last one is concave in the weights, so that its tangent at `weights` bounds it.
    """
    shared = (spread.expected_error or 0.0) * MAE_TO_STD * spread.from_table
    slope: NDArray[np.float64] = shared + spread.together.sum(0)
    variance = float(spread.variance @ weights)
    if variance > 0:
        slope = slope + spread.variance / (2 * variance**0.5)
        slope[0] += variance**0.5 / 2  # what is fixed has the weight 1: this is the tangent's constant
    return slope
