"""Finds the functions of an architecture that a value depends on, from its values for some architectures."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations
from math import prod

import numpy as np
from numpy.typing import NDArray

__all__ = ["depends_on"]

_N_LIKELY = 9  # functions that explain most on their own ...
_MAX_SET = 4  # ... of which all combinations of up to so many are tried first


def depends_on(
    values: NDArray[np.intp],
    columns: Mapping[int, NDArray[np.intp]],
    sizes: Mapping[int, int],
    first: Sequence[Collection[int]],
    previous: tuple[int, ...] | None,
) -> tuple[int, ...]:
    """The smallest set of columns that `values` are a function of.

    Every set of up to four likely columns is tried, and of those that are enough the one with the fewest cases is
    taken. If none is, columns are added one by one, each time the one that explains most, and those that turn out to be
    superfluous are left out again.

    Args:
        values: Number from 0 for each architecture, equal where the values are, of shape ``(architectures,)``.
        columns: Such numbers for each function that `values` may depend on.
        sizes: Number of values of each function.
        first: Columns that are taken if they are enough, those of each item before those of the next; others only if
            they are not.
        previous: What an earlier call found, or None; one or two columns are kept if they still explain all values.
    """

    def n_conflicts(groups: NDArray[np.intp]) -> int:
        """The number of (ordered) pairs of architectures that are in one group but differ in their value."""
        _, group_sizes = np.unique(groups, return_counts=True)
        _, n_equal = np.unique(groups * (values.max() + 1) + values, return_counts=True)
        return int((group_sizes**2).sum() - (n_equal**2).sum())

    def grouped(some: Iterable[int]) -> NDArray[np.intp]:
        """The number of the group of each architecture: those in one group have the same values of `some` columns."""
        groups = np.zeros(len(values), np.intp)
        for column in some:
            groups = groups * sizes[column] + columns[column]
        return groups

    if previous is not None and len(previous) < 3 and n_conflicts(grouped(previous)) == 0:
        return previous
    if n_conflicts(grouped(())) == 0:
        return ()
    order = sorted(columns, key=lambda column: n_conflicts(columns[column]))
    for some in (*first, order):
        likely = [column for column in order if column in some][:_N_LIKELY]
        for n in range(1, _MAX_SET + 1):
            enough = [few for few in combinations(likely, n) if n_conflicts(grouped(few)) == 0]
            if enough:
                return min(enough, key=lambda few: prod(sizes[column] for column in few))
    chosen: list[int] = []
    while n_conflicts(grouped(chosen)):
        rest = [column for column in order if column not in chosen]
        chosen.append(min(rest, key=lambda column: n_conflicts(grouped([*chosen, column]))))
    for column in tuple(chosen):
        others = [other for other in chosen if other != column]
        if n_conflicts(grouped(others)) == 0:
            chosen = others
    return tuple(chosen)
