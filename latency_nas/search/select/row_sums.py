"""`RowSums`: sums over the chosen summands of a plan for many architectures at once, by few and small tables.

A plan's costs of one choice, of two neighbours, and its terms become tables over one or a few choices. A table has a
row of several quantities (cost, variance ...) for each combination of candidates, so that one lookup adds all of them.
Rows of bytes are read two at a time: the bytes of two neighbouring choices are the number a + 256 b of a cell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from latency_nas.search.plan.many import Rows
from latency_nas.search.plan.plan import CostPlan

__all__ = ["BLOCK", "RowSums", "index_dtype"]

BLOCK = 4096  # rows of a block: its sums and indices fit a core's cache
_BYTE = 256
_MAX_CELLS = 4096  # cells of a table over several choices, or ...
_CELLS_PER_TERM = 64  # ... so many for each of its terms
_WHOLE_COPIES = (1, 2, 4, 8)  # numbers of float32 for which NumPy's `take` has a copy of its own

_Scope = tuple[int, ...]  # numbers of choices, ascending


def index_dtype(plan: CostPlan) -> np.dtype[Any]:
    """The smallest type of unsigned integers that holds the indices of all candidates.

    Example:
        >>> from latency_nas.search.plan.cost import Cost
        >>> costs = tuple(Cost(value=1.0) for _ in range(300))
        >>> names = tuple(map(str, range(300)))
        >>> index_dtype(CostPlan(choices=("a",), candidates=(names,), costs=(costs,), fixed=Cost(value=0.0)))
        dtype('uint16')
    """
    return np.min_scalar_type(max(1, *map(len, plan.candidates)) - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lookup:
    """A table over some choices: the cell of a row is the sum of its indices times the strides."""

    columns: _Scope
    strides: tuple[int, ...]
    table: NDArray[Any]  # of shape (cells, quantities)

    @property
    def is_pair(self) -> bool:
        """Whether two neighbouring bytes of a row are the number of the cell."""
        return len(self.columns) == 2 and self.columns[1] == self.columns[0] + 1 and self.strides == (1, _BYTE)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSums:
    """Sums of several quantities over the chosen summands of a plan.

    Args:
        fixed: Sums of what does not depend on any choice, of shape ``(quantities,)``.
        lookups: Tables over one or a few choices.
        rare: Terms over so many combinations of candidates that they have no table: the choices and the candidates that
            make a term 1, and what it adds, of shape ``(quantities,)``.
        dtype: Type to which indices are converted.
        largest: Sum of the largest absolute numbers of all tables, for each quantity, of shape ``(quantities,)``.
    """

    fixed: NDArray[Any]
    lookups: tuple[_Lookup, ...]
    rare: tuple[tuple[tuple[tuple[int, int], ...], NDArray[Any]], ...]
    dtype: np.dtype[Any]
    largest: NDArray[np.float64]

    @classmethod
    def of(cls, plan: CostPlan, quantities: NDArray[np.float64], dtype: DTypeLike = np.float64) -> RowSums:
        """Make the tables of a plan.

        Args:
            plan: Plan whose choices and terms are meant.
            quantities: What each summand adds, in the order of `CostPlan.summands`, of shape
                ``(quantities, summands)``.
            dtype: Type of the tables and of the sums.
        """
        n_quantities = len(quantities)
        padded = next((n for n in _WHOLE_COPIES if n >= n_quantities), n_quantities)
        columns = np.zeros((quantities.shape[1], padded))
        columns[:, :n_quantities] = quantities.T
        scopes = _Scopes(plan, columns)
        bytewise = index_dtype(plan) == np.uint8
        lookups = tuple(_lookup(scope, table, bytewise, dtype) for scope, table in scopes.joined().items())
        rare = tuple((candidates, added.astype(dtype)) for candidates, added in scopes.rare)
        parts = [abs(scopes.fixed), *(abs(added) for _, added in scopes.rare)]
        parts += [abs(table).reshape(-1, padded).max(0, initial=0.0) for table in scopes.tables.values()]
        return cls(
            fixed=scopes.fixed.astype(dtype),
            lookups=lookups,
            rare=rare,
            dtype=np.dtype(np.uint8 if bytewise else np.intp),
            largest=np.sum(parts, 0)[:n_quantities],
        )

    def blocks(self, rows: Rows) -> Iterator[tuple[int, NDArray[Any]]]:
        """The sums of each quantity, block by block.

        Args:
            rows: Indices of candidates within their ranges, of shape ``(architectures, choices)``.

        Yields:
            The number of a block's first row, and its sums, of shape ``(quantities, rows of the block)``. The array is
            used again for the next block.
        """
        n = min(len(rows), BLOCK)
        total, found = (np.empty((n, len(self.fixed)), self.fixed.dtype) for _ in range(2))
        by_quantity = np.empty((len(self.largest), n), self.fixed.dtype)
        for start in range(0, len(rows), BLOCK):
            block = np.ascontiguousarray(rows[start : start + BLOCK], self.dtype)
            n = len(block)
            self._add_up(block, total[:n], found[:n])
            np.copyto(by_quantity[:, :n], total[:n, : len(self.largest)].T)
            yield start, by_quantity[:, :n]

    def _add_up(self, block: Rows, total: NDArray[Any], found: NDArray[Any]) -> None:
        """Write the sums of a block to `total`, by means of `found`, both of shape ``(rows, quantities)``."""
        total[:] = self.fixed
        for lookup, cells in zip(self.lookups, self._cells(block), strict=True):
            np.take(lookup.table, cells, 0, out=found, mode="clip")
            np.add(total, found, out=total)
        for candidates, added in self.rare:
            chosen = np.logical_and.reduce([block[:, column] == index for column, index in candidates])
            total[chosen] += added

    def _cells(self, block: Rows) -> Iterator[NDArray[np.intp]]:
        """For each lookup the cell of each row."""
        pairs: dict[int, NDArray[np.intp]] = {}
        for lookup in self.lookups:
            if lookup.is_pair:
                number, is_odd = divmod(lookup.columns[0], 2)
                if is_odd not in pairs:
                    pairs[is_odd] = _byte_pairs(block[:, is_odd:])
                yield pairs[is_odd][number]
                continue
            cells = block[:, lookup.columns[0]].astype(np.intp)
            for column, stride in zip(lookup.columns[1:], lookup.strides[1:], strict=True):
                cells += np.multiply(block[:, column], stride, dtype=np.intp)
            yield cells


def _byte_pairs(block: Rows) -> NDArray[np.intp]:
    """The numbers a + 256 b of columns 0 and 1, 2 and 3 ..., of shape ``(pairs, architectures)``."""
    even = np.ascontiguousarray(block[:, : block.shape[1] // 2 * 2]).view("<u2")
    return np.ascontiguousarray(even.T, np.intp)


def _lookup(scope: _Scope, table: NDArray[np.float64], bytewise: bool, dtype: DTypeLike) -> _Lookup:
    sizes, n_quantities = table.shape[:-1], table.shape[-1]
    if bytewise and len(scope) == 2:
        padded = np.zeros((sizes[1], _BYTE, n_quantities))
        padded[:, : sizes[0]] = table.swapaxes(0, 1)
        cells = padded.reshape(-1, n_quantities)[: _BYTE * (sizes[1] - 1) + sizes[0]]
        return _Lookup(columns=scope, strides=(1, _BYTE), table=cells.astype(dtype))
    axes = (*reversed(range(len(scope))), len(scope))  # the first choice varies fastest
    strides = tuple(prod(sizes[:number]) for number in range(len(scope)))
    cells = np.ascontiguousarray(table.transpose(axes)).reshape(-1, n_quantities)
    return _Lookup(columns=scope, strides=strides, table=cells.astype(dtype))


class _Scopes:
    """Tables over sets of choices, with an axis for each choice and one for the quantities."""

    def __init__(self, plan: CostPlan, columns: NDArray[np.float64]) -> None:
        self.sizes = [len(names) for names in plan.candidates]
        self.fixed = columns[0].copy()
        self.rare: list[tuple[tuple[tuple[int, int], ...], NDArray[np.float64]]] = []
        self.tables: dict[_Scope, NDArray[np.float64]] = {
            (row,): columns[1 + start : 1 + start + size]
            for row, (start, size) in enumerate(zip(plan.offsets.tolist(), self.sizes, strict=False))
        }
        for scope, terms in _terms_by_scope(plan).items():
            self._add_terms(scope, terms, columns[1 + plan.n_gates :])

    def _add_terms(self, scope: _Scope, terms: Sequence[tuple[int, _Scope]], columns: NDArray[np.float64]) -> None:
        sizes = [self.sizes[row] for row in scope]
        if not scope:
            self.fixed += sum(columns[number] for number, _ in terms)
        elif prod(sizes) <= max(_MAX_CELLS, _CELLS_PER_TERM * len(terms)):
            table = np.zeros((*sizes, columns.shape[1]))
            for number, cell in terms:
                table[cell] += columns[number]
            self.tables[scope] = self.tables.get(scope, 0.0) + table
        else:
            self.rare += [(tuple(zip(scope, cell, strict=True)), columns[number]) for number, cell in terms]

    def joined(self) -> dict[_Scope, NDArray[np.float64]]:
        """The tables; those whose choices are all in another one, and those of two neighbours, are added up."""
        largest_first = sorted(self.tables, key=len, reverse=True)
        joined: dict[_Scope, NDArray[np.float64]] = {}
        for scope in largest_first:
            self._add(joined, next((other for other in joined if set(scope) <= set(other)), scope), scope)
        alone = [scope[0] for scope in joined if len(scope) == 1]
        for first in alone:
            pair = (first, first + 1)
            is_small = first + 1 in alone and self.sizes[first] * self.sizes[first + 1] <= _BYTE**2
            if first % 2 == 0 and is_small:
                for scope in ((first,), (first + 1,)):
                    del joined[scope]
                    self._add(joined, pair, scope)
        return joined

    def _add(self, joined: dict[_Scope, NDArray[np.float64]], target: _Scope, scope: _Scope) -> None:
        """Add the table of `scope` to that of `target`, whose choices contain its choices."""
        table = self.tables[scope]
        if target not in joined:
            joined[target] = np.zeros((*(self.sizes[row] for row in target), table.shape[-1]))
        shape = [self.sizes[row] if row in scope else 1 for row in target]
        joined[target] += table.reshape(*shape, table.shape[-1])


def _terms_by_scope(plan: CostPlan) -> dict[_Scope, list[tuple[int, _Scope]]]:
    """For each set of choices its terms: their numbers and their candidates. A term of two candidates of one is 0."""
    found: dict[_Scope, list[tuple[int, _Scope]]] = {}
    for number, term in enumerate(plan.terms):
        gates = np.unique(np.array(term.candidates, np.intp))
        rows = np.searchsorted(plan.offsets, gates, side="right") - 1
        if len(set(rows.tolist())) == len(rows):
            cell = tuple((gates - plan.offsets[rows]).tolist())
            found.setdefault(tuple(rows.tolist()), []).append((number, cell))
    return found
