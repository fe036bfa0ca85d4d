"""What a supernet can reach: the lowest and the highest cost of its architectures, or quantile of it."""

from __future__ import annotations

from math import inf

import numpy as np

from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.budget import Limit
from latency_nas.search.select.projection import most_probable_within

__all__ = ["reach"]

_STEP = 1e-4  # share by which each quantile that is found must be lower than the one before


def reach(plan: CostPlan, n_std: float = 0.0) -> tuple[float, float]:
    """The lowest and the highest cost + n_std x standard deviation of all architectures.

    Without standard deviations both are exact. With them the lowest is exact to a share of 1e-4, and the highest is
    that of the dearest architecture, which one of a lower cost and a larger deviation can exceed.

    Args:
        plan: Plan that says what the candidates cost.
        n_std: Number of standard deviations that are added to the cost.

    Raises:
        SearchError: if standard deviations are to be added and the plan has none, or too many choices depend on each
            other at once.
    """
    cheapest, dearest = plan.bounds()
    if not n_std:
        return cheapest, dearest
    unbounded = Limit(plan=plan, max_cost=inf, n_std=n_std)
    scores = {name: [-cost.value for cost in costs] for name, costs in zip(plan.choices, plan.costs, strict=True)}
    lowest = unbounded.cost({name: int(np.argmax(values)) for name, values in scores.items()})
    highest = unbounded.cost({name: int(np.argmin(values)) for name, values in scores.items()})
    while lower := most_probable_within(scores, [Limit(plan=plan, max_cost=lowest - _STEP * abs(lowest), n_std=n_std)]):
        lowest = unbounded.cost(lower)
    return lowest, max(lowest, highest)
