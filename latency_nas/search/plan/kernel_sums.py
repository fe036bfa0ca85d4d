"""`KernelSums`: how often derived networks run each kernel, as sums of features of their architectures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from latency_nas.search.plan.derived_networks import DerivedNetworks
from latency_nas.search.plan.features import Feature, activity, explained, single_features

__all__ = ["KernelSums"]

_N_SEEN = 2  # networks in which each feature is seen, at least
_RANGE = 3.0  # of the logarithms of factors, which give other solutions
_N_OTHERS = 5  # further solutions that are compared with the first one
_N_COMPARED = 512  # architectures for which they are compared
_N_ASKED = 8  # architectures that are read at once, since solutions differ there


class KernelSums:
    """The features whose sum says how often each kernel runs.

    Few networks can be explained in several ways. So several solutions are compared on architectures that were not
    read, and those are read next on which they differ (query by committee).

    Args:
        networks: Derived networks.
        random: Generator of architectures and of solutions.

    Attributes:
        features: Features that may explain kernels.
        sums: Price key -> features, with their factors.

    References:
        Seung, Opper and Sompolinsky, Query by committee, COLT 1992.
    """

    def __init__(self, networks: DerivedNetworks, random: np.random.Generator) -> None:
        self.networks, self._random = networks, random
        self.features: list[Feature] = []
        self.use(single_features(networks.sizes))
        self.sums: dict[Hashable, dict[Feature, int]] = {}
        self._n_singles = len(self.features)
        self._settled: set[Hashable] = set()  # kernels whose solutions do not differ
        self._compared = networks.drawn(_N_COMPARED)

    def use(self, features: Sequence[Feature]) -> None:
        """Explain kernels by further features, each of which is seen in some networks, if the limits allow it."""
        if not self.networks.is_small:
            self.networks.read(self.networks.showing(features, _N_SEEN))
        self.features = list(dict.fromkeys([*self.features, *features]))
        self._numbers = {feature: number for number, feature in enumerate(self.features)}

    def fit(self) -> list[Hashable]:
        """Explain every kernel; those that no sum of features gives."""
        parted = list[Hashable]()
        active = activity(self.features, self.networks.rows, self.networks.sizes)
        for keys in self._columns([key for key in self.networks.calls if not self._holds(key, active, 0)]):
            found = self._solution(keys[0], active)
            self.sums |= dict.fromkeys(keys, found)
            self._settled -= set(keys)
            parted += [] if found else keys
        return parted

    def doubtful(self) -> NDArray[np.intp]:
        """Architectures on which other solutions differ from those that were found."""
        active = activity(self.features, self.networks.rows, self.networks.sizes)
        compared = activity(self.features, self._compared, self.networks.sizes)
        differing = []
        for keys in self._columns([key for key in self.networks.calls if key not in self._settled]):
            first = self._sum(self.sums[keys[0]], compared)
            others = [self._solution(keys[0], active, vary=True) for _ in range(_N_OTHERS)]
            differs = np.any([self._sum(other, compared) != first for other in others], axis=0)
            if differs.any():
                differing.append(differs)
            else:
                self._settled |= set(keys)
        asked: list[int] = []
        while differing and len(asked) < _N_ASKED:
            asked.append(int(np.sum(differing, axis=0).argmax()))
            differing = [differs for differs in differing if not differs[asked[-1]]]
        return self._compared[asked]

    def hold(self, n_before: int) -> bool:
        """Whether all sums are right for the architectures that were read after the first `n_before`."""
        active = activity(self.features, self.networks.rows[n_before:], self.networks.sizes)
        return all(self._holds(key, active, n_before) for key in self.networks.calls)

    def _solution(self, key: Hashable, active: NDArray[np.bool_], *, vary: bool = False) -> dict[Feature, int]:
        """Features that explain a kernel: of single candidates, if these do; with `vary` some at random."""
        counts = self.networks.counts(key)
        factors = np.exp(self._random.uniform(0, _RANGE, len(self.features))) if vary else None
        for n in dict.fromkeys((self._n_singles, len(self.features))):
            if found := explained(counts, self.features[:n], active[:, :n], factors):
                return found
        return {}

    def _columns(self, keys: Sequence[Hashable]) -> list[list[Hashable]]:
        """Kernels that run equally often in all networks, together."""
        columns: dict[bytes, list[Hashable]] = defaultdict(list)
        for key in keys:
            columns[self.networks.counts(key).tobytes()].append(key)
        return list(columns.values())

    def _holds(self, key: Hashable, active: NDArray[np.bool_], n_before: int) -> bool:
        return np.array_equal(self._sum(self.sums.get(key, {}), active), self.networks.counts(key)[n_before:])

    def _sum(self, features: dict[Feature, int], active: NDArray[np.bool_]) -> NDArray[np.intp]:
        total = np.zeros(len(active), np.intp)
        for feature, times in features.items():
            total += times * active[:, self._numbers[feature]]
        return total
