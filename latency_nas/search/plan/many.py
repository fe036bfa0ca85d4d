"""Costs of many architectures at once: vectorised over rows of candidates' indices."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latency_nas.errors import SearchError
from latency_nas.estimate.uncertainty import network_variance
from latency_nas.search.plan.plan import CostPlan

__all__ = ["Rows", "check_rows", "costs_of", "stds_of"]

Rows = NDArray[Any]  # indices of candidates, of any type of integers, of shape (architectures, choices)


def check_rows(plan: CostPlan, rows: ArrayLike) -> Rows:
    """`rows` as an array of integers, of shape ``(architectures, choices)``; its shape and numbers are checked.

    Raises:
        SearchError: if it has not a column for each choice, or a number is no candidate of its choice.
    """
    array = np.asarray(rows)
    if array.ndim != 2 or array.shape[1] != len(plan.choices) or array.dtype.kind not in "iu":
        raise SearchError(
            f"Expected rows of indices of candidates, of shape (architectures, {len(plan.choices)}), but got the shape "
            f"{array.shape} of {array.dtype}."
        )
    sizes = np.diff(plan.offsets)
    if len(array) and ((array.min(0) < 0) | (array.max(0) >= sizes)).any():
        column = int(np.flatnonzero((array.min(0) < 0) | (array.max(0) >= sizes))[0])
        raise SearchError(
            f"Expected candidates of `{plan.choices[column]}` from 0 to {sizes[column] - 1}, but got "
            f"{array[:, column].min()} to {array[:, column].max()}."
        )
    return array


def costs_of(plan: CostPlan, rows: Rows) -> NDArray[np.float64]:
    """The cost of each architecture, in the plan's unit, of shape ``(architectures,)``.

    Args:
        plan: Plan that says what the candidates cost.
        rows: Indices of candidates, of shape ``(architectures, choices)``, as `check_rows` gives them.
    """
    gates, terms = _chosen(plan, rows)
    return np.asarray(plan.fixed.value + plan.flat_costs[gates].sum(1) + terms @ plan.term_costs)


def stds_of(plan: CostPlan, rows: Rows) -> NDArray[np.float64] | None:
    """One standard deviation of each cost, of shape ``(architectures,)``; None where the plan does not know it."""
    spread = plan.spread
    if spread is None:
        return None
    gates, terms = _chosen(plan, rows)
    n = plan.n_gates

    def total(summands: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(summands[0] + summands[1 : n + 1][gates].sum(1) + terms @ summands[n + 1 :])

    together = np.array([total(family) for family in spread.together]).reshape(len(spread.together), len(rows))
    variances = network_variance(total(spread.from_table), total(spread.variance), together, spread.expected_error)
    return np.asarray(np.sqrt(variances))


def _chosen(plan: CostPlan, rows: Rows) -> tuple[Rows, NDArray[np.bool_]]:
    """The gates that are 1 in each architecture, and which terms are, of shape ``(architectures, terms)``."""
    gates = rows + plan.offsets[:-1]
    choice_of_group = np.searchsorted(plan.offsets, plan.group_gates.argmax(1), side="right") - 1
    ones = np.zeros((len(rows), plan.n_gates + len(choice_of_group) + 1), bool)
    ones[:, -1] = True
    ones[:, plan.n_gates : -1] = plan.group_gates[np.arange(len(choice_of_group)), gates[:, choice_of_group]]
    np.put_along_axis(ones, gates, True, 1)
    return gates, np.asarray(ones[:, plan.term_gates].all(2))
