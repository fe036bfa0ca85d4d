"""The forms of regression, fitted to the rows of one family of kernels."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
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

from latency_nas.estimate.regressor.features import COORDINATES, FEATURES, LOG_LINEAR
from latency_nas.estimate.regressor.local_gp import Covariance, learn_covariance, local_predictions

__all__ = ["FORMS", "FamilyModel", "Rows"]

Floats = NDArray[np.float64]

# Simplest first.
FORMS = ("log-linear", "Gaussian process", "forest", "forest and process")

_MIN_ROWS_OF_FOREST = 100
_N_TREES, _N_TREES_OF_FOLD = 64, 20  # with 100 and 30, single rows that are left out are as far off, to 0.1 %
_TAIL = 4.0  # degrees of freedom of the errors: outliers pull less
_COLUMN = {name: index for index, name in enumerate(FEATURES)}
_WORK = [_COLUMN[f"log_{name}"] for name in ("flops", "size_in", "size_out", "params", "im2col")]
_AT, _LINEAR = [_COLUMN[name] for name in COORDINATES], [_COLUMN[name] for name in LOG_LINEAR]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The rows that a family is fitted to.

    Args:
        x: features, ``(rows, len(FEATURES))``.
        latency_ms: of each row.
        groups: near-duplicates share a number.
    """

    x: Floats
    latency_ms: Floats
    groups: NDArray[np.intp]

    def take(self, index: NDArray[np.intp]) -> Rows:
        """Some of the rows."""
        return Rows(x=self.x[index], latency_ms=self.latency_ms[index], groups=self.groups[index])


def _amounts(x: Floats) -> Floats:
    return np.concatenate([np.ones((len(x), 1)), np.expm1(x[:, _WORK])], axis=1)


def _costs(rows: Rows) -> Floats:
    """What a call, and a unit of each kind of work, takes: none below 0, by least squares of the relative errors."""
    amounts = _amounts(rows.x) / rows.latency_ms[:, None]
    scale = np.maximum(np.abs(amounts).max(axis=0), 1e-300)
    costs = nnls(amounts / scale, np.ones(len(amounts)))[0] / scale
    costs[0] = max(costs[0], 0.1 * rows.latency_ms.min())  # a kernel of no work takes time
    return np.asarray(costs)


class FamilyModel:
    """All forms, fitted to some rows."""

    def __init__(self, rows: Rows, covariance: Covariance | None = None, guess: Floats | None = None) -> None:
        self.rows, self._given_guess = rows, guess
        self._y = np.log(rows.latency_ms)
        # what the forms correct: a forest cannot go beyond its rows, and a logarithm's slopes go astray there
        self._costs = _costs(rows)
        excess = self._y - self._work(rows.x)
        self._low, self._high = float(excess.min()), float(excess.max())
        coordinates = rows.x[:, _AT]
        spread = coordinates.std(axis=0)
        self._shift, self._scale = coordinates.mean(axis=0), np.where(spread > 0, spread, 1)
        self.linear = make_pipeline(StandardScaler(), RidgeCV(alphas=np.logspace(-4, 3, 8)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scikit-learn warns of constant features, which small families have
            self.linear.fit(rows.x[:, _LINEAR], excess)
        self._trend = self._linear(rows.x)
        self.covariance = covariance or learn_covariance(
            self._at(rows.x), self._y - self._trend, np.exp(self._guess), self._doubt(0.01)
        )

    def of_some(self, index: NDArray[np.intp]) -> FamilyModel:
        """All forms fitted to some of the rows, with fewer trees; how noisy each row is stays as all rows say."""
        return FamilyModel(self.rows.take(index), self.covariance, self._guess[index])

    @cached_property
    def forest(self) -> Any:
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
        forest.fit(self.rows.x, self._y - self._work(self.rows.x))
        return forest.set_params(n_jobs=1)  # it predicts beside the process

    @property
    def has_forest(self) -> bool:
        """Whether there are enough rows for one."""
        return len(self.rows.latency_ms) >= _MIN_ROWS_OF_FOREST

    @cached_property
    def _guess(self) -> Floats:
        """Log latencies as seen without each row itself."""
        if self._given_guess is not None:
            return self._given_guess
        if not self.has_forest:
            return np.asarray(self._trend)
        return np.asarray(self.forest.oob_prediction_ + self._work(self.rows.x))

    def _doubt(self, variance: float | Floats) -> Floats:
        """How much wider the noise of a row is taken because it is out of line, as Student's t would."""
        return np.maximum(1, (np.square(self._y - self._guess) / (4 * variance) + _TAIL) / (_TAIL + 1))

    def _work(self, x: Floats) -> Floats:
        """The logarithm of what the work alone would take."""
        return np.asarray(np.log(_amounts(x) @ self._costs))

    def _bounded(self, x: Floats, guess: Floats) -> Floats:
        """The guess, but no further from the work than any row is."""
        work = self._work(x)
        return np.clip(guess, work + self._low, work + self._high)

    def _linear(self, x: Floats) -> Floats:
        return self._bounded(x, self.linear.predict(x[:, _LINEAR]) + self._work(x))

    def _at(self, x: Floats) -> Floats:
        return np.asarray((x[:, _AT] - self._shift) / self._scale)

    def forms(self, x: Floats) -> tuple[dict[str, Floats], Floats]:
        """Log latencies by each form, and the variance of the process: how far from the rows each kernel is.

        Args:
            x: features of kernels, ``(kernels, len(FEATURES))``.
        """
        if not self.has_forest:
            return self._forms(x, self._linear(x), self._process(x), None)
        with ThreadPoolExecutor(1) as beside:
            forest = beside.submit(self.forest.predict, x)
            process = self._process(x)
            return self._forms(x, self._linear(x), process, forest.result() + self._work(x))

    def without_own_row(self, index: NDArray[np.intp]) -> tuple[dict[str, Floats], Floats]:
        """As `forms`, of some of the rows, each as seen without itself; the log-linear form alone has seen it."""
        process = self._process(self.rows.x[index], itself=True)
        return self._forms(self.rows.x[index], self._trend[index], process, self._guess[index])

    def _process(self, x: Floats, *, itself: bool = False) -> tuple[Floats, Floats]:
        noise = self.covariance.noise(np.exp(self._guess))
        return local_predictions(
            self.covariance, self._at(self.rows.x), self._y - self._trend, noise * self._doubt(noise), self._at(x),
            itself=itself,
        )  # fmt: skip

    def _forms(
        self, x: Floats, linear: Floats, process: tuple[Floats, Floats], forest: Floats | None
    ) -> tuple[dict[str, Floats], Floats]:
        mean, variance = process
        guesses = {"log-linear": linear, "Gaussian process": self._bounded(x, linear + mean)}
        if forest is not None:
            # half of each, and less of the process where the rows say less to it: it is the worse one to go far
            share = 0.5 * (1 - variance / (self.covariance.smooth + self.covariance.rough))
            mixed = share * guesses["Gaussian process"] + (1 - share) * forest
            guesses |= {"forest": forest, "forest and process": mixed}
        return guesses, variance
