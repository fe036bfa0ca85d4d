"""`BackwardSampler`: random architectures whose cost lies in an interval, by going back through the sums of a grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.elimination import Elimination, Join, Step, steps_of
from latency_nas.search.select.sums import SHORT, Grid, Vector, common_unit, grid_sums, make_grid, span_of

__all__ = ["BackwardSampler"]

_CELLS_PER_CHOICE = 10  # of the narrowest interval: a rounding error is half a cell a choice at most
_MAX_CELLS, _MIN_CELLS = 2**17, 2**8  # of a grid
_MAX_WORK, _MAX_BYTES = 2e9, 5e8  # additions, and memory of the sums of all steps
_MAX_PRODUCTS = 2**22  # of one batch of a join

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackwardSampler:
    """Draws architectures uniformly from those whose cost lies in an interval, or beside it by a rounding error.

    Args:
        steps: Steps of an elimination of all choices.
        weights: Probabilities of each choice's candidates.
        fixed: Cost of what does not depend on any choice.
        grid: Costs of the steps as numbers of cells.
        sums: Probability of each cell, for each state of each step.
    """

    steps: Sequence[Step]
    weights: Sequence[Vector]
    fixed: float
    grid: Grid
    sums: Sequence[Vector]

    @classmethod
    def of(cls, plan: CostPlan, interval: float) -> BackwardSampler | None:
        """A sampler for a plan; None where too many choices depend on each other at once.

        Args:
            plan: Plan that says what the candidates cost.
            interval: Width of the narrowest interval to draw from.
        """
        weights = [np.full(len(names), 1 / len(names)) for names in plan.candidates]
        sizes = [len(names) for names in plan.candidates]
        steps = steps_of(plan)
        most = 0 if steps is None else _most_cells(steps)
        if steps is None or most < _MIN_CELLS:
            return None
        span, unit = span_of(steps), common_unit(steps)
        if unit is None or span / unit > most:
            unit = max(interval / (_CELLS_PER_CHOICE * len(sizes)), span / most) or 1.0
        grid = make_grid(steps, sizes, weights, unit)
        sums = grid_sums(steps, grid, weights, keep=True)
        return cls(steps=steps, weights=weights, fixed=plan.fixed.value, grid=grid, sums=sums)

    def draw(self, low: float, high: float, n: int, random: np.random.Generator) -> Integers:
        """Draw architectures. Those that cost from `low` to `high` are equally likely; others cost almost as much.

        Args:
            low: Lower edge of the interval.
            high: Upper edge of the interval.
            n: Number of architectures.
            random: Source of the random numbers.

        Returns:
            Indices of candidates, of shape ``(n, choices)``; of shape ``(0, choices)`` if no architecture is there.
        """
        grid, last = self.grid, self.sums[-1][0]
        origin = self.fixed + grid.origin
        first = max(int(np.ceil((low - origin) / grid.width - grid.highest - 1e-6)), 0)
        end = max(int(np.floor((high - origin) / grid.width - grid.lowest + 1e-6)) + 1, first)
        cumulative = np.cumsum(last[first:end])
        rows = np.zeros((n if len(cumulative) and cumulative[-1] > 0 else 0, len(self.weights)), np.int64)
        if len(rows):
            drawn = np.searchsorted(cumulative, random.random(n) * cumulative[-1], side="right")
            self._go_back(rows, first + drawn, random)
        return rows

    def _go_back(self, rows: Integers, cells: Integers, random: np.random.Generator) -> None:
        """Write the candidates of architectures whose sums are `cells` to `rows`."""
        pending = {len(self.steps) - 1: (np.zeros(len(rows), np.int64), cells)}  # states and cells of each step
        for number in reversed(range(len(self.steps))):
            step = self.steps[number]
            states, cells = pending.pop(number)
            if isinstance(step, Join):
                sources = [each[states] for each in step.source_states]
                part = self._split(step, sources, cells, random)
                for source, source_states, share in zip(step.sources, sources, (part, cells - part), strict=True):
                    pending[source] = source_states, share
                continue
            picks = _picked(self._chances(number, step, states, cells), random)
            rows[:, step.choice] = picks
            if step.source is not None:
                rest = cells - self.grid.cells[number][states, picks]
                pending[step.source] = step.source_states[states, picks], rest

    def _chances(self, number: int, step: Elimination, states: Integers, cells: Integers) -> Vector:
        """How likely each candidate is, up to a factor, of shape ``(architectures, candidates)``."""
        rest = cells[:, None] - self.grid.cells[number][states]
        if step.source is None:
            return np.asarray((rest == 0) * self.weights[step.choice])
        return _looked_up(self.sums[step.source], step.source_states[states], rest) * self.weights[step.choice]

    def _split(self, step: Join, sources: Sequence[Integers], cells: Integers, random: np.random.Generator) -> Integers:
        """The part of each sum that is that of the first source."""
        first, second = (self.sums[source] for source in step.sources)
        parts = np.arange(first.shape[1])
        drawn = np.empty_like(cells)
        size = max(_MAX_PRODUCTS // len(parts), 1)
        for begin in range(0, len(cells), size):
            batch = slice(begin, begin + size)
            rest = cells[batch, None] - parts
            chances = first[sources[0][batch]] * _looked_up(second, sources[1][batch, None], rest)
            drawn[batch] = _picked(chances, random)
        return drawn


def _most_cells(steps: Sequence[Step]) -> int:
    """The largest number of cells for which all sums fit the memory and take no more than a few seconds."""
    n_terms = sum(step.source_states.size for step in steps)
    n_states = sum(len(step.source_states.T if isinstance(step, Join) else step.costs) for step in steps)
    most = int(min(_MAX_WORK / n_terms, _MAX_BYTES / 8 / n_states, _MAX_CELLS))
    return min(most, SHORT - len(steps)) if any(isinstance(step, Join) for step in steps) else most


def _looked_up(sums: Vector, states: Integers, cells: Integers) -> Vector:
    """The probabilities of cells; 0 outside the grid."""
    inside = (cells >= 0) & (cells < sums.shape[1])
    return np.asarray(np.where(inside, sums[states, np.where(inside, cells, 0)], 0.0))


def _picked(chances: Vector, random: np.random.Generator) -> Integers:
    """A random column of each row, as likely as `chances`."""
    cumulative = np.cumsum(chances, axis=1)
    return np.asarray(np.argmax(cumulative > random.random((len(chances), 1)) * cumulative[:, -1:], axis=1))
