"""What a supernet can reach: the lowest and the highest cost of its architectures, or quantile of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from math import ceil, floor, inf

import numpy as np

from latency_nas.errors import SearchError
from latency_nas.kernel import Quantity
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.budget import Limit
from latency_nas.search.select.program import Factors
from latency_nas.search.select.solve import Solver

__all__ = ["factors_of", "least", "most", "reach", "rounded_within", "sizes_of"]

_STEP = 1e-4  # share by which each quantile that is found must be better than the one before
_TINY = 1e-12  # the same, where the one before is 0
_N_DIGITS = 4  # digits of a figure in an error message


def reach(plan: CostPlan, n_std: float = 0.0) -> tuple[float, float]:
    """The lowest and the highest cost + n_std x standard deviation of all architectures that keep the plan's limits.

    Without standard deviations both are exact. With them the lowest is exact to a share of 1e-4, and the highest is
    that of the dearest architecture, which one of a lower cost and a larger deviation can exceed.

    Args:
        plan: Plan that says what the candidates cost.
        n_std: Number of standard deviations that are added to the cost.

    Raises:
        SearchError: if standard deviations are to be added and the plan has none.
    """
    try:
        cheapest, dearest = plan.bounds()
    except SearchError:  # too many choices depend on each other at once
        cheapest, dearest = least(plan), most(plan)
    if not n_std:
        return cheapest, dearest
    lowest = least(plan, n_std)
    highest = Limit(plan=plan, max_cost=inf, n_std=n_std).cost(_dear(plan))
    return lowest, max(lowest, highest)


def _dear(plan: CostPlan) -> Mapping[str, int]:
    """The dearest candidate of each choice; with limits, those of the dearest architecture."""
    if plan.limits and (found := Solver(sizes_of(plan), factors_of(plan), (), rows=plan.limits).solve()):
        return found.architecture
    return {
        name: int(np.argmax([cost.value for cost in costs]))
        for name, costs in zip(plan.choices, plan.costs, strict=True)
    }


def least(plan: CostPlan, n_std: float = 0.0, others: Sequence[Limit] = ()) -> float:
    """The least cost + n_std x standard deviation of an architecture that keeps other limits; inf if none keeps them.

    Args:
        plan: Plan that says what the candidates cost.
        n_std: Number of standard deviations that are added to the cost, at least 0. With them the result is exact to a
            share of 1e-4.
        others: Limits to keep.
    """
    return _extreme(plan, n_std, others, sign=1)


def most(plan: CostPlan, n_std: float = 0.0, others: Sequence[Limit] = ()) -> float:
    """As `least`, but the largest one, with `n_std` at most 0; -inf if no architecture keeps the other limits."""
    return _extreme(plan, n_std, others, sign=-1)


def _extreme(plan: CostPlan, n_std: float, others: Sequence[Limit], *, sign: int) -> float:
    sizes, scores = sizes_of(plan), {factors: -sign * cost for factors, cost in factors_of(plan).items()}
    unlimited = Limit(plan=plan, n_std=n_std)
    extreme = sign * inf
    limits = list(others)
    while found := Solver(sizes, scores, limits, rows=plan.limits).solve():
        extreme = unlimited.cost(found.architecture)
        if not n_std:
            break
        better = extreme - sign * max(_STEP * abs(extreme), _TINY)
        side = {"max_cost": better} if sign > 0 else {"min_cost": better}
        limits = [*others, Limit(plan=plan, n_std=n_std, **side)]
    return extreme


def sizes_of(plan: CostPlan) -> dict[str, int]:
    """Choice -> number of its candidates."""
    return {name: len(names) for name, names in zip(plan.choices, plan.candidates, strict=True)}


def factors_of(plan: CostPlan) -> dict[Factors, float]:
    """The cost of each candidate, and of each set of candidates that has a term."""
    costs: dict[Factors, float] = defaultdict(float)
    costs |= {((number,),): float(cost) for number, cost in enumerate(plan.flat_costs)}
    for term in plan.terms:
        costs[tuple(sorted(set(term.groups)))] += term.cost.value
    return costs


def rounded_within(quantity: Quantity, bound: float, *, upwards: bool) -> str:
    """A bound with its unit, as messages show it: rounded upwards or downwards, so that it can be reached.

    Args:
        quantity: Quantity that the bound is of.
        bound: Lowest or highest cost.
        upwards: Whether it is the lowest one.

    Example:
        >>> from latency_nas.kernel import LATENCY
        >>> rounded_within(LATENCY, 4.12341, upwards=True)
        '4.124 ms'
    """
    if not quantity.n_decimals:
        return f"{quantity.number(ceil(bound) if upwards else floor(bound))} {quantity.unit}"
    rounding = ROUND_CEILING if upwards else ROUND_FLOOR
    return f"{Context(prec=_N_DIGITS, rounding=rounding).create_decimal(bound)} {quantity.unit}"
