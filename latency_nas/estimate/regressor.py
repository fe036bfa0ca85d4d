"""A regressor for kernels that a table lacks: one model per kernel family, on the logarithm of the latency."""

from __future__ import annotations

import warnings
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from latency_nas.estimate.features import features
from latency_nas.kernel import Kernel, n_macs
from latency_nas.table import LatencyTable

__all__ = ["KernelRegressor", "Regressed"]

_MIN_ROWS = 8  # fewer rows of a family are no ground for a regression
_MIN_ROWS_OF_TREES = 100
_FOLDS = 5
_Z90 = 1.645  # 90 % of a normal distribution lies within so many standard deviations
_SMALL = "ops that only touch memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Regressed:
    """A regressed latency.

    Args:
        latency_ms: the prediction, in milliseconds.
        std_ms: one standard deviation, from the cross-validated error of the family.
        extrapolated: whether a feature of the kernel lies outside what the table covers.
    """

    latency_ms: float
    std_ms: float
    extrapolated: bool


@dataclass(frozen=True, slots=True)
class _Family:
    model: Any
    log_std: float
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def _candidates(n_rows: int) -> list[Any]:
    ridge = make_pipeline(StandardScaler(), RidgeCV(alphas=np.logspace(-4, 3, 8)))
    trees = HistGradientBoostingRegressor(learning_rate=0.1, min_samples_leaf=5, random_state=0)
    return [ridge, trees] if n_rows >= _MIN_ROWS_OF_TREES else [ridge]


def _group(kernel: Kernel) -> str:
    """Kernels that differ in channels alone are near-duplicates: they stay on one side of a split."""
    spatial = [shape[2:] for shape in (*kernel.inputs, *kernel.outputs)]
    return str((spatial, kernel.attributes.get("kernel"), kernel.attributes.get("stride")))


def _fit(kernels: list[Kernel], latencies_ms: NDArray[np.float64]) -> _Family:
    """The model with the smaller cross-validated error, and that error."""
    x = np.stack([features(kernel) for kernel in kernels])
    y = np.log(latencies_ms)
    groups = np.unique([_group(kernel) for kernel in kernels], return_inverse=True)[1]
    n_folds = min(_FOLDS, int(groups.max()) + 1)
    if n_folds < 2:  # one shape only: fall back to folds of single rows
        groups, n_folds = np.arange(len(kernels)), _FOLDS
    scored = []
    for model in _candidates(len(kernels)):
        errors = np.abs(y - cross_val_predict(model, x, y, groups=groups, cv=GroupKFold(n_folds)))
        scored.append((float(np.median(errors)), float(np.quantile(errors, 0.9)) / _Z90, model))
    _, log_std, model = min(scored, key=lambda item: item[0])
    model.fit(x, y)
    return _Family(model, log_std, x.min(axis=0), x.max(axis=0))


class KernelRegressor:
    """Fitted to a table's rows; prices kernels of the families that have enough of them.

    Families without multiplications (copies, additions, activations) that have too few rows share one model: what they
    cost is mostly the memory that they touch.

    Args:
        table: where the rows are from. Fitting happens here and takes about a second; nothing is written or read.
    """

    def __init__(self, table: LatencyTable) -> None:
        rows: dict[tuple[str, str], list[tuple[Kernel, float]]] = defaultdict(list)
        for kernel, entry in table.items():
            rows[kernel.family, kernel.dtype].append((kernel, entry.latency_ms))
            if not n_macs(kernel):
                rows[_SMALL, kernel.dtype].append((kernel, entry.latency_ms))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scikit-learn warns of constant features, which small families have
            self._families = {
                key: _fit([kernel for kernel, _ in pairs], np.array([latency_ms for _, latency_ms in pairs]))
                for key, pairs in rows.items()
                if len(pairs) >= _MIN_ROWS
            }

    def predict(self, kernel: Kernel) -> Regressed | None:
        """The kernel's regressed latency; None where the table has too few rows of its family."""
        family = self._families.get((kernel.family, kernel.dtype))
        if family is None and not n_macs(kernel):
            family = self._families.get((_SMALL, kernel.dtype))
        if family is None:
            return None
        x = features(kernel)
        latency_ms = float(np.exp(family.model.predict(x[None])[0]))
        outside = bool(np.any(x < family.low - 1e-9) or np.any(x > family.high + 1e-9))
        return Regressed(latency_ms=latency_ms, std_ms=latency_ms * family.log_std, extrapolated=outside)
