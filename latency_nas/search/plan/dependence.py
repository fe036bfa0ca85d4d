"""On which choices something depends, learnt from architectures in which it was seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

__all__ = ["depends_on"]

_N_LIKELY = 6  # choices of which every few are tried, before they are added one by one


def depends_on(
    values: NDArray[np.intp], rows: NDArray[np.intp], sizes: Sequence[int], believed: tuple[int, ...] | None
) -> tuple[int, ...]:
    """The fewest choices of which `values` are a function.

    Args:
        values: Number of what was seen in each architecture, ``(architectures,)``.
        rows: Indices of candidates, of shape ``(architectures, choices)``.
        sizes: Number of candidates of each choice.
        believed: Choices that were found before; one or two are kept if they still explain all.
    """
    left = np.ones(len(values), np.intp)

    def n_conflicts(groups: NDArray[np.intp]) -> int:
        _, together = np.unique(groups, return_counts=True)
        _, alike = np.unique(groups * (values.max() + 1) + values, return_counts=True)
        return int((together**2).sum() - (alike**2).sum())

    def grouped(choices: Iterable[int]) -> NDArray[np.intp]:
        groups = np.zeros_like(left)
        for choice in choices:
            groups = groups * sizes[choice] + rows[:, choice]
        return groups

    if believed is not None and len(believed) < 3 and n_conflicts(grouped(believed)) == 0:
        return believed
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
