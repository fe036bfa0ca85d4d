"""`Limited`: the architectures that keep limits on choices, to draw from them uniformly."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import reduce
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from latency_nas.errors import SearchError
from latency_nas.search.plan.diagrams import Diagram, Diagrams
from latency_nas.search.plan.limits import LimitRow

__all__ = ["Limited"]

_MAX_NODES = 50_000  # of the decision diagram


class Limited:
    """The architectures that keep limits, as a decision diagram of the choices in their order.

    Args:
        sizes: Choice -> number of its candidates.
        rows: Limits.

    Raises:
        SearchError: if no architecture keeps the limits, or their sums take too many values.

    Example:
        >>> row = LimitRow((("a", (0.0, 1.0)), ("b", (0.0, 1.0))), 1.0, 1.0)
        >>> drawn = Limited({"a": 2, "b": 2}, [row]).draw(100, np.random.default_rng(0))
        >>> sorted(set(map(tuple, drawn.tolist())))
        [(0, 1), (1, 0)]
    """

    def __init__(self, sizes: Mapping[str, int], rows: Sequence[LimitRow]) -> None:
        self.sizes = tuple(sizes.values())
        self._diagrams = Diagrams(self.sizes)
        numbers = {name: number for number, name in enumerate(sizes)}
        functions = [self._keeping(row, numbers) for row in rows]
        start = self._diagrams.constant(True)
        self._allowed = reduce(self._diagrams.both, functions, start)
        if True not in self._diagrams.values(self._allowed):
            raise SearchError(
                f"Expected limits that an architecture can keep together, but none keeps {' and '.join(map(str, rows))}"
                "."
            )

    def _keeping(self, row: LimitRow, numbers: Mapping[str, int]) -> Diagram:
        """The function that says which architectures keep one limit."""
        weights = sorted((numbers[name], of_choice) for name, of_choice in row.weights)
        least = [*accumulate((min(of_choice) for _, of_choice in reversed(weights)), initial=0.0)][::-1]
        most = [*accumulate((max(of_choice) for _, of_choice in reversed(weights)), initial=0.0)][::-1]
        lower, upper = row.lower - row.slack, row.upper + row.slack
        found: dict[tuple[int, float], Diagram] = {}

        def keeping(position: int, total: float) -> Diagram:
            """The function of the choices from a position on, where those before it have a sum."""
            if total + least[position] >= lower and total + most[position] <= upper:
                return self._diagrams.constant(True)
            if total + least[position] > upper or total + most[position] < lower:
                return self._diagrams.constant(False)
            key = position, round(total, 9)
            if key not in found:
                if len(found) > _MAX_NODES:
                    raise SearchError(f"Expected limits whose sums take few values, but there are too many of {row}.")
                number, of_choice = weights[position]
                found[key] = self._diagrams.branch(number, [keeping(position + 1, total + each) for each in of_choice])
            return found[key]

        return keeping(0, 0.0)

    def draw(
        self,
        n: int,
        random: np.random.Generator,
        picked: Mapping[int, Collection[int]] | None = None,
        weights: Sequence[NDArray[np.float64]] | None = None,
    ) -> NDArray[np.intp]:
        """Random architectures within the limits, each of them equally likely, of shape ``(n, choices)``.

        Args:
            n: Number of architectures.
            random: Generator.
            picked: Number of a choice -> the candidates that it may have; the others may have any. There are no
                architectures in the result if none keeps the limits with these.
            weights: Weights of each choice's candidates: an architecture is as likely as the product of its own. None
                for weights that are equal.
        """
        share = self._shares(picked or {}, weights)
        rows = np.empty((n, len(self.sizes)), np.intp)
        if share(self._allowed) == 0:
            return rows[:0]
        nodes = np.full(n, self._allowed)
        for number, size in enumerate(self.sizes):
            for node in np.unique(nodes).tolist():
                at = np.flatnonzero(nodes == node)
                children = self._diagrams.children(node, number)
                likely = share.weights[number] * [share(child) for child in children]
                rows[at, number] = random.choice(size, len(at), p=likely / likely.sum())
                nodes[at] = np.asarray(children)[rows[at, number]]
        return rows

    def allows(self, picked: Mapping[int, Collection[int]]) -> bool:
        """Whether an architecture keeps the limits with some candidates of choices, as `draw` takes them."""
        return self._shares(picked, None)(self._allowed) > 0

    def keeps(self, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Which architectures, of shape ``(architectures, choices)``, keep the limits."""
        return np.array([self._diagrams.value(self._allowed, row) for row in rows.tolist()], bool)

    def _shares(self, picked: Mapping[int, Collection[int]], weights: Sequence[NDArray[np.float64]] | None) -> _Shares:
        own = []
        for number, size in enumerate(self.sizes):
            of_choice = np.ones(size) if weights is None else np.asarray(weights[number], np.float64)
            kept = np.isin(np.arange(size), list(picked[number])) if number in picked else np.ones(size, bool)
            own.append(np.where(kept, of_choice, 0.0) / (of_choice[kept].sum() or 1.0))
        return _Shares(self._diagrams, own)


class _Shares:
    """The share of the architectures below each node that is allowed, by the weights of candidates."""

    def __init__(self, diagrams: Diagrams, weights: Sequence[NDArray[np.float64]]) -> None:
        self._diagrams, self.weights = diagrams, weights
        self._found: dict[Diagram, float] = {}

    def __call__(self, node: Diagram) -> float:
        if node not in self._found:
            number = self._diagrams.first_choice(node)
            if number is None:
                self._found[node] = float(self._diagrams.value(node, ()))
            else:
                shares = [self(child) for child in self._diagrams.children(node, number)]
                self._found[node] = float(self.weights[number] @ shares)
        return self._found[node]
