"""`FittedFamily`: predicts latencies and their standard deviations for the kernels of one family."""

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
        latency_ms: Prediction, in milliseconds.
        std_ms: Standard deviation, from the errors of rows that were left out: with a probability of 90 % the latency
            is within a factor of exp(1.645 std_ms / latency_ms).
        extrapolated: Whether the kernel lies outside the range of the table's rows.
    """

    latency_ms: float
    std_ms: float
    extrapolated: bool


def shape_of(kernel: Kernel) -> str:
    """A text that is equal for kernels that differ only in channels: near-duplicates, which a split keeps together."""
    spatial = tuple([shape[2:] for shape in (*kernel.inputs, *kernel.outputs)])
    return _text((spatial, kernel.attributes.get("kernel"), kernel.attributes.get("stride")))


_text = lru_cache(maxsize=4096)(str)  # many kernels share few shapes


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedFamily:
    """The fitted forms of one family, with the selection of the one that prices its kernels.

    Args:
        forms: Fitted forms, at least those that the selection needs.
        selection: Selected form and its errors.
        low: Smallest value of each feature among the rows, ``(features,)``.
        high: Largest value of each feature, ``(features,)``.
        shapes: Shapes of the rows, as `shape_of` gives them.
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
            raise ValueError(f"Expected a forest of {len(FEATURES)} features, but it uses others.")

    @property
    def n_rows(self) -> int:
        """Number of rows that it was fitted to."""
        return len(self.forms.process.residual)

    def predict(self, kernels: Sequence[Kernel]) -> list[Regressed]:
        """The latencies of kernels of the family, in their order."""
        x = feature_matrix(kernels)
        seen = np.array([shape_of(kernel) in self.shapes for kernel in kernels])
        order = np.argsort(x[:, 0])  # similar kernels together help branch prediction and caches (about 5 %)
        latency_ms, variance = np.empty((2, len(x)))
        guesses, variance[order] = self.forms.predict(x[order])
        latency_ms[order] = np.exp(guesses[self.selection.form])
        std_ms = latency_ms * self.selection.deviation(variance, latency_ms, seen)
        outside = ((x < self.low - 1e-9) | (x > self.high + 1e-9)).any(axis=1)
        outside |= self.selection.difficulty(variance) > self.selection.farthest
        columns = (latency_ms.tolist(), std_ms.tolist(), outside.tolist())
        return [Regressed(latency_ms=t, std_ms=s, extrapolated=o) for t, s, o in zip(*columns, strict=True)]
