"""The dearest and the cheapest architecture of a plan, exactly."""

from __future__ import annotations

from math import fsum, prod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from latency_nas.errors import SearchError

if TYPE_CHECKING:
    from latency_nas.search.plan import CostPlan

__all__ = ["dearest_ms"]

_MOST_STATES = 2_000_000  # of choices that depend on each other

Table = tuple[tuple[int, ...], NDArray[np.float64]]  # choices, and an axis of costs for each


def dearest_ms(plan: CostPlan, sign: float = 1.0) -> float:
    """The largest of sign x latency over all architectures.

    One choice after the other is maximised out of the tables that it is in, that of the fewest states first (bucket
    elimination, Dechter, Artificial Intelligence 113, 1999).

    Raises:
        SearchError: if too many choices depend on each other at once.
    """
    sizes = [len(names) for names in plan.candidates]
    tables: list[Table] = [((row,), sign * np.array(costs)) for row, costs in enumerate(plan.costs_ms)]
    tables += [(rows, sign * table) for rows, table in _term_tables(plan).items()]
    largest = [sign * plan.fixed_ms]
    left = set(range(len(sizes)))
    while left:
        joined = {row: sorted({other for rows, _ in tables if row in rows for other in rows}) for row in left}
        row = min(left, key=lambda row: prod(sizes[other] for other in joined[row]))
        rows = joined[row]
        if prod(sizes[other] for other in rows) > _MOST_STATES:
            raise SearchError(
                f"Expected choices that depend on a few others each, but {len(rows)} of them depend on each other: "
                f"{', '.join(plan.choices[other] for other in rows[:8])}."
            )
        total = np.zeros([sizes[other] for other in rows])
        for held, table in tables:
            if row in held:
                total += table.reshape([sizes[other] if other in held else 1 for other in rows])
        best = total.max(axis=rows.index(row))
        tables = [item for item in tables if row not in item[0]]
        left.remove(row)
        if len(rows) > 1:
            tables.append((tuple(other for other in rows if other != row), best))
        else:
            largest.append(float(best))
    return fsum(largest)


def _term_tables(plan: CostPlan) -> dict[tuple[int, ...], NDArray[np.float64]]:
    """The terms as one array for each set of choices, whose axes are these choices' candidates."""
    tables: dict[tuple[int, ...], NDArray[np.float64]] = {}
    for term in plan.terms:
        flat = sorted(term.candidates)
        rows = tuple(np.searchsorted(plan.offsets, flat, side="right").tolist())
        cell = tuple(index - int(plan.offsets[row - 1]) for index, row in zip(flat, rows, strict=True))
        rows = tuple(row - 1 for row in rows)
        if rows not in tables:
            tables[rows] = np.zeros([len(plan.candidates[row]) for row in rows])
        tables[rows][cell] += term.cost.latency_ms
    return tables
