"""The distribution of a sum of costs along the steps of an elimination: exactly, or on a grid.

On a grid each cost t of a step is rounded to a whole number k of cells of width h. The lowest and the highest sum of
the errors t - k h over all architectures are found exactly, so that

    P(grid sum <= x - highest error) <= P(sum <= x) <= P(grid sum <= x - lowest error).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from latency_nas.search.plan.bounds import Table, extreme_sums
from latency_nas.search.select.elimination import Elimination, Join, Step

__all__ = ["SHORT", "Grid", "Vector", "common_unit", "exact_sums", "grid_sums", "make_grid", "span_of"]

Vector = NDArray[np.float64]

_MAX_DECIMALS = 6  # of costs that are taken for multiples of a unit
_EXACT_CELLS = 1e-6  # a rounding error of so many cells is one of floating point
SHORT = 4096  # shorter vectors are convolved without a transform, which keeps small probabilities exact
_SAME = 1e-13  # share of the largest sum by which floating point may separate equal sums


def exact_sums(steps: Sequence[Step], weights: Sequence[Vector], max_sums: int) -> tuple[Vector, Vector] | None:
    """All different sums, rising, and the probability of each.

    Args:
        steps: Steps of an elimination.
        weights: Probabilities of each choice's candidates.
        max_sums: Number of sums of one step.

    Returns:
        Sums and probabilities, each of shape ``(sums,)``; None where a step has more sums than `max_sums`.
    """
    found: list[list[tuple[Vector, Vector]]] = []
    for step in steps:
        if isinstance(step, Join):
            first, second = (found[source] for source in step.sources)
            pairs = [(first[one], second[two]) for one, two in step.source_states.T]
            if sum(len(one[0]) * len(two[0]) for one, two in pairs) > max_sums:
                return None
            found.append([_independent(one, two) for one, two in pairs])
            continue
        before = [(np.zeros(1), np.ones(1))] if step.source is None else found[step.source]
        if sum(len(before[state][0]) for state in step.source_states.flat) > max_sums:
            return None
        found.append(
            [
                _merged(
                    np.concatenate([before[state][0] + cost for state, cost in zip(states, costs, strict=True)]),
                    np.concatenate(
                        [before[state][1] * part for state, part in zip(states, weights[step.choice], strict=True)]
                    ),
                )
                for states, costs in zip(step.source_states, step.costs, strict=True)
            ]
        )
    return found[-1][0]


def _independent(one: tuple[Vector, Vector], two: tuple[Vector, Vector]) -> tuple[Vector, Vector]:
    return _merged(np.add.outer(one[0], two[0]).ravel(), np.multiply.outer(one[1], two[1]).ravel())


def _merged(sums: Vector, parts: Vector) -> tuple[Vector, Vector]:
    """The sums in order, those that are equal as one."""
    order = np.argsort(sums, kind="stable")  # quick where several sorted runs follow each other
    sums = sums[order]
    new = np.append(True, np.diff(sums) > _SAME * max(abs(sums[0]), abs(sums[-1])))
    starts = np.flatnonzero(new)
    return sums[starts], np.add.reduceat(parts[order], starts)


def span_of(steps: Sequence[Step]) -> float:
    """An upper bound of the distance from the lowest sum to the highest one."""
    return float(sum(np.ptp(step.costs) for step in steps if isinstance(step, Elimination)))


def common_unit(steps: Sequence[Step]) -> float | None:
    """The largest unit whose multiples all differences of costs are; None where they have more than six decimals."""
    costs = [step.costs - step.costs.min() for step in steps if isinstance(step, Elimination)]
    flat = np.unique(np.concatenate([array.ravel() for array in costs]))
    for decimals in range(_MAX_DECIMALS + 1):
        scaled = flat * 10**decimals
        whole = np.rint(scaled)
        if scaled[-1] < 2**53 and np.abs(scaled - whole).max() <= 1e-12 * scaled[-1]:
            return float(int(np.gcd.reduce(whole.astype(np.int64))) or 1) / 10.0**decimals
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The costs of an elimination's steps as whole numbers of cells.

    Args:
        width: Width of a cell, in the costs' unit.
        origin: Sum where the grid begins.
        cells: Number of cells of each cost, as `Elimination.costs`, by the number of the step.
        lowest: Lowest of all architectures' sum of rounding errors, in cells.
        highest: Highest of them.
        mean: Mean of them.
    """

    width: float
    origin: float
    cells: Mapping[int, NDArray[np.int64]]
    lowest: float
    highest: float
    mean: float

    @property
    def is_exact(self) -> bool:
        """Whether all costs are whole numbers of cells."""
        return self.lowest == self.highest == 0.0


def make_grid(steps: Sequence[Step], sizes: Sequence[int], weights: Sequence[Vector], width: float) -> Grid:
    """Round the costs of an elimination to a grid.

    Args:
        steps: Steps of an elimination.
        sizes: Number of candidates of each choice.
        weights: Probabilities of each choice's candidates.
        width: Width of a cell.
    """
    cells: dict[int, NDArray[np.int64]] = {}
    errors: list[Table] = []
    mean = origin = 0.0
    for number, step in enumerate(steps):
        if isinstance(step, Join):
            continue
        lowest = float(step.costs.min())
        exact = (step.costs - lowest) / width
        cells[number] = np.rint(exact).astype(np.int64)
        errors.append(step.table(exact - cells[number], sizes))
        mean, origin = mean + _mean(errors[-1], weights), origin + lowest
    low, high = extreme_sums(errors, sizes, [str(number) for number in range(len(sizes))])
    if max(-low, high) < _EXACT_CELLS:
        low = high = mean = 0.0
    return Grid(width=width, origin=origin, cells=cells, lowest=low, highest=high, mean=mean)


def _mean(table: Table, weights: Sequence[Vector]) -> float:
    rows, numbers = table
    for row in rows:
        numbers = weights[row] @ numbers.reshape(len(weights[row]), -1)
    return float(numbers[0])


def grid_sums(steps: Sequence[Step], grid: Grid, weights: Sequence[Vector], *, keep: bool = False) -> list[Vector]:
    """The probability of each cell, for each state of each step.

    Args:
        steps: Steps of an elimination.
        grid: Costs of the steps as numbers of cells.
        weights: Probabilities of each choice's candidates.
        keep: Whether the probabilities of all steps are kept, as backward sampling needs them.

    Returns:
        Probabilities of each step, of shape ``(states, cells)``; without `keep` empty for all steps except the last.
    """
    found: list[Vector] = []
    for number, step in enumerate(steps):
        if isinstance(step, Join):
            pairs = zip(step.sources, step.source_states, strict=True)
            sources: Sequence[int] = step.sources
            found.append(_convolved(*(found[source][states] for source, states in pairs)))
        else:
            sources = () if step.source is None else (step.source,)
            before = np.ones((1, 1)) if step.source is None else found[step.source]
            found.append(_shifted(before, step, grid.cells[number], weights[step.choice]))
        if not keep:
            for source in sources:
                found[source] = np.empty((0, 0))
    return found


def _shifted(before: Vector, step: Elimination, cells: NDArray[np.int64], weights: Vector) -> Vector:
    """The sums of a step before, moved by the costs of each candidate, and mixed."""
    n = before.shape[1]
    after = np.zeros((len(cells), n + int(cells.max())))
    uniform = bool((weights == weights[0]).all())
    for state, row in enumerate(after):
        for source, begin, part in zip(step.source_states[state], cells[state], weights, strict=True):
            row[begin : begin + n] += before[source] if uniform else part * before[source]
    return after * weights[0] if uniform else after


def _convolved(one: Vector, two: Vector) -> Vector:
    if max(one.shape[1], two.shape[1]) <= SHORT:
        return np.array([np.convolve(first, second) for first, second in zip(one, two, strict=True)])
    return np.asarray(np.maximum(fftconvolve(one, two, axes=1), 0.0))
