"""`SumTables`: what the summands of a plan add, as few tables over one or a few choices each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.plan.terms import cells

__all__ = ["Picks", "Scope", "SumTables"]

_MAX_CELLS = 4096  # cells of a table over several choices, or ...
_CELLS_PER_TERM = 64  # ... so many for each of its terms
_MAX_PAIR_CELLS = 1 << 16

Scope = tuple[int, ...]  # numbers of choices, ascending
Picks = tuple[tuple[int, NDArray[np.intp]], ...]  # numbers of choices, and candidates of each


@dataclass(frozen=True, slots=True, kw_only=True)
class SumTables:
    """Sums of several quantities (cost, variance ...) over the chosen summands of a plan, as sums of cells of tables.

    Args:
        fixed: Sums of what does not depend on any choice, of shape ``(quantities,)``.
        tables: Sums that depend on a set of choices, for some sets: an axis for each choice, and one for the
            quantities.
        rare: Terms over so many combinations of candidates that they have no table: the candidates that make a term 1,
            and what it adds, of shape ``(quantities,)``.
    """

    fixed: NDArray[np.float64]
    tables: dict[Scope, NDArray[np.float64]]
    rare: tuple[tuple[Picks, NDArray[np.float64]], ...]

    @classmethod
    def of(cls, plan: CostPlan, quantities: NDArray[np.float64]) -> SumTables:
        """Tables of as few sets of choices as possible.

        Args:
            plan: Plan whose choices and terms are meant.
            quantities: What each summand adds, in the order of `CostPlan.summands`, of shape
                ``(quantities, summands)``.
        """
        sizes, columns = [len(names) for names in plan.candidates], quantities.T
        fixed, rare = columns[0].copy(), list[tuple[Picks, NDArray[np.float64]]]()
        tables: dict[Scope, NDArray[np.float64]] = {
            (row,): columns[1 + start : 1 + start + size]
            for row, (start, size) in enumerate(zip(plan.offsets.tolist(), sizes, strict=False))
        }
        of_terms = columns[1 + plan.n_gates :]
        for scope, terms in _terms_by_scope(plan).items():
            shape = [sizes[row] for row in scope]
            if not scope:
                fixed += sum(of_terms[number] for number, _ in terms)
            elif prod(shape) <= max(_MAX_CELLS, _CELLS_PER_TERM * len(terms)):
                table = np.zeros((*shape, len(fixed)))
                for number, cell in terms:
                    table[cell] += of_terms[number]
                tables[scope] = tables.get(scope, 0.0) + table
            else:
                rare += [
                    (tuple(zip(scope, map(np.ravel, cell), strict=True)), of_terms[number]) for number, cell in terms
                ]
        return cls(fixed=fixed, tables=_joined(tables, sizes), rare=tuple(rare))

    @property
    def n_parts(self) -> int:
        """Number of numbers that a sum consists of, without the fixed one."""
        return len(self.tables) + len(self.rare)

    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """A lower and an upper bound of each sum, each of shape ``(quantities,)``."""
        none = np.zeros((0, len(self.fixed)))
        added = np.array([*none, *(numbers for _, numbers in self.rare)]).reshape(-1, len(self.fixed))
        tables = [table.reshape(-1, len(self.fixed)) for table in self.tables.values() if table.size]
        lowest = self.fixed + sum(table.min(0) for table in tables) + np.minimum(added, 0).sum(0)
        highest = self.fixed + sum(table.max(0) for table in tables) + np.maximum(added, 0).sum(0)
        return lowest, highest


def _terms_by_scope(plan: CostPlan) -> dict[Scope, list[tuple[int, tuple[NDArray[np.intp], ...]]]]:
    """For each set of choices its terms: their numbers and their cells. A term of two candidates of one choice is 0."""
    found: dict[Scope, list[tuple[int, tuple[NDArray[np.intp], ...]]]] = {}
    for number, term in enumerate(plan.terms):
        rows, cell = cells(replace(term, candidates=tuple(dict.fromkeys(term.candidates))), plan.offsets)
        if len(set(rows)) == len(rows):
            found.setdefault(rows, []).append((number, cell))
    return found


def _joined(tables: dict[Scope, NDArray[np.float64]], sizes: Sequence[int]) -> dict[Scope, NDArray[np.float64]]:
    """Add up tables whose choices are all in another one, and those of two neighbours."""
    joined: dict[Scope, NDArray[np.float64]] = {}

    def add(target: Scope, scope: Scope) -> None:
        shape = [sizes[row] if row in scope else 1 for row in target]
        table = tables[scope].reshape(*shape, tables[scope].shape[-1])
        if target not in joined:
            joined[target] = np.zeros((*(sizes[row] for row in target), table.shape[-1]))
        joined[target] += table

    for scope in sorted(tables, key=len, reverse=True):
        add(next((other for other in joined if set(scope) <= set(other)), scope), scope)
    alone = {scope[0] for scope in joined if len(scope) == 1}
    for first in sorted(alone):
        is_small = first + 1 in alone and sizes[first] * sizes[first + 1] <= _MAX_PAIR_CELLS
        if first % 2 == 0 and is_small:
            for row in (first, first + 1):
                del joined[row,]
                add((first, first + 1), (row,))
    return joined
