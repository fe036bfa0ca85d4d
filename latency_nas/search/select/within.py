"""Which of many architectures keep budgets and limits on choices, exactly as `Budget.keeps` has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf

import numpy as np
from numpy.typing import NDArray

from latency_nas.search.plan.architecture import Architecture
from latency_nas.search.plan.many import Rows, costs_of, stds_of
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.best import limits_of
from latency_nas.search.select.budget import Budget, Limit

__all__ = ["Keeps", "architecture_of", "excess", "within", "within_limits"]

Keeps = Callable[[Rows], NDArray[np.bool_]]

_ROUNDING = 1e-9  # share of a limit within which rows are compared one by one, since sums differ in their last digits


def architecture_of(plan: CostPlan, row: Sequence[int] | NDArray[np.integer]) -> Architecture:
    """The architecture of one row: choice -> the index of its candidate."""
    return Architecture(zip(plan.choices, map(int, row), strict=True))


def excess(limit: Limit, architecture: Mapping[str, int]) -> float:
    """The share by which an architecture exceeds a limit; 0 or less if and only if it keeps it.

    Args:
        limit: Upper or lower limit, as `Budget.limits` gives them.
        architecture: Index of the candidate of each choice.
    """
    cost = limit.cost(architecture)
    upper = limit.max_cost < inf
    bound = limit.max_cost if upper else limit.min_cost
    return (cost - bound if upper else bound - cost) / (abs(bound) or 1.0)


def within(plan: CostPlan, budgets: Sequence[Budget]) -> Keeps:
    """A function that says of rows of candidates which keep all budgets, and the limits of all plans on choices.

    Args:
        plan: Plan whose choices are the columns of the rows.
        budgets: Budgets over plans of the same choices, in any order, as `check_budgets` gives them.
    """
    return within_limits(plan, limits_of(budgets))


def within_limits(plan: CostPlan, limits: Sequence[Limit]) -> Keeps:
    """As `within`, for limits.

    Args:
        plan: Plan whose choices are the columns of the rows.
        limits: Limits over plans of the same choices, in any order.
    """
    with_columns = [
        (limit, np.array([plan.choices.index(name) for name in limit.plan.choices], np.intp)) for limit in limits
    ]

    def keeps(rows: Rows) -> NDArray[np.bool_]:
        kept = _allowed(plan, [plan, *(limit.plan for limit in limits)], rows)
        for limit, columns in with_columns:
            kept[kept] = _keeps(limit, rows[kept][:, columns])
        return kept

    return keeps


def _allowed(plan: CostPlan, plans: Sequence[CostPlan], rows: Rows) -> NDArray[np.bool_]:
    """Which rows keep the limits on choices that several plans have."""
    kept = np.ones(len(rows), bool)
    for limit in dict.fromkeys(limit for one in plans for limit in one.limits):
        total = np.zeros(len(rows))
        for name, weights in limit.weights:
            total += np.asarray(weights)[rows[:, plan.choices.index(name)]]
        kept &= limit.holds(total)
    return kept


def _keeps(limit: Limit, rows: Rows) -> NDArray[np.bool_]:
    costs = costs_of(limit.plan, rows)
    if limit.n_std:
        costs = costs + limit.n_std * np.asarray(stds_of(limit.plan, rows))
    kept = np.asarray((limit.min_cost <= costs) & (costs <= limit.max_cost))
    for bound in (limit.min_cost, limit.max_cost):
        if abs(bound) < inf:
            for index in np.flatnonzero(np.abs(costs - bound) <= _ROUNDING * np.maximum(np.abs(costs), abs(bound))):
                kept[index] = limit.keeps(architecture_of(limit.plan, rows[index]))
    return kept
