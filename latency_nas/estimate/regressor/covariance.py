"""The covariance of the Gaussian process: how log latencies of kernels are correlated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["JITTER", "Covariance"]

Floats = NDArray[np.float64]

JITTER = 1e-6  # variance that keeps the matrix regular where rows coincide


@dataclass(frozen=True, slots=True, kw_only=True)
class Covariance:
    """The covariance of log latencies: a smooth and a rough part, each with a scale for every coordinate, and noise.

    k(a, b) = smooth * exp(-r^2/2) + rough * (1 + sqrt(3) s) exp(-sqrt(3) s), where r and s are distances in the scales
    of the parts. The noise of a row of latency t is ``relative + absolute / t^2``, since timers resolve a fixed time.

    Args:
        smooth_scales: Scales of the first part, one for each coordinate.
        rough_scales: Scales of the second part.
        smooth: Variance of the first part.
        rough: Variance of the second part.
        relative: Variance of the noise.
        absolute: Variance of the noise of the latency, in ms^2.

    References:
        Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), equations 4.9 and 4.17; neighbours:
        Datta et al., Hierarchical nearest-neighbor Gaussian process models, JASA 111 (2016).
    """

    smooth_scales: tuple[float, ...]
    rough_scales: tuple[float, ...]
    smooth: float
    rough: float
    relative: float
    absolute: float

    @property
    def prior(self) -> float:
        """The variance of a kernel that is far from all rows."""
        return self.smooth + self.rough

    def noise(self, latency_ms: Floats) -> Floats:
        """The noise variance of log latencies, of the shape of ``latency_ms``."""
        return np.asarray(self.relative + self.absolute / latency_ms**2)

    @property
    def metric(self) -> Floats:
        """The weight of each coordinate in the distance that neighbours are chosen by: the prior's mean slope."""
        slope = self.smooth / np.square(self.smooth_scales) + 3 * self.rough / np.square(self.rough_scales)
        return np.sqrt(slope)
