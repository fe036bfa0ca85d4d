"""The smallest and the largest sum of tables over all architectures: the costs of the cheapest and the dearest one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import fsum, inf, prod

import numpy as np
from numpy.typing import NDArray

from latency_nas.errors import SearchError
from latency_nas.search.plan.limits import LimitRow

__all__ = ["Table", "check_states", "extreme_sums"]

_MAX_STATES = 2_000_000  # architectures of choices that depend on each other
_N_DIGITS = 9  # after the point, to which sums of weights are equal

Table = tuple[tuple[int, ...], NDArray[np.float64]]  # numbers of choices, and costs with an axis for each


def extreme_sums(
    tables: Sequence[Table], sizes: Sequence[int], names: Sequence[str], limits: Sequence[LimitRow] = ()
) -> tuple[float, float]:
    """The smallest and the largest sum of one cell of each table, over all architectures within limits.

    The choices are eliminated one by one (bucket elimination): the tables of a choice are added up, and the sum is
    replaced by its maximum over the choice's candidates. The choice whose sum has the fewest cells goes first.

    Args:
        tables: Tables; each has the numbers of the choices that it depends on, and a cost for each combination of their
            candidates.
        sizes: Number of candidates of each choice.
        names: Names of the choices.
        limits: Limits on choices.

    Raises:
        SearchError: if too many choices depend on each other at once, or no architecture keeps the limits.

    References:
        Dechter, Bucket elimination: A unifying framework for reasoning, Artificial Intelligence 113, 1999.
    """
    allowed, sizes, names = _with_sums(limits, sizes, names)
    largest = _largest_sum([*tables, *allowed], sizes, names)
    if largest == -inf:
        raise SearchError("Expected limits on choices that an architecture can keep, but none keeps all of them.")
    return -_largest_sum([*((rows, -table) for rows, table in tables), *allowed], sizes, names), largest


def _with_sums(
    limits: Sequence[LimitRow], sizes: Sequence[int], names: Sequence[str]
) -> tuple[list[Table], list[int], list[str]]:
    """Limits as tables of 0 and, where one is not kept, -inf; and the choices with one more for each sum of weights.

    The candidates of such a choice are the values of the sum of a limit's first weights. A table joins it to the sum
    before and to the choice between, so that a limit of many choices takes small tables only.
    """
    tables, all_sizes, all_names = list[Table](), list(sizes), list(names)
    for limit in limits:
        before, values = list[int](), np.zeros(1)
        for number, (name, weights) in enumerate(limit.weights, 1):
            axes = [*before, names.index(name)]
            sums = np.round(np.add.outer(values, weights), _N_DIGITS)
            kept = limit.holds(sums)
            if number < len(limit.weights):
                values = np.unique(sums)
                before = [len(all_sizes)]
                axes, kept = [*axes, *before], sums[..., None] == values
                all_sizes.append(len(values))
                all_names.append(f"the sum up to {name}")
            table = np.where(kept, 0.0, -inf).reshape([all_sizes[axis] for axis in axes])
            tables.append((tuple(sorted(axes)), table.transpose(np.argsort(axes))))
    return tables, all_sizes, all_names


def check_states(rows: Sequence[int], sizes: Sequence[int], names: Sequence[str]) -> None:
    """Check that a table over some choices is small enough.

    Args:
        rows: Numbers of the choices.
        sizes: Number of candidates of each choice.
        names: Names of the choices.

    Raises:
        SearchError: if it is not.
    """
    if prod(sizes[row] for row in rows) > _MAX_STATES:
        raise SearchError(
            f"Expected choices that depend on a few others each, but {len(rows)} of them depend on each other: "
            f"{', '.join(names[row] for row in rows[:8])}."
        )


def _largest_sum(tables: Iterable[Table], sizes: Sequence[int], names: Sequence[str]) -> float:
    tables = list(tables)
    largest: list[float] = []
    left = set(range(len(sizes)))
    while left:
        joined = {row: sorted({other for rows, _ in tables if row in rows for other in rows}) for row in left}
        row = min(left, key=lambda row: prod(sizes[other] for other in joined[row]))
        rows = joined[row]
        check_states(rows, sizes, names)
        total = np.zeros([sizes[other] for other in rows])
        for axes, table in tables:
            if row in axes:
                total += table.reshape([sizes[other] if other in axes else 1 for other in rows])
        best = total.max(axis=rows.index(row))
        tables = [item for item in tables if row not in item[0]]
        left.remove(row)
        if len(rows) > 1:
            tables.append((tuple(other for other in rows if other != row), best))
        else:
            largest.append(float(best))
    return fsum(largest)
