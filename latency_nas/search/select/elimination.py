"""The order in which a plan's choices are summed over, one by one, so that few states are kept at a time.

The costs that depend on a choice are collected in one table and added to the sums that earlier steps left. The result
depends on the choices that share a cost with the eliminated one: the scope of the step. In a chain of choices, where
each shares costs with its neighbours, a scope is one choice, and a state is one of its candidates.

References:
    Dechter, Bucket elimination: A unifying framework for reasoning, Artificial Intelligence 113, 1999.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from latency_nas.errors import SearchError
from latency_nas.search.plan.bounds import Table
from latency_nas.search.plan.plan import CostPlan

__all__ = ["MAX_CELLS", "Elimination", "Join", "Step", "elimination_steps", "steps_of"]

MAX_CELLS = 1_000_000  # of one table; with more, a graph of choices is not narrow

Scope = tuple[int, ...]  # numbers of choices, rising


@dataclass(frozen=True, slots=True, kw_only=True)
class Elimination:
    """A step that sums over one choice.

    Args:
        scope: Choices that the result depends on.
        choice: Choice that is eliminated.
        costs: Costs that are added, of shape ``(states, candidates)``; a state is a combination of the candidates of
            the scope.
        source: Number of the earlier step whose sums are added; None for none.
        source_states: State of that step for each of the costs, of shape ``(states, candidates)``.
    """

    scope: Scope
    choice: int
    costs: NDArray[np.float64]
    source: int | None
    source_states: NDArray[np.intp]

    def table(self, costs: NDArray[np.float64], sizes: Sequence[int]) -> Table:
        """Numbers as `costs`, as a table with an axis for each choice.

        Args:
            costs: Numbers of shape ``(states, candidates)``.
            sizes: Number of candidates of each choice.
        """
        axes = (*self.scope, self.choice)
        array = costs.reshape([sizes[axis] for axis in axes])
        return tuple(sorted(axes)), array.transpose(np.argsort(axes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """A step that adds the sums of two earlier steps, where branches of a tree of choices meet.

    Args:
        scope: Choices that the result depends on.
        sources: Numbers of the two steps.
        source_states: States of the two steps for each state of the scope, of shape ``(2, states)``.
    """

    scope: Scope
    sources: tuple[int, int]
    source_states: NDArray[np.intp]


Step = Elimination | Join


def elimination_steps(tables: Sequence[Table], sizes: Sequence[int]) -> list[Step] | None:
    """Steps that sum over all choices. The last one depends on no choice any more.

    Args:
        tables: Tables of costs, as `CostPlan.cost_tables` gives them.
        sizes: Number of candidates of each choice.

    Returns:
        The steps in order; None if one of them would need a table of more than `MAX_CELLS` cells.
    """
    planner = _Planner(list(tables), sizes)
    for component in _components(tables, sizes):
        left = set(component)
        while left:
            choice = min(left, key=lambda item: (planner.n_cells(item), item))
            if planner.n_cells(choice) > MAX_CELLS:
                return None
            planner.eliminate(choice)
            left.remove(choice)
    return planner.steps


def steps_of(plan: CostPlan) -> list[Step] | None:
    """The steps for the costs of a plan; None if too many choices depend on each other at once."""
    try:
        tables = plan.cost_tables()
    except SearchError:
        return None
    return elimination_steps(tables, [len(names) for names in plan.candidates])


class _Planner:
    def __init__(self, tables: list[Table], sizes: Sequence[int]) -> None:
        self.steps: list[Step] = []
        self._tables, self._sizes = tables, sizes
        self._pending: dict[int, Scope] = {}  # steps whose sums were not added yet, and what they depend on

    def eliminate(self, choice: int) -> None:
        """Add the step of a choice, and those that join the sums which depend on it.

        Sums that may be added at this step or later are added now, to a step that has none: this keeps joins rare.
        """
        axes = self._axes(choice)
        sources = [number for number, scope in self._pending.items() if choice in scope]
        sources = sources or [number for number, scope in self._pending.items() if set(scope) <= set(axes)][:1]
        while len(sources) > 1:
            sources = [self._join(sources[0], sources[1]), *sources[2:]]
        scope = tuple(axis for axis in axes if axis != choice)
        shape = [self._sizes[axis] for axis in (*scope, choice)]
        source = sources[0] if sources else None
        inner = self._pending.pop(source) if source is not None else ()
        step = Elimination(
            scope=scope,
            choice=choice,
            costs=self._costs(choice, axes, scope).reshape(-1, self._sizes[choice]),
            source=source,
            source_states=self._states((*scope, choice), inner).reshape(-1, shape[-1]),
        )
        self._tables = [table for table in self._tables if choice not in table[0]]
        self._add(step)

    def n_cells(self, choice: int) -> int:
        """Number of cells of the table of a choice's elimination."""
        return prod(self._sizes[axis] for axis in self._axes(choice))

    def _axes(self, choice: int) -> Scope:
        scopes = [*(rows for rows, _ in self._tables), *self._pending.values()]
        return tuple(sorted({axis for scope in scopes if choice in scope for axis in scope}))

    def _costs(self, choice: int, axes: Scope, scope: Scope) -> NDArray[np.float64]:
        total = np.zeros([self._sizes[axis] for axis in axes])
        for rows, table in self._tables:
            if choice in rows:
                total += table.reshape([self._sizes[axis] if axis in rows else 1 for axis in axes])
        return np.moveaxis(total, axes.index(choice), len(scope))

    def _join(self, first: int, second: int) -> int:
        scopes = self._pending.pop(first), self._pending.pop(second)
        scope = tuple(sorted({*scopes[0], *scopes[1]}))
        states = np.array([self._states(scope, inner).ravel() for inner in scopes])
        return self._add(Join(scope=scope, sources=(first, second), source_states=states))

    def _states(self, axes: Iterable[int], inner: Scope) -> NDArray[np.intp]:
        """The state of the choices `inner` for each combination of the candidates of `axes`."""
        axes = tuple(axes)
        numbers = np.indices([self._sizes[axis] for axis in axes])
        states = np.zeros(numbers.shape[1:], np.intp)
        for axis in inner:
            states = states * self._sizes[axis] + numbers[axes.index(axis)]
        return states

    def _add(self, step: Step) -> int:
        self._pending[len(self.steps)] = step.scope
        self.steps.append(step)
        return len(self.steps) - 1


def _components(tables: Sequence[Table], sizes: Sequence[int]) -> list[list[int]]:
    """The choices that share costs, directly or by others; the sets with the most of them first.

    One set after the other is eliminated, and the sums so far are added to the first step of the next set.
    """
    component = list(range(len(sizes)))
    for rows, _ in tables:
        merged = {component[row] for row in rows}
        component = [min(merged) if number in merged else number for number in component]
    groups: dict[int, list[int]] = {}
    for choice, number in enumerate(component):
        groups.setdefault(number, []).append(choice)
    return sorted(groups.values(), key=len, reverse=True)
