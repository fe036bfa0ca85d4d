"""`FittedForms`: the fitted forms of regression of one family, as plain arrays that predict. Nothing is fitted here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latency_nas.estimate.regressor.covariance import Covariance, Floats
from latency_nas.estimate.regressor.features import COORDINATES, FEATURES, LOG_LINEAR
from latency_nas.estimate.regressor.forest import FlatForest
from latency_nas.estimate.regressor.local_gp import local_predictions

__all__ = [
    "COORDINATE_COLUMNS",
    "FORMS",
    "FORMS_OF_FOREST",
    "LINEAR_COLUMNS",
    "Base",
    "FittedForms",
    "Process",
    "amounts",
]

# Simplest first.
FORMS = ("log-linear", "Gaussian process", "forest", "forest and process")
FORMS_OF_FOREST = frozenset({"forest", "forest and process"})

_COLUMN = {name: index for index, name in enumerate(FEATURES)}
_WORK = [_COLUMN[f"log_{name}"] for name in ("flops", "size_in", "size_out", "params", "im2col")]
COORDINATE_COLUMNS = [_COLUMN[name] for name in COORDINATES]
LINEAR_COLUMNS = [_COLUMN[name] for name in LOG_LINEAR]


def amounts(x: Floats) -> Floats:
    """Amount of each kind of work, ``(kernels, 6)``; the first is one call.

    Args:
        x: Features, ``(kernels, len(FEATURES))``.
    """
    return np.concatenate([np.ones((len(x), 1)), np.expm1(x[:, _WORK])], axis=1)


def _check(sizes: dict[str, tuple[NDArray[np.float64], tuple[int, ...]]]) -> None:
    for name, (values, shape) in sizes.items():
        if values.shape != shape or values.dtype != np.float64 or not np.isfinite(values).all():
            raise ValueError(f"Expected `{name}` to be finite numbers of shape {shape}, but got {values.shape}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What the other forms correct: the time of the work, times a factor whose logarithm is linear in the features.

    Args:
        costs: Time of a call and of a unit of each kind of work, in milliseconds, ``(6,)``.
        bounds: Smallest and largest logarithm of a row's time over that of its work, ``(2,)``.
        mean: Mean of each column of the linear form.
        scale: Divisor of each column.
        slopes: Coefficient of each column.
        level: Constant of the linear form.
    """

    costs: Floats
    bounds: Floats
    mean: Floats
    scale: Floats
    slopes: Floats
    level: float

    def __post_init__(self) -> None:
        columns = (len(LINEAR_COLUMNS),)
        _check({
            "costs": (self.costs, (1 + len(_WORK),)), "bounds": (self.bounds, (2,)), "mean": (self.mean, columns),
            "scale": (self.scale, columns), "slopes": (self.slopes, columns),
        })  # fmt: skip

    def work(self, x: Floats) -> Floats:
        """The logarithm of the time of the work alone, ``(kernels,)``."""
        return np.asarray(np.log(amounts(x) @ self.costs))

    def bounded(self, x: Floats, guess: Floats) -> Floats:
        """The guess, moved to where it is no further from the time of the work than any row is, ``(kernels,)``."""
        work = self.work(x)
        return np.clip(guess, work + self.bounds[0], work + self.bounds[1])

    def linear(self, x: Floats) -> Floats:
        """Log latencies by the linear form, ``(kernels,)``."""
        excess = (x[:, LINEAR_COLUMNS] - self.mean) / self.scale @ self.slopes + self.level
        return self.bounded(x, excess + self.work(x))


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """The Gaussian process, with the rows that it is conditioned on.

    Args:
        covariance: Covariance of the process.
        shift: Number that is subtracted from each coordinate.
        scale: Divisor of each coordinate after that.
        at: Coordinates of the rows, shifted and scaled, ``(rows, coordinates)``.
        residual: Log latency of each row minus that of the linear form, ``(rows,)``.
        noise: Noise variance of each row, ``(rows,)``.
    """

    covariance: Covariance
    shift: Floats
    scale: Floats
    at: Floats
    residual: Floats
    noise: Floats

    def __post_init__(self) -> None:
        n_rows, n_columns = len(self.residual), len(COORDINATE_COLUMNS)
        _check({
            "shift": (self.shift, (n_columns,)), "scale": (self.scale, (n_columns,)),
            "at": (self.at, (n_rows, n_columns)),
            "residual": (self.residual, (n_rows,)), "noise": (self.noise, (n_rows,)),
        })  # fmt: skip
        scales = (self.covariance.smooth_scales, self.covariance.rough_scales)
        if n_rows < 1 or self.noise.min() < 0 or any(len(part) != n_columns for part in scales):
            raise ValueError("Expected rows, noise of 0 or more, and a scale for each coordinate.")

    def predict(self, x: Floats, *, leave_out_own: bool = False) -> tuple[Floats, Floats]:
        """Mean of the correction to the linear form, and its variance, each ``(kernels,)``.

        Args:
            x: Features, ``(kernels, len(FEATURES))``.
            leave_out_own: Whether the kernels are rows, each of which is predicted without itself.
        """
        at = (x[:, COORDINATE_COLUMNS] - self.shift) / self.scale
        return local_predictions(self.covariance, self.at, self.residual, self.noise, at, leave_out_own=leave_out_own)


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedForms:
    """All forms of one family, or those that its selection needs.

    Args:
        base: Time of the work, and linear form.
        process: Gaussian process.
        forest: Forest; None if there are too few rows for one, or if the selected form does not need it.
    """

    base: Base
    process: Process
    forest: FlatForest | None = None

    def predict(self, x: Floats) -> tuple[dict[str, Floats], Floats]:
        """Log latencies by each form, and the variance of the process, which grows with the distance to the rows.

        Args:
            x: Features of kernels, ``(kernels, len(FEATURES))``.
        """
        forest = None if self.forest is None else self.forest.predict(x) + self.base.work(x)
        return self.combine(x, self.base.linear(x), self.process.predict(x), forest)

    def combine(
        self, x: Floats, linear: Floats, process: tuple[Floats, Floats], forest: Floats | None
    ) -> tuple[dict[str, Floats], Floats]:
        """As `predict`, from the predictions of the parts.

        Args:
            x: Features, ``(kernels, len(FEATURES))``.
            linear: Log latencies by the linear form, ``(kernels,)``.
            process: Mean and variance of the process, each ``(kernels,)``.
            forest: Log latencies by the forest, ``(kernels,)``; None without one.
        """
        mean, variance = process
        guesses = {"log-linear": linear, "Gaussian process": self.base.bounded(x, linear + mean)}
        if forest is not None:
            # average both; shift weight to the forest where the process is uncertain, since it extrapolates worse
            share = 0.5 * (1 - variance / self.process.covariance.prior)
            mixed = share * guesses["Gaussian process"] + (1 - share) * forest
            guesses |= {"forest": forest, "forest and process": mixed}
        return guesses, variance
