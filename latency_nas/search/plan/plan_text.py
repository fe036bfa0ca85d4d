"""A plan as text: choice, candidate, cost, ± and source, one line for each candidate."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

from latency_nas.estimate.uncertainty import network_variance
from latency_nas.kernel import Quantity
from latency_nas.search.plan.cost import Cost

if TYPE_CHECKING:
    from latency_nas.search.plan.plan import CostPlan

__all__ = ["plan_text"]

_N_DECIMALS = 4
_NUMBERS = range(2, 4)  # columns that are aligned on the right


def plan_text(plan: CostPlan) -> str:
    """The costs of a plan in columns, under a heading with their unit.

    Args:
        plan: Plan whose costs are shown.
    """
    flat = [
        (choice, name, cost)
        for choice, names, costs in zip(plan.choices, plan.candidates, plan.costs, strict=True)
        for name, cost in zip(names, costs, strict=True)
    ]
    names = ["=".join(row[:2]) for row in flat]
    together = [
        ("", " & ".join(" or ".join(map(names.__getitem__, group)) for group in term.groups), term.cost)
        for term in plan.terms
    ]
    rows = [("choice", "candidate", plan.quantity.unit, "±", "source")]
    for choice, candidate, cost in [("", "(fixed)", plan.fixed), *flat, *together]:
        rows.append((choice, candidate, *_cells(cost, plan.quantity, plan.expected_error)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = [
        [cell.rjust(width) if column in _NUMBERS else cell.ljust(width) for column, (cell, width) in enumerate(cells)]
        for cells in (zip(row, widths, strict=True) for row in rows)
    ]
    return "\n".join("  ".join(row).rstrip() for row in aligned)


def _cells(cost: Cost, quantity: Quantity, expected_error: float | None) -> tuple[str, str, str]:
    value = quantity.number(cost.value, _N_DECIMALS)
    if cost.variance is None:
        return value, "unknown", cost.source
    families = np.array([std for _, std in cost.together])
    variance = network_variance(cost.from_table, cost.variance, families, expected_error)
    return value, quantity.number(sqrt(variance), _N_DECIMALS), cost.source
