"""`RowSums`: sums over the chosen summands of a plan for many architectures at once, by few and small tables.

A table has a row of several quantities (cost, variance ...) for each combination of candidates, so that one lookup adds
all of them. Rows of bytes are read two at a time: the bytes of two neighbouring choices are the number a + 256 b of a
cell.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_nas.search.plan.many import Rows
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.sum_tables import Picks, Scope, SumTables

__all__ = ["BLOCK", "RowSums", "index_dtype"]

BLOCK = 8192  # rows of a block: its sums and indices fit a core's cache
_BYTE = 256
_WHOLE_COPIES = (1, 2, 4, 8, 16)  # numbers of integers of 16 bits for which NumPy's `take` has a copy of its own
_LARGEST = 2**16 - 1  # of an integer of 16 bits
_ROUNDING = 2.0**-24  # largest relative rounding error of a float32


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

    columns: Scope
    strides: tuple[int, ...]
    table: NDArray[Any]  # of shape (cells, quantities)

    @property
    def is_pair(self) -> bool:
        """Whether two neighbouring bytes of a row are the number of the cell."""
        return len(self.columns) == 2 and self.columns[1] == self.columns[0] + 1 and self.strides == (1, _BYTE)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSums:
    """Sums of several quantities: offsets + steps x (cells of tables + terms).

    Args:
        lookups: Tables over one or a few choices.
        rare: Terms that have no table: the candidates that make a term 1, and what it adds, of shape ``(quantities,)``.
        offsets: Offset of each quantity.
        steps: Step of each quantity.
        errors: Largest error of each sum, of shape ``(quantities,)``.
        index_type: Type to which indices are converted.
    """

    lookups: tuple[_Lookup, ...]
    rare: tuple[tuple[Picks, NDArray[Any]], ...]
    offsets: NDArray[Any]
    steps: NDArray[Any]
    errors: NDArray[np.float64]
    index_type: np.dtype[Any]

    @classmethod
    def exact(cls, plan: CostPlan, tables: SumTables) -> RowSums:
        """Sums in float64."""
        is_bytes = index_dtype(plan) == np.uint8
        return cls(
            lookups=tuple(_lookup(scope, table, is_bytes) for scope, table in tables.tables.items()),
            rare=tables.rare,
            offsets=tables.fixed,
            steps=np.ones_like(tables.fixed),
            errors=np.zeros_like(tables.fixed),
            index_type=np.dtype(np.uint8 if is_bytes else np.intp),
        )

    @classmethod
    def coarse(cls, plan: CostPlan, tables: SumTables) -> RowSums:
        """Sums in float32 of multiples of a step, which are integers of 16 bits: twice as fast.

        Each table begins at 0, so that no sum of integers exceeds 16 bits. (Terms without a table may be negative:
        the integers may then wrap around on the way to their sum, which lies within the range again.)
        """
        is_bytes = index_dtype(plan) == np.uint8
        lowest, highest = tables.bounds()
        n_quantities, n_free = len(lowest), _LARGEST - tables.n_parts
        steps = np.where(highest > lowest, (highest - lowest) / max(n_free, 1), 1.0)
        rare = [(picks, np.rint(added / steps)) for picks, added in tables.rare]
        below = sum((np.minimum(added, 0) for _, added in rare), np.zeros(n_quantities))
        offsets, lookups = tables.fixed + below * steps, list[_Lookup]()
        for scope, table in tables.tables.items():
            lowest_cell = table.reshape(-1, n_quantities).min(0, initial=np.inf) if table.size else 0.0
            offsets = offsets + lowest_cell
            lookups.append(_lookup(scope, _integers(np.rint((table - lowest_cell) / steps) - below), is_bytes))
            below = np.zeros(n_quantities)
        rounding = 4 * _ROUNDING * np.maximum(abs(lowest), abs(highest))
        return cls(
            lookups=tuple(lookups),
            rare=tuple((picks, _integers(added)) for picks, added in rare),
            offsets=offsets.astype(np.float32),
            steps=steps.astype(np.float32),
            errors=tables.n_parts / 2 * steps + rounding if n_free > 0 else np.full(n_quantities, np.inf),
            index_type=np.dtype(np.uint8 if is_bytes else np.intp),
        )

    def blocks(self, rows: Rows) -> Iterator[tuple[int, NDArray[Any]]]:
        """The sums of each quantity, block by block.

        Args:
            rows: Indices of candidates within their ranges, of shape ``(architectures, choices)``.

        Yields:
            The number of a block's first row, and its sums, of shape ``(quantities, rows of the block)``. The array is
            used again for the next block.
        """
        n, n_quantities = min(len(rows), BLOCK), len(self.offsets)
        tables = [lookup.table for lookup in self.lookups] or [np.zeros((0, n_quantities), self.steps.dtype)]
        total, found = (np.zeros((n, tables[0].shape[1]), tables[0].dtype) for _ in range(2))
        sums = np.empty((n_quantities, n), self.offsets.dtype)
        for start in range(0, len(rows), BLOCK):
            block = np.ascontiguousarray(rows[start : start + BLOCK], self.index_type)
            n = len(block)
            self._add_up(block, total[:n], found[:n])
            np.copyto(sums[:, :n], total[:n, :n_quantities].T)
            sums *= self.steps[:, None]
            sums += self.offsets[:, None]
            yield start, sums[:, :n]

    def _add_up(self, block: Rows, total: NDArray[Any], found: NDArray[Any]) -> None:
        """Write the sums of cells and terms to `total`, by means of `found`, both of shape ``(rows, quantities)``."""
        for number, cells in enumerate(self._cells(block)):
            np.take(self.lookups[number].table, cells, 0, out=found if number else total, mode="clip")
            if number:
                np.add(total, found, out=total)
        for picks, added in self.rare:
            chosen = np.logical_and.reduce([np.isin(block[:, column], some) for column, some in picks])
            total[chosen, : len(added)] += added

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


def _integers(numbers: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Whole numbers as unsigned integers of 16 bits; negative ones wrap around."""
    return numbers.astype(np.int64).astype(np.uint16)


def _byte_pairs(block: Rows) -> NDArray[np.intp]:
    """The numbers a + 256 b of columns 0 and 1, 2 and 3 ..., of shape ``(pairs, architectures)``."""
    even = np.ascontiguousarray(block[:, : block.shape[1] // 2 * 2]).view("<u2")
    return np.ascontiguousarray(even.T, np.intp)


def _lookup(scope: Scope, table: NDArray[Any], is_bytes: bool) -> _Lookup:
    """A table with its cells in the order of their numbers, the first choice fastest, and padded quantities."""
    sizes, n_quantities = list(table.shape[:-1]), table.shape[-1]
    if is_bytes and len(scope) == 2:
        sizes[0] = _BYTE
    width = next((size for size in _WHOLE_COPIES if size >= n_quantities), n_quantities)
    padded = np.zeros((*sizes[::-1], width), table.dtype)
    padded[..., : table.shape[0], :n_quantities] = table.transpose(*reversed(range(len(scope))), len(scope))
    strides = tuple(prod(sizes[:number]) for number in range(len(scope)))
    return _Lookup(columns=scope, strides=strides, table=padded.reshape(-1, width))
