"""`FamilyModel`: fits all forms of regression to the rows of one family of kernels."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from latency_nas.estimate.regressor.covariance import Covariance, Floats
from latency_nas.estimate.regressor.covariance_learning import learn_covariance
from latency_nas.estimate.regressor.forest import FlatForest
from latency_nas.estimate.regressor.forms import COORDINATE_COLUMNS, LINEAR_COLUMNS, Base, FittedForms, Process, amounts

__all__ = ["FamilyModel", "Rows"]

_MIN_ROWS_OF_FOREST = 100
_N_TREES, _N_TREES_OF_FOLD = 64, 20  # with 100 and 30, the error of rows that are left out changes by less than 0.1 %
_TAIL = 4.0  # degrees of freedom of the errors' t distribution, which gives outliers less weight


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The rows that a family is fitted to.

    Args:
        x: Features, ``(rows, len(FEATURES))``.
        latency_ms: Latency of each row, ``(rows,)``.
        groups: Number of each row's group, ``(rows,)``; near-duplicates share one.
    """

    x: Floats
    latency_ms: Floats
    groups: NDArray[np.intp]

    def take(self, index: NDArray[np.intp]) -> Rows:
        """The rows at these indices."""
        return Rows(x=self.x[index], latency_ms=self.latency_ms[index], groups=self.groups[index])


def _costs(rows: Rows) -> Floats:
    """Costs of a call and of a unit of each kind of work, all >= 0, by least squares of the relative errors."""
    relative = amounts(rows.x) / rows.latency_ms[:, None]
    scale = np.maximum(np.abs(relative).max(axis=0), 1e-300)
    costs = nnls(relative / scale, np.ones(len(relative)))[0] / scale
    costs[0] = max(costs[0], 0.1 * rows.latency_ms.min())  # a kernel without work still takes time
    return np.asarray(costs)


def _base(rows: Rows) -> Base:
    # a forest cannot extrapolate, and log-linear slopes extrapolate badly: both only correct the cost of the work
    costs = _costs(rows)
    excess = np.log(rows.latency_ms) - np.log(amounts(rows.x) @ costs)
    line = make_pipeline(StandardScaler(), RidgeCV(alphas=np.logspace(-4, 3, 8)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constant features of small families make scikit-learn warn
        line.fit(rows.x[:, LINEAR_COLUMNS], excess)
    scaler, ridge = (step for _, step in line.steps)
    return Base(
        costs=costs, bounds=np.array([excess.min(), excess.max()]), mean=scaler.mean_, scale=scaler.scale_,
        slopes=ridge.coef_, level=float(ridge.intercept_),
    )  # fmt: skip


class FamilyModel:
    """All forms of regression, fitted to rows.

    Args:
        rows: Rows of the family.
        covariance: Covariance of the process; learnt from the rows if None.
        guess: Log latency of each row as predicted without this row; by the forest if None.
    """

    def __init__(self, rows: Rows, covariance: Covariance | None = None, guess: Floats | None = None) -> None:
        self.rows, self._given_guess = rows, guess
        self._y = np.log(rows.latency_ms)
        self._base = _base(rows)
        coordinates = rows.x[:, COORDINATE_COLUMNS]
        spread = coordinates.std(axis=0)
        self._shift, self._scale = coordinates.mean(axis=0), np.where(spread > 0, spread, 1)
        self._at = (coordinates - self._shift) / self._scale
        self._trend = self._base.linear(rows.x)
        self.covariance = covariance or learn_covariance(
            self._at, self._y - self._trend, np.exp(self._guess), self._noise_factor(0.01)
        )

    def refitted(self, index: NDArray[np.intp]) -> FamilyModel:
        """All forms fitted to the rows at these indices, with fewer trees, but with the noise found from all rows."""
        return FamilyModel(self.rows.take(index), self.covariance, self._guess[index])

    @property
    def has_forest(self) -> bool:
        """Whether there are enough rows for a forest."""
        return len(self.rows.latency_ms) >= _MIN_ROWS_OF_FOREST

    @cached_property
    def _forest(self) -> Any:
        """Extremely randomised trees for the logarithm of the time over that of the work."""
        on_all_rows = self._given_guess is None
        forest = ExtraTreesRegressor(
            _N_TREES if on_all_rows else _N_TREES_OF_FOLD,
            max_features=0.5,
            min_samples_leaf=2,
            bootstrap=True,
            oob_score=on_all_rows,
            n_jobs=2,
            random_state=0,
        )
        return forest.fit(self.rows.x, self._y - self._base.work(self.rows.x))

    @cached_property
    def _guess(self) -> Floats:
        """Log latency of each row, predicted without this row."""
        if self._given_guess is not None:
            return self._given_guess
        if not self.has_forest:
            return self._trend
        return np.asarray(self._forest.oob_prediction_ + self._base.work(self.rows.x))

    def _noise_factor(self, variance: float | Floats) -> Floats:
        """Factor by which an outlier's noise is increased, as in a fit with Student's t errors."""
        return np.maximum(1, (np.square(self._y - self._guess) / (4 * variance) + _TAIL) / (_TAIL + 1))

    @cached_property
    def forms(self) -> FittedForms:
        """The fitted forms, as plain arrays."""
        noise = self.covariance.noise(np.exp(self._guess))
        process = Process(
            covariance=self.covariance, shift=self._shift, scale=self._scale, at=self._at,
            residual=self._y - self._trend, noise=noise * self._noise_factor(noise),
        )  # fmt: skip
        forest = FlatForest.of(self._forest) if self.has_forest else None
        return FittedForms(base=self._base, process=process, forest=forest)

    def without_own_row(self, index: NDArray[np.intp]) -> tuple[dict[str, Floats], Floats]:
        """As `FittedForms.predict`, for rows that are left out one by one, except in the linear form."""
        x = self.rows.x[index]
        process = self.forms.process.predict(x, leave_out_own=True)
        return self.forms.combine(x, self._trend[index], process, self._guess[index])
