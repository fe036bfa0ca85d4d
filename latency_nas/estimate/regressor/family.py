"""Fitting the forms of regression to the rows of one family of kernels."""

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
from latency_nas.estimate.regressor.forms import AT, LINEAR, Base, FittedForms, Process, amounts

__all__ = ["FamilyModel", "Rows"]

_MIN_ROWS_OF_FOREST = 100
_N_TREES, _N_TREES_OF_FOLD = 64, 20  # with 100 and 30, single rows that are left out are as far off, to 0.1 %
_TAIL = 4.0  # degrees of freedom of the errors: outliers pull less


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The rows that a family is fitted to.

    Args:
        x: Features, ``(rows, len(FEATURES))``.
        latency_ms: Latency of each row.
        groups: Number of each row's group; near-duplicates share one.
    """

    x: Floats
    latency_ms: Floats
    groups: NDArray[np.intp]

    def take(self, index: NDArray[np.intp]) -> Rows:
        """Some of the rows."""
        return Rows(x=self.x[index], latency_ms=self.latency_ms[index], groups=self.groups[index])


def _costs(rows: Rows) -> Floats:
    """What a call, and a unit of each kind of work, takes: none below 0, by least squares of the relative errors."""
    relative = amounts(rows.x) / rows.latency_ms[:, None]
    scale = np.maximum(np.abs(relative).max(axis=0), 1e-300)
    costs = nnls(relative / scale, np.ones(len(relative)))[0] / scale
    costs[0] = max(costs[0], 0.1 * rows.latency_ms.min())  # a kernel of no work takes time
    return np.asarray(costs)


def _base(rows: Rows) -> Base:
    # a forest cannot go beyond its rows, and a logarithm's slopes go astray there: both correct what the work takes
    costs = _costs(rows)
    excess = np.log(rows.latency_ms) - np.log(amounts(rows.x) @ costs)
    line = make_pipeline(StandardScaler(), RidgeCV(alphas=np.logspace(-4, 3, 8)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of constant features, which small families have
        line.fit(rows.x[:, LINEAR], excess)
    scaler, ridge = (step for _, step in line.steps)
    return Base(
        costs=costs, bounds=np.array([excess.min(), excess.max()]), mean=scaler.mean_, scale=scaler.scale_,
        slopes=ridge.coef_, level=float(ridge.intercept_),
    )  # fmt: skip


class FamilyModel:
    """All forms, fitted to some rows.

    Args:
        rows: The rows.
        covariance: The process's covariance; learnt from the rows where none is given.
        guess: Log latencies of the rows as seen without themselves; by the forest where none are given.
    """

    def __init__(self, rows: Rows, covariance: Covariance | None = None, guess: Floats | None = None) -> None:
        self.rows, self._given_guess = rows, guess
        self._y = np.log(rows.latency_ms)
        self._base = _base(rows)
        coordinates = rows.x[:, AT]
        spread = coordinates.std(axis=0)
        self._shift, self._scale = coordinates.mean(axis=0), np.where(spread > 0, spread, 1)
        self._at = (coordinates - self._shift) / self._scale
        self._trend = self._base.linear(rows.x)
        self.covariance = covariance or learn_covariance(
            self._at, self._y - self._trend, np.exp(self._guess), self._doubt(0.01)
        )

    def of_some(self, index: NDArray[np.intp]) -> FamilyModel:
        """All forms fitted to some of the rows, with fewer trees; how noisy each row is stays as all rows say."""
        return FamilyModel(self.rows.take(index), self.covariance, self._guess[index])

    @property
    def has_forest(self) -> bool:
        """Whether there are enough rows for one."""
        return len(self.rows.latency_ms) >= _MIN_ROWS_OF_FOREST

    @cached_property
    def _forest(self) -> Any:
        """Extremely randomised trees on the logarithm of the time for each unit of work."""
        whole = self._given_guess is None
        forest = ExtraTreesRegressor(
            _N_TREES if whole else _N_TREES_OF_FOLD,
            max_features=0.5,
            min_samples_leaf=2,
            bootstrap=True,
            oob_score=whole,
            n_jobs=2,
            random_state=0,
        )
        return forest.fit(self.rows.x, self._y - self._base.work(self.rows.x))

    @cached_property
    def _guess(self) -> Floats:
        """Log latencies as seen without each row itself."""
        if self._given_guess is not None:
            return self._given_guess
        if not self.has_forest:
            return self._trend
        return np.asarray(self._forest.oob_prediction_ + self._base.work(self.rows.x))

    def _doubt(self, variance: float | Floats) -> Floats:
        """How much wider the noise of a row is taken because it is out of line, as Student's t would."""
        return np.maximum(1, (np.square(self._y - self._guess) / (4 * variance) + _TAIL) / (_TAIL + 1))

    @cached_property
    def forms(self) -> FittedForms:
        """What was fitted, as plain arrays."""
        noise = self.covariance.noise(np.exp(self._guess))
        process = Process(
            covariance=self.covariance, shift=self._shift, scale=self._scale, at=self._at,
            residual=self._y - self._trend, noise=noise * self._doubt(noise),
        )  # fmt: skip
        forest = FlatForest.of(self._forest) if self.has_forest else None
        return FittedForms(base=self._base, process=process, forest=forest)

    def without_own_row(self, index: NDArray[np.intp]) -> tuple[dict[str, Floats], Floats]:
        """As `FittedForms.predict`, of rows that are seen without themselves; the linear form alone has seen them."""
        x = self.rows.x[index]
        process = self.forms.process.predict(x, itself=True)
        return self.forms.combine(x, self._trend[index], process, self._guess[index])
