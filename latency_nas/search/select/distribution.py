"""`Distribution`: how a cost is distributed over the architectures of a space."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

import numpy as np

from latency_nas.errors import SearchError
from latency_nas.kernel import Quantity
from latency_nas.search.select.sums import Vector

__all__ = ["Distribution"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """The distribution of a cost over the architectures of a space; each is equally likely, unless gates were given.

    Args:
        quantity: Quantity that the cost is of.
        n_architectures: Number of architectures of the space.
        costs: Costs, rising, of shape ``(costs,)``.
        cumulative: Probability of an architecture of at most that cost, of shape ``(costs,)``.
        method: Way in which it was found: ``"exact"``, ``"grid"`` (with bounds that hold for certain) or ``"sampled"``
            (with bounds that hold at a confidence of 99 %).
        cdf_error: Largest error of `cdf`, at any cost.
        n_samples: Number of architectures that were drawn; 0 unless sampled.
        cheapest: Cost of the cheapest architecture; of the cheapest one drawn where it is not known.
        dearest: Cost of the dearest architecture; of the dearest one drawn where it is not known.
        shifts: Costs by which the distribution function at x is looked up below and above x to get its bounds.
        margin: Number that is then taken off and added.
        tolerance: Difference of costs that is taken for one of floating point.

    Example:
        >>> from latency_nas.search.plan.cost import Cost
        >>> from latency_nas.search.plan.plan import CostPlan
        >>> from latency_nas.search.select.space_distribution import distribution_of
        >>> costs = tuple(Cost(value=value) for value in (1.0, 2.0, 4.0))
        >>> names = ("3x3", "5x5", "7x7")
        >>> plan = CostPlan(choices=("a", "b"), candidates=(names,) * 2, costs=(costs,) * 2, fixed=Cost(value=10.0))
        >>> distribution = distribution_of(plan)
        >>> distribution.method, distribution.quantile(0.5), round(distribution.cdf(13.0), 3)
        ('exact', 15.0, 0.333)
        >>> round(distribution.share(min_cost=13.0, max_cost=15.0), 3)
        0.556
    """

    quantity: Quantity
    n_architectures: int
    costs: Vector = field(repr=False)
    cumulative: Vector = field(repr=False)
    method: str
    cdf_error: float
    n_samples: int = 0
    cheapest: float
    dearest: float
    shifts: tuple[float, float] = (0.0, 0.0)
    margin: float = 0.0
    tolerance: float = 0.0

    def cdf(self, cost: float) -> float:
        """Probability that an architecture costs at most `cost`.

        Args:
            cost: Cost in the unit of the quantity.
        """
        return self._at(cost + self.tolerance)

    def cdf_bounds(self, cost: float) -> tuple[float, float]:
        """Bounds of the probability that an architecture costs at most `cost`: narrower than `cdf_error` in the tails.

        Args:
            cost: Cost in the unit of the quantity.
        """
        return self._bounds(cost + self.tolerance)

    def quantile(self, probability: float) -> float:
        """The lowest cost that at least this share of the architectures keeps.

        Args:
            probability: Share of the architectures, from 0 to 1.

        Raises:
            SearchError: if the share is not from 0 to 1.
        """
        if not 0 <= probability <= 1:
            raise SearchError(f"Expected a probability from 0 to 1, but got {probability}.")
        if probability in {0, 1}:
            return self.dearest if probability else self.cheapest
        index = int(np.searchsorted(self.cumulative, probability * (1 - 1e-12)))
        cost = float(self.costs[min(index, len(self.costs) - 1)])
        return min(max(cost, self.cheapest), self.dearest)

    def share(self, min_cost: float = -inf, max_cost: float = inf) -> float:
        """Probability that an architecture costs from `min_cost` to `max_cost`.

        Args:
            min_cost: Lower limit, in the unit of the quantity.
            max_cost: Upper limit, in the unit of the quantity.
        """
        return max(self._at(max_cost + self.tolerance) - self._at(min_cost - self.tolerance), 0.0)

    def share_bounds(self, min_cost: float = -inf, max_cost: float = inf) -> tuple[float, float]:
        """Bounds of `share`.

        Args:
            min_cost: Lower limit, in the unit of the quantity.
            max_cost: Upper limit, in the unit of the quantity.
        """
        below, upto = self._bounds(min_cost - self.tolerance), self._bounds(max_cost + self.tolerance)
        return max(upto[0] - below[1], 0.0), max(upto[1] - below[0], 0.0)

    def histogram(self, bins: int = 40) -> tuple[Vector, Vector]:
        """Edges of equal intervals from the cheapest to the dearest architecture, and the share within each.

        Args:
            bins: Number of intervals.

        Returns:
            Edges of shape ``(bins + 1,)`` and shares of shape ``(bins,)``.
        """
        edges = np.linspace(self.cheapest, self.dearest, bins + 1)
        upto = np.array([self._at(edge + self.tolerance) for edge in edges[1:-1]])
        return edges, np.diff(upto, prepend=0.0, append=1.0)

    def _at(self, cost: float) -> float:
        if cost < self.cheapest:
            return 0.0
        if cost >= self.dearest:
            return 1.0
        index = int(np.searchsorted(self.costs, cost, side="right"))
        return float(self.cumulative[index - 1]) if index else 0.0

    def _bounds(self, cost: float) -> tuple[float, float]:
        if self.method != "sampled" and not self.cheapest <= cost < self.dearest:
            return (self._at(cost),) * 2
        below, above = self._at(cost - self.shifts[0]), self._at(cost + self.shifts[1])
        return max(below - self.margin, 0.0), min(above + self.margin, 1.0)
