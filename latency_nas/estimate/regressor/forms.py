"""The forms of regression of one family, fitted: plain arrays, and what they say of kernels. Nothing is fitted here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latency_nas.estimate.regressor.covariance import Covariance, Floats
from latency_nas.estimate.regressor.features import COORDINATES, FEATURES, LOG_LINEAR
from latency_nas.estimate.regressor.forest import FlatForest
from latency_nas.estimate.regressor.local_gp import local_predictions

__all__ = ["AT", "FORMS", "FORMS_OF_FOREST", "LINEAR", "Base", "FittedForms", "Process", "amounts"]

# Simplest first.
FORMS = ("log-linear", "Gaussian process", "forest", "forest and process")
FORMS_OF_FOREST = frozenset({"forest", "forest and process"})

_COLUMN = {name: index for index, name in enumerate(FEATURES)}
_WORK = [_COLUMN[f"log_{name}"] for name in ("flops", "size_in", "size_out", "params", "im2col")]
AT, LINEAR = [_COLUMN[name] for name in COORDINATES], [_COLUMN[name] for name in LOG_LINEAR]


def amounts(x: Floats) -> Floats:
    """One call, and the amount of each kind of work, ``(kernels, 6)``.

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
    """What the other forms correct: what the work takes, and a linear form of the logarithm of the rest.

    Args:
        costs: What a call, and a unit of each kind of work, takes, in milliseconds, ``(6,)``.
        bounds: The least and the largest logarithm of a row's time over that of its work, ``(2,)``.
        mean: Mean of each column of the linear form.
        scale: What each column is divided by.
        slopes: Coefficient of each column.
        level: The linear form's constant.
    """

    costs: Floats
    bounds: Floats
    mean: Floats
    scale: Floats
    slopes: Floats
    level: float

    def __post_init__(self) -> None:
        columns = (len(LINEAR),)
        _check({
            "costs": (self.costs, (1 + len(_WORK),)), "bounds": (self.bounds, (2,)), "mean": (self.mean, columns),
            "scale": (self.scale, columns), "slopes": (self.slopes, columns),
        })  # fmt: skip

    def work(self, x: Floats) -> Floats:
        """The logarithm of what the work alone would take, ``(kernels,)``."""
        return np.asarray(np.log(amounts(x) @ self.costs))

    def bounded(self, x: Floats, guess: Floats) -> Floats:
        """The guess, but no further from the work than any row is, ``(kernels,)``."""
        work = self.work(x)
        return np.clip(guess, work + self.bounds[0], work + self.bounds[1])

    def linear(self, x: Floats) -> Floats:
        """The linear form: log latencies, ``(kernels,)``."""
        excess = (x[:, LINEAR] - self.mean) / self.scale @ self.slopes + self.level
        return self.bounded(x, excess + self.work(x))


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """The Gaussian process and the rows that it knows.

    Args:
        covariance: Its covariance.
        shift: What is subtracted from each coordinate.
        scale: What each coordinate is then divided by.
        at: The rows' coordinates after that, ``(rows, coordinates)``.
        residual: The rows' log latencies less those of the linear form, ``(rows,)``.
        noise: The rows' noise variances, ``(rows,)``.
    """

    covariance: Covariance
    shift: Floats
    scale: Floats
    at: Floats
    residual: Floats
    noise: Floats

    def __post_init__(self) -> None:
        n_rows, columns = len(self.residual), (len(AT),)
        _check({
            "shift": (self.shift, columns), "scale": (self.scale, columns), "at": (self.at, (n_rows, len(AT))),
            "residual": (self.residual, (n_rows,)), "noise": (self.noise, (n_rows,)),
        })  # fmt: skip
        scales = (self.covariance.smooth_scales, self.covariance.rough_scales)
        if n_rows < 1 or self.noise.min() < 0 or any(len(part) != len(AT) for part in scales):
            raise ValueError("Expected rows, noise of 0 or more, and a scale for each coordinate.")

    def predict(self, x: Floats, *, itself: bool = False) -> tuple[Floats, Floats]:
        """Mean of the correction to the linear form, and its variance, each ``(kernels,)``.

        Args:
            x: Features, ``(kernels, len(FEATURES))``.
            itself: Whether the kernels are rows, each of which is seen without itself.
        """
        at = (x[:, AT] - self.shift) / self.scale
        return local_predictions(self.covariance, self.at, self.residual, self.noise, at, itself=itself)


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedForms:
    """All forms of one family, or those that its selection needs.

    Args:
        base: Work and linear form.
        process: The Gaussian process.
        forest: The forest; None where there are too few rows for one, or where no form that is asked for needs it.
    """

    base: Base
    process: Process
    forest: FlatForest | None = None

    def predict(self, x: Floats) -> tuple[dict[str, Floats], Floats]:
        """Log latencies by each form, and the variance of the process: how far from the rows each kernel is.

        Args:
            x: Features of kernels, ``(kernels, len(FEATURES))``.
        """
        forest = None if self.forest is None else self.forest.predict(x) + self.base.work(x)
        return self.combine(x, self.base.linear(x), self.process.predict(x), forest)

    def combine(
        self, x: Floats, linear: Floats, process: tuple[Floats, Floats], forest: Floats | None
    ) -> tuple[dict[str, Floats], Floats]:
        """As `predict`, of what its parts say."""
        mean, variance = process
        guesses = {"log-linear": linear, "Gaussian process": self.base.bounded(x, linear + mean)}
        if forest is not None:
            # half of each, and less of the process where the rows say less to it: it is the worse one to go far
            share = 0.5 * (1 - variance / self.process.covariance.prior)
            mixed = share * guesses["Gaussian process"] + (1 - share) * forest
            guesses |= {"forest": forest, "forest and process": mixed}
        return guesses, variance
