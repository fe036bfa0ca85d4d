"""A regressor for kernels that a table lacks: one model per kernel family, on the logarithm of the latency."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from latency_nas.estimate.regressor.choice_of_form import Choice, choose_form
from latency_nas.estimate.regressor.family import FamilyModel, Rows
from latency_nas.estimate.regressor.features import feature_matrix
from latency_nas.estimate.regressor.fit_cache import read_choice, shipped_folders, write_choice
from latency_nas.kernel import Kernel, n_macs
from latency_nas.table import LatencyTable

__all__ = ["KernelRegressor", "Regressed", "rows_of", "shape_of"]

_MIN_ROWS = 8  # fewer rows of a family are no ground for a regression
_MIN_ROWS_CACHED = 1000  # a smaller family is fitted in about a second
_Key = tuple[str, str]  # family, dtype
_SMALL = "ops that only touch memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Regressed:
    """A regressed latency.

    Args:
        latency_ms: the prediction, in milliseconds.
        std_ms: one standard deviation: with a chance of 90 % the latency is within a factor of
            exp(1.645 std_ms / latency_ms), by the errors of rows that were left out.
        extrapolated: whether the kernel lies outside what the table covers.
    """

    latency_ms: float
    std_ms: float
    extrapolated: bool


@dataclass(frozen=True, slots=True)
class _Family:
    model: FamilyModel
    choice: Choice
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    shapes: frozenset[str]

    def predict(self, kernels: Sequence[Kernel]) -> list[Regressed]:
        x = feature_matrix(kernels)
        seen = np.array([shape_of(kernel) in self.shapes for kernel in kernels])
        order = np.argsort(x[:, 0])  # like kernels in a row take the same ways: a twentieth less time
        latency_ms, variance = np.empty((2, len(x)))
        guesses, variance[order] = self.model.forms(x[order])
        latency_ms[order] = np.exp(guesses[self.choice.form])
        std_ms = latency_ms * self.choice.deviation(variance, latency_ms, seen)
        outside = ((x < self.low - 1e-9) | (x > self.high + 1e-9)).any(axis=1)
        outside |= self.choice.difficulty(variance) > self.choice.farthest
        columns = (latency_ms.tolist(), std_ms.tolist(), outside.tolist())
        return [Regressed(latency_ms=t, std_ms=s, extrapolated=o) for t, s, o in zip(*columns, strict=True)]


def shape_of(kernel: Kernel) -> str:
    """What kernels that differ in channels alone share: near-duplicates, which stay on one side of a split."""
    spatial = tuple([shape[2:] for shape in (*kernel.inputs, *kernel.outputs)])
    return _text((spatial, kernel.attributes.get("kernel"), kernel.attributes.get("stride")))


_text = lru_cache(maxsize=4096)(str)  # few shapes, of many kernels


def rows_of(kernels: Sequence[Kernel], latency_ms: Sequence[float]) -> Rows:
    """What a family's forms are fitted to."""
    groups = np.unique([shape_of(kernel) for kernel in kernels], return_inverse=True)[1]
    return Rows(x=feature_matrix(kernels), latency_ms=np.array(latency_ms, dtype=np.float64), groups=groups)


class KernelRegressor:
    """Prices kernels of the families that a table has enough rows of; a family is fitted when it is first asked for.

    Families without multiplications (copies, additions, activations) that have too few rows share one model: what they
    cost is mostly the memory that they touch.

    Args:
        table: where the rows are from.
        cache: a folder that keeps, for large families, what was decided when they were fitted: JSON, named by the
            table's fingerprint. None keeps nothing. What was decided for the named tables comes with the library.
    """

    def __init__(self, table: LatencyTable, *, cache: Path | None = None) -> None:
        self._table, self._cache = table, cache
        self._rows: dict[_Key, list[tuple[Kernel, float]]] = defaultdict(list)
        for kernel, entry in table.items():
            row = (kernel, entry.latency_ms)
            self._rows[kernel.family, kernel.dtype].append(row)
            if not n_macs(kernel):
                self._rows[_SMALL, kernel.dtype].append(row)
        self._fitted: dict[_Key, _Family] = {}

    def fit(self) -> None:
        """Fit the families with enough rows now, rather than when they are first asked for."""
        for key, rows in self._rows.items():
            if len(rows) >= _MIN_ROWS:
                self._family(key)

    def choices(self) -> dict[tuple[str, str], tuple[int, Choice]]:
        """Of each family and dtype fitted so far, its number of rows and what was decided."""
        return {key: (len(self._rows[key]), family.choice) for key, family in self._fitted.items()}

    def predict(self, kernel: Kernel) -> Regressed | None:
        """The kernel's regressed latency; None where the table has too few rows to go by."""
        return self.predict_many([kernel])[0]

    def predict_many(self, kernels: Sequence[Kernel]) -> list[Regressed | None]:
        """As `predict`, of many kernels at once, in their order."""
        found: list[Regressed | None] = [None] * len(kernels)
        by_key: dict[_Key, list[int]] = defaultdict(list)
        for index, kernel in enumerate(kernels):
            if (key := self._key(kernel)) is not None:
                by_key[key].append(index)
        # one thread in the numeric libraries: waiting for each other, theirs cost more than they bring on two cores
        with threadpool_limits(1):
            for key, indices in by_key.items():
                guesses = self._family(key).predict([kernels[index] for index in indices])
                for index, guess in zip(indices, guesses, strict=True):
                    found[index] = guess
        return found

    def _key(self, kernel: Kernel) -> _Key | None:
        own, small = (kernel.family, kernel.dtype), (_SMALL, kernel.dtype)
        if len(self._rows.get(own, ())) >= _MIN_ROWS:
            return own
        return small if len(self._rows.get(small, ())) >= _MIN_ROWS and not n_macs(kernel) else None

    def _family(self, key: _Key) -> _Family:
        if key not in self._fitted:
            kernels, latency_ms = zip(*self._rows[key], strict=True)
            rows, shapes = rows_of(kernels, latency_ms), frozenset(map(shape_of, kernels))
            choice, path = None, None
            if len(rows.latency_ms) >= _MIN_ROWS_CACHED:
                name = f"{self._table.fingerprint()}-{'-'.join(key)}.json"
                path = self._cache / name if self._cache else None
                places = [*([path] if path else []), *(folder / name for folder in shipped_folders())]
                choice = next((found for place in places if (found := read_choice(place))), None)
            model = FamilyModel(rows, choice.covariance if choice else None)
            if choice is None:
                choice = choose_form(model)
                if path:
                    write_choice(path, choice)
            self._fitted[key] = _Family(model, choice, rows.x.min(axis=0), rows.x.max(axis=0), shapes)
        return self._fitted[key]
