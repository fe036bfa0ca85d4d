"""`DerivedNetworks`: the networks that were derived from architectures, and how often they run each kernel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from latency_nas.kernel.kernel_call import KernelCall
from latency_nas.search.plan.covering import MAX_LISTED, every_row, new_rows
from latency_nas.search.plan.features import Feature
from latency_nas.search.plan.limited import Limited
from latency_nas.search.plan.limits import LimitRow
from latency_nas.search.plan.space import Space

__all__ = ["DerivedNetworks"]

_MAX_FAILED = 30  # features that an architecture with others cannot have, before no more are tried


class DerivedNetworks:
    """The derived networks that were read.

    Args:
        space: Architectures, with the kernels of the network that is derived for each.
        price_key: Function that gives a key for everything that a call's price depends on.
        limits: Limits on choices, which all architectures keep.
        random: Generator of the architectures.

    Attributes:
        rows: Indices of candidates, of shape ``(architectures, choices)``.
        calls: Price key -> the first call that has it.
        excluded: Number of a choice and index of its candidate, for those that no architecture has.
    """

    def __init__(
        self,
        space: Space,
        price_key: Callable[[KernelCall], Hashable],
        limits: Sequence[LimitRow],
        random: np.random.Generator,
    ) -> None:
        self.space, self._price_key, self._random = space, price_key, random
        self.names, self.sizes = list(space.candidates), [len(names) for names in space.candidates.values()]
        self.limited = Limited(dict(zip(self.names, self.sizes, strict=True)), limits)
        self.rows = np.zeros((0, len(self.sizes)), np.intp)
        self.calls: dict[Hashable, KernelCall] = {}
        self._runs: list[Counter[Hashable]] = []  # of each architecture: how often each kernel runs
        self._weights = self._weights_of(limits)
        candidates = [(number, index) for number, size in enumerate(self.sizes) for index in range(size)]
        self.excluded = [each for each in candidates if not self.limited.allows({each[0]: (each[1],)})]

    def _weights_of(self, limits: Sequence[LimitRow]) -> list[NDArray[np.float64]]:
        """A weight for each candidate: candidates that count alike in a limit have a weight of 1 together."""
        weights = [np.ones(size) for size in self.sizes]
        for limit in limits:
            for name, counted in limit.weights:
                weights[self.names.index(name)] = np.array([1 / counted.count(number) for number in counted])
        return weights

    @property
    def is_small(self) -> bool:
        """Whether the space is small enough to be read whole."""
        return prod(self.sizes) <= MAX_LISTED

    def every(self) -> NDArray[np.intp]:
        """All architectures of a small space within the limits."""
        rows = every_row(self.sizes)
        return rows[self.limited.keeps(rows)]

    def drawn(self, n: int) -> NDArray[np.intp]:
        """Random architectures: half of them uniform, half with equal shares of what limits tell apart.

        Of the architectures with two edges or fewer, those with one edge are few, but differ most from the others.
        """
        by_class = self.limited.draw(n // 2, self._random, weights=self._weights)
        return np.concatenate([by_class, self.limited.draw(n - n // 2, self._random)])

    def showing(self, features: Sequence[Feature], n_seen: int) -> NDArray[np.intp]:
        """Architectures in which each feature that the limits allow is seen `n_seen` times or more.

        Each has features that are still to be seen, in random order, as far as the limits allow.
        """
        possible = [picks for feature in features if self.limited.allows(picks := self._picks(feature))]
        left, rows = np.full(len(possible), n_seen), list[NDArray[np.intp]]()
        while (left > 0).any():
            picked: dict[int, frozenset[int]] = {}
            n_failed = 0
            for number in self._random.permutation(np.flatnonzero(left > 0)).tolist():
                more = picked | {row: picked.get(row, some) & some for row, some in possible[number].items()}
                if all(more.values()) and self.limited.allows(more):
                    picked = more
                else:
                    n_failed += 1
                if n_failed > _MAX_FAILED:
                    break
            [row] = self.limited.draw(1, self._random, picked)
            rows.append(row)
            left -= [all(row[number] in some for number, some in picks.items()) for picks in possible]
        return np.array(rows, np.intp).reshape(-1, len(self.sizes))

    def _picks(self, feature: Feature) -> dict[int, frozenset[int]]:
        """The candidates that a feature has of each of its choices."""
        offsets = np.cumsum([0, *self.sizes])
        rows = [int(np.searchsorted(offsets, group[0], side="right")) - 1 for group in feature]
        return {
            row: frozenset((np.array(group) - offsets[row]).tolist()) for row, group in zip(rows, feature, strict=True)
        }

    def read(self, rows: NDArray[np.intp]) -> None:
        """Derive and read architectures, without those that are known."""
        new = new_rows(rows, self.rows)
        for row in new:
            calls = self.space.calls(dict(zip(self.names, map(int, row), strict=True)))
            keys = [self._price_key(call) for call in calls]
            for key, call in zip(keys, calls, strict=True):
                self.calls.setdefault(key, call)
            self._runs.append(Counter(keys))
        self.rows = np.array([*self.rows, *new], np.intp).reshape(-1, len(self.sizes))

    def counts(self, key: Hashable) -> NDArray[np.intp]:
        """How often each architecture runs a kernel, of shape ``(architectures,)``."""
        return np.array([run[key] for run in self._runs], np.intp)
