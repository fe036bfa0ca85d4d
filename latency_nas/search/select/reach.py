"""What a supernet can reach: the least and the most of a cost, or of a quantile of it."""

from __future__ import annotations

from math import inf

import numpy as np

from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.projection import Budget, likeliest

__all__ = ["reach"]

_STEP = 1e-4  # how much less the next quantile must be, as a part of it


def reach(plan: CostPlan, n_std: float = 0.0) -> tuple[float, float]:
    """The least and the most of cost + n_std x standard deviation over all architectures.

    Of the cost alone both are exact. Of a quantile the least is exact to a part of 1e-4, and the most is that of the
    dearest architecture, which a smaller one of a wider deviation can exceed.

    Args:
        plan: Costs of the candidates.
        n_std: Standard deviations that are added to the cost.

    Raises:
        SearchError: if a deviation is asked for and not known, or too many choices depend on each other at once.
    """
    cheapest, dearest = plan.bounds()
    if not n_std:
        return cheapest, dearest
    unbounded = Budget(plan=plan, max_cost=inf, n_std=n_std)
    scores = {name: [-cost.value for cost in costs] for name, costs in zip(plan.choices, plan.costs, strict=True)}
    lowest = unbounded.cost({name: int(np.argmax(values)) for name, values in scores.items()})
    highest = unbounded.cost({name: int(np.argmin(values)) for name, values in scores.items()})
    while lower := likeliest(scores, [Budget(plan=plan, max_cost=lowest - _STEP * abs(lowest), n_std=n_std)]):
        lowest = unbounded.cost(lower)
    return lowest, max(lowest, highest)
