"""Finds the choices that a value depends on, from its values for some architectures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

__all__ = ["depends_on"]

_N_LIKELY = 6  # choices that explain most on their own; all combinations of up to three of them are tried first


def depends_on(
    values: NDArray[np.intp], rows: NDArray[np.intp], sizes: Sequence[int], previous: tuple[int, ...] | None
) -> tuple[int, ...]:
    """The smallest set of choices that `values` are a function of.

    Every set of up to three likely choices is tried. If none of them is enough, choices are added one by one, each time
    the one that explains most, and those that turn out to be superfluous are left out again.

    Args:
        values: Number from 0 for each architecture, equal where the values are, of shape ``(architectures,)``.
        rows: Indices of candidates, of shape ``(architectures, choices)``.
        sizes: Number of candidates of each choice.
        previous: Choices that an earlier call found, or None; one or two are kept if they still explain all values.
    """

    def n_conflicts(groups: NDArray[np.intp]) -> int:
        """The number of (ordered) pairs of architectures that are in one group but differ in their value."""
        _, group_sizes = np.unique(groups, return_counts=True)
        _, n_equal = np.unique(groups * (values.max() + 1) + values, return_counts=True)
        return int((group_sizes**2).sum() - (n_equal**2).sum())

    def grouped(choices: Iterable[int]) -> NDArray[np.intp]:
        """The number of the group of each architecture: those in one group have the same candidates of `choices`."""
        groups = np.zeros(len(values), np.intp)
        for choice in choices:
            groups = groups * sizes[choice] + rows[:, choice]
        return groups

    if previous is not None and len(previous) < 3 and n_conflicts(grouped(previous)) == 0:
        return previous
    if n_conflicts(grouped(())) == 0:
        return ()
    order = sorted(range(len(sizes)), key=lambda choice: n_conflicts(grouped((choice,))))
    for n in (1, 2, 3):
        for few in combinations(order[:_N_LIKELY], n):
            if n_conflicts(grouped(few)) == 0:
                return tuple(sorted(few))
    chosen: list[int] = []
    while n_conflicts(grouped(chosen)):
        rest = [choice for choice in order if choice not in chosen]
        chosen.append(min(rest, key=lambda choice: n_conflicts(grouped([*chosen, choice]))))
    for choice in tuple(chosen):
        others = [other for other in chosen if other != choice]
        if n_conflicts(grouped(others)) == 0:
            chosen = others
    return tuple(sorted(chosen))
