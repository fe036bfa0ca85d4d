"""`Columns`: the values of functions for the architectures that are known."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from latency_nas.search.plan.dependence import depends_on
from latency_nas.search.plan.diagrams import Diagram, Diagrams

__all__ = ["Columns", "numbered"]


class Columns:
    """The values of functions for the known architectures.

    Args:
        diagrams: Functions of the choices.
    """

    def __init__(self, diagrams: Diagrams) -> None:
        self._diagrams = diagrams
        self._rows: list[list[int]] = []
        self._values: dict[Diagram, list[Hashable]] = {}
        self._numbers: dict[Diagram, NDArray[np.intp]] = {}
        self._n_values: dict[Diagram, int] = {}
        self._parts: dict[Hashable, tuple[Diagram, ...]] = {}

    def take(self, rows: NDArray[np.intp]) -> None:
        """Take architectures, of shape ``(architectures, choices)``: those that are known, and then new ones."""
        self._rows = rows.tolist()
        self._numbers.clear()
        self._parts.clear()

    def values(self, function: Diagram) -> list[Hashable]:
        """The value for each architecture."""
        found = self._values.setdefault(function, [])
        found += [self._diagrams.value(function, row) for row in self._rows[len(found) :]]
        return found

    def parts(
        self,
        values: Sequence[Hashable],
        rows: Sequence[int],
        context: tuple[tuple[Diagram, ...], ...],
        previous: tuple[Diagram, ...] | None,
    ) -> tuple[Diagram, ...]:
        """The functions that values in some rows depend on: of the first part of the context, of all, or choices."""
        array = numbered(values)
        functions = (*chain(*context), *map(self._diagrams.choice, range(len(self._diagrams.sizes))))
        key = array.tobytes(), tuple(rows), functions
        if key not in self._parts:
            self._parts[key] = depends_on(
                array,
                {function: self.of(function)[list(rows)] for function in functions},
                {function: self.n_values(function) for function in functions},
                [context[0], functions[: -len(self._diagrams.sizes)]],
                previous,
            )
        return self._parts[key]

    def of(self, function: Diagram) -> NDArray[np.intp]:
        """The values as numbers from 0."""
        if function not in self._numbers:
            self._numbers[function] = numbered(self.values(function))
        return self._numbers[function]

    def n_values(self, function: Diagram) -> int:
        """Number of values of a function, for whatever architecture."""
        if function not in self._n_values:
            self._n_values[function] = len(self._diagrams.values(function))
        return self._n_values[function]


def numbered(values: Sequence[Hashable]) -> NDArray[np.intp]:
    """Numbers from 0, equal where the values are."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], np.intp)
