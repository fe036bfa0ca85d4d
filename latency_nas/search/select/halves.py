"""Architectures with small regrets that keep rows, found by meeting in the middle.

The choices are split into two halves. Combinations of each half are listed, and pairs of them are joined. A row with a
positive multiplier has to be nearly tight: the score is below the bound by its slack times the multiplier. The sums of
such a row therefore lie in a window, and one list, sorted by its sums, shows which of its combinations can be joined.

References:
    Horowitz and Sahni, Computing partitions with applications to the knapsack problem, Journal of the ACM 21, 1974.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from latency_nas.search.select.program import Program
from latency_nas.search.select.relaxation import Relaxation

__all__ = ["Half", "Windows", "join"]

_TOLERANCE = 1e-6  # of rows, whose limits are in the thousands (`Program.bound`)
_NARROWING = 0.8  # of the width where it has too many pairs
_MAX_NARROWINGS = 40


@dataclass(frozen=True, slots=True)
class Half:
    """Combinations of candidates of half of the choices.

    Args:
        gates: Candidates, counted through all choices, of shape ``(choices of the half, combinations)``.
        regrets: Sums of their regrets, of shape ``(combinations,)``, sorted.
        sums: Sums of their coefficients, of shape ``(rows, combinations)``.
        width: Sum of regrets below which no combination is missing.
    """

    gates: NDArray[np.int32]
    regrets: NDArray[np.float64]
    sums: NDArray[np.float64]
    width: float


@dataclass(frozen=True, slots=True)
class Windows:
    """Bounds of the sums of coefficients in the rows of a program, whose last row is the score.

    Args:
        matrix: Coefficients of shape ``(rows, candidates)``.
        lower: Lower bounds of shape ``(rows,)``, whatever the products are.
        upper: Upper bounds of shape ``(rows,)``, whatever the products are.
        regrets: Regrets of shape ``(candidates,)``.
        multipliers: Score for each unit of slack, of shape ``(rows,)``: below 0 for the slack of lower bounds.
        spans: Largest sum of the products minus the smallest one, and tolerances, of shape ``(rows,)``.
    """

    matrix: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    regrets: NDArray[np.float64]
    multipliers: NDArray[np.float64]
    spans: NDArray[np.float64]

    @classmethod
    def of(cls, program: Program, relaxation: Relaxation, width: float) -> Windows:
        """The bounds for scores that are at most `width` below the relaxation's bound."""
        rows = program.limit_rows()
        scores, unit = program.objective()
        matrix = np.vstack([rows.values.toarray(), scores])
        matrix, products = np.split(matrix, [program.n_candidates], axis=1)
        return cls(
            matrix=matrix,
            lower=np.append(rows.lower, (relaxation.bound - width) / unit) - products.clip(0).sum(1) - _TOLERANCE,
            upper=np.append(rows.upper, np.inf) + (-products).clip(0).sum(1) + _TOLERANCE,
            regrets=relaxation.regrets,
            multipliers=np.append(relaxation.multipliers, 0.0),
            spans=np.abs(products).sum(1) + 2 * _TOLERANCE,
        ).within(width)

    def within(self, width: float) -> Windows:
        """The bounds of rows with multipliers, tightened for scores that are at most `width` below the bound."""
        lower, upper = self.lower.copy(), self.upper.copy()
        above, below = self.multipliers > 0, self.multipliers < 0
        lower[above] = np.maximum(lower[above], (self.upper - self.spans)[above] - width / self.multipliers[above])
        upper[below] = np.minimum(upper[below], (self.lower + self.spans)[below] - width / self.multipliers[below])
        return replace(self, lower=lower, upper=upper)

    def half(
        self, options: Sequence[NDArray[np.intp]], others: Sequence[NDArray[np.intp]], width: float, max_listed: int
    ) -> Half:
        """The combinations with the smallest regrets that can keep the bounds.

        Choices are added one by one. What is left of all others bounds each combination, so that most of those that
        cannot keep the bounds are left out early.

        Args:
            options: Candidates of each choice of the half.
            others: Candidates of each choice of the other half.
            width: Sum of regrets of a combination, at most.
            max_listed: Number of combinations, at most.
        """
        low, high, complete = self.lower.copy(), self.upper.copy(), width
        for gates in (*options, *others):
            low, high = low - self.matrix[:, gates].max(1), high - self.matrix[:, gates].min(1)
        chosen, regrets, sums = np.zeros((0, 1), np.int32), np.zeros(1), np.zeros((len(low), 1))
        for gates in options:
            low, high = low + self.matrix[:, gates].max(1), high + self.matrix[:, gates].min(1)
            number, index = np.nonzero(regrets[:, None] + self.regrets[gates] <= width)
            total, added = regrets[number] + self.regrets[gates[index]], sums[:, number] + self.matrix[:, gates[index]]
            kept = np.flatnonzero(((added >= low[:, None]) & (added <= high[:, None])).all(0))
            if len(kept) > max_listed:
                kept = kept[np.argpartition(total[kept], max_listed)]
                complete = min(complete, float(total[kept[max_listed]]))
                kept = kept[:max_listed]
            regrets, sums = total[kept], added[:, kept]
            chosen = np.concatenate([chosen[:, number[kept]], gates[index[kept]][None].astype(np.int32)])
        order = np.argsort(regrets, kind="stable")
        return Half(chosen[:, order], regrets[order], sums[:, order], complete)


def join(
    left: Half, right: Half, windows: Windows, width: float, max_joined: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], float]:
    """The pairs of combinations of two halves that keep the bounds.

    Args:
        left: One half.
        right: The other half.
        windows: Bounds of their sums.
        width: Sum of regrets of a pair, at most. It is narrowed where there are too many pairs.
        max_joined: Number of pairs that are looked at, at most.

    Returns:
        The numbers of the pairs in both halves, and the sum of regrets below which no pair is missing.
    """
    most = float(left.regrets.max(initial=0) + right.regrets.max(initial=0))
    complete = min(left.width, right.width)
    for _ in range(_MAX_NARROWINGS):
        windows = windows.within(width)
        order, begin, counts = _narrowest(left, right, windows, width)
        if counts.sum() <= max_joined:
            break
        width = _NARROWING * min(width, most)
        complete = min(complete, width)
    if counts.sum() > max_joined:
        counts, complete = np.where(counts.cumsum() <= max_joined, counts, 0), 0.0
    first = np.repeat(np.arange(len(counts)), counts)
    second = order[np.arange(len(first)) - np.repeat(counts.cumsum() - counts - begin, counts)]
    kept = left.regrets[first] + right.regrets[second] <= width
    for ours, theirs, low, high in zip(left.sums, right.sums, windows.lower, windows.upper, strict=True):
        first, second = first[kept], second[kept]
        sums = ours[first] + theirs[second]
        kept = (sums >= low) & (sums <= high)
    return first[kept], second[kept], complete


def _narrowest(
    left: Half, right: Half, windows: Windows, width: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """The fewest pairs that one row's bounds leave: an order of `right`, and for each of `left` the first and how many.

    The sums of regrets are a row too.
    """
    n_left, n_right = (int(np.searchsorted(half.regrets, width, side="right")) for half in (left, right))
    found = []
    for ours, theirs, low, high in zip(
        (*left.sums, left.regrets),
        (*right.sums, right.regrets),
        (*windows.lower, 0.0),
        (*windows.upper, width),
        strict=True,
    ):
        own, other = ours[:n_left], theirs[:n_right]
        order = np.argsort(other)
        begin = np.searchsorted(other[order], low - own, side="left")
        found.append((order, begin, np.searchsorted(other[order], high - own, side="right") - begin))
    return min(found, key=lambda pairs: pairs[2].sum())
