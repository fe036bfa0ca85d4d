"""A plan as text: choice, candidate, cost, ± and source, one line for each candidate."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np

from latency_nas.estimate.uncertainty import network_variance
from latency_nas.kernel import Quantity
from latency_nas.search.plan.cost import Cost

__all__ = ["plan_text"]

_N_DECIMALS = 4
_NUMBERS = range(2, 4)  # columns that are aligned on the right

Line = tuple[str, str, Cost]  # choice, candidate and its cost


def plan_text(lines: Sequence[Line], quantity: Quantity, expected_error: float | None) -> str:
    """The lines in columns, under a heading with the unit of the costs.

    Args:
        lines: Choice, candidate and cost of each line.
        quantity: Quantity that the costs are of.
        expected_error: Error of the table's whole networks; None where it is not known.
    """
    rows = [("choice", "candidate", quantity.unit, "±", "source")]
    rows += [(choice, candidate, *_cells(cost, quantity, expected_error)) for choice, candidate, cost in lines]
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
