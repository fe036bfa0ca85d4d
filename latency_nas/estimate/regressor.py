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
from threadpoolctl import threadpool_limits

from latency_nas.estimate.features import features
from latency_nas.kernel import Kernel, n_macs
from latency_nas.table import LatencyTable

__all__ = ["KernelRegressor", "Regressed"]

_MIN_ROWS = 8  # fewer rows of a family are no ground for a regression
_MIN_ROWS_OF_TREES = 100
_FOLDS = 5
_Z90 = 1.645  # 90 % of a normal distribution lies within so many standard deviations
_Key = tuple[str, str]  # family, dtype
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


def _fit(rows: list[tuple[Kernel, float]]) -> _Family:
    """The model with the smaller cross-validated error, and that error."""
    x = np.stack([features(kernel) for kernel, _ in rows])
    y = np.log([latency_ms for _, latency_ms in rows])
    groups = np.unique([_group(kernel) for kernel, _ in rows], return_inverse=True)[1]
    n_folds = min(_FOLDS, int(groups.max()) + 1)
    if n_folds < 2:  # one shape only: fall back to folds of single rows
        groups, n_folds = np.arange(len(rows)), _FOLDS
    scored = []
    # one thread: on a few thousand rows, waiting for each other costs a second thread more than it brings
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of constant features, which small families have
        for model in _candidates(len(rows)):
            errors = np.abs(y - cross_val_predict(model, x, y, groups=groups, cv=GroupKFold(n_folds)))
            scored.append((float(np.median(errors)), float(np.quantile(errors, 0.9)) / _Z90, model))
        _, log_std, model = min(scored, key=lambda item: item[0])
        model.fit(x, y)
    return _Family(model, log_std, x.min(axis=0), x.max(axis=0))


class KernelRegressor:
    """Prices kernels of the families that a table has enough rows of; a family is fitted when it is first asked for.

    Families without multiplications (copies, additions, activations) that have too few rows share one model: what they
    cost is mostly the memory that they touch.

    Args:
        table: where the rows are from. Nothing is written or read.
    """

    def __init__(self, table: LatencyTable) -> None:
        self._rows: dict[_Key, list[tuple[Kernel, float]]] = defaultdict(list)
        for kernel, entry in table.items():
            row = (kernel, entry.latency_ms)
            self._rows[kernel.family, kernel.dtype].append(row)
            if not n_macs(kernel):
                self._rows[_SMALL, kernel.dtype].append(row)
        self._fitted: dict[_Key, _Family] = {}

    def predict(self, kernel: Kernel) -> Regressed | None:
        """The kernel's regressed latency; None where the table has too few rows to go by."""
        keys = [(kernel.family, kernel.dtype)] + ([] if n_macs(kernel) else [(_SMALL, kernel.dtype)])
        key = next((key for key in keys if len(self._rows.get(key, ())) >= _MIN_ROWS), None)
        if key is None:
            return None
        if key not in self._fitted:
            self._fitted[key] = _fit(self._rows[key])
        family, x = self._fitted[key], features(kernel)
        with threadpool_limits(1):
            latency_ms = float(np.exp(family.model.predict(x[None])[0]))
        outside = bool(np.any(x < family.low - 1e-9) or np.any(x > family.high + 1e-9))
        return Regressed(latency_ms=latency_ms, std_ms=latency_ms * family.log_std, extrapolated=outside)
