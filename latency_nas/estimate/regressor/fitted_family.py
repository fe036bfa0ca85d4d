"""One family of a table's kernels, fitted: from kernels to latencies, with how sure they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from latency_nas.estimate.regressor.covariance import Floats
from latency_nas.estimate.regressor.features import FEATURES, feature_matrix
from latency_nas.estimate.regressor.form_selection import FormSelection
from latency_nas.estimate.regressor.forms import FORMS_OF_FOREST, FittedForms
from latency_nas.kernel import Kernel

__all__ = ["FittedFamily", "Regressed", "shape_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Regressed:
    """A regressed latency.

    Args:
        latency_ms: The prediction, in milliseconds.
        std_ms: One standard deviation: with a chance of 90 % the latency is within a factor of
            exp(1.645 std_ms / latency_ms), by the errors of rows that were left out.
        extrapolated: Whether the kernel lies outside what the table covers.
    """

    latency_ms: float
    std_ms: float
    extrapolated: bool


def shape_of(kernel: Kernel) -> str:
    """What kernels that differ in channels alone share: near-duplicates, which stay on one side of a split."""
    spatial = tuple([shape[2:] for shape in (*kernel.inputs, *kernel.outputs)])
    return _text((spatial, kernel.attributes.get("kernel"), kernel.attributes.get("stride")))


_text = lru_cache(maxsize=4096)(str)  # few shapes, of many kernels


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedFamily:
    """What prices the kernels of one family.

    Args:
        forms: The fitted forms, at least those that the selection needs.
        selection: Which of them prices kernels, and how far it errs.
        low: The least of each feature among the rows, ``(features,)``.
        high: The largest of each feature, ``(features,)``.
        shapes: The rows' shapes, as `shape_of` gives them.
    """

    forms: FittedForms
    selection: FormSelection
    low: Floats
    high: Floats
    shapes: frozenset[str]

    def __post_init__(self) -> None:
        if self.low.shape != (len(FEATURES),) or self.high.shape != (len(FEATURES),):
            raise ValueError(f"Expected bounds of {len(FEATURES)} features, but got {self.low.shape}.")
        forest = self.forms.forest
        if forest is None and self.selection.form in FORMS_OF_FOREST:
            raise ValueError(f"Expected the forest that the form {self.selection.form!r} needs, but there is none.")
        if forest is not None and int(forest.feature.max()) >= len(FEATURES):
            raise ValueError(f"Expected a forest of {len(FEATURES)} features, but it asks for another.")

    @property
    def n_rows(self) -> int:
        """The number of rows that it was fitted to."""
        return len(self.forms.process.residual)

    def predict(self, kernels: Sequence[Kernel]) -> list[Regressed]:
        """The latencies of kernels of the family, in their order."""
        x = feature_matrix(kernels)
        seen = np.array([shape_of(kernel) in self.shapes for kernel in kernels])
        order = np.argsort(x[:, 0])  # like kernels in a row take the same ways: a twentieth less time
        latency_ms, variance = np.empty((2, len(x)))
        guesses, variance[order] = self.forms.predict(x[order])
        latency_ms[order] = np.exp(guesses[self.selection.form])
        std_ms = latency_ms * self.selection.deviation(variance, latency_ms, seen)
        outside = ((x < self.low - 1e-9) | (x > self.high + 1e-9)).any(axis=1)
        outside |= self.selection.difficulty(variance) > self.selection.farthest
        columns = (latency_ms.tolist(), std_ms.tolist(), outside.tolist())
        return [Regressed(latency_ms=t, std_ms=s, extrapolated=o) for t, s, o in zip(*columns, strict=True)]
