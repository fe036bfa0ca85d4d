"""A Gaussian process conditioned only on each point's nearest rows: close to the full process, and fast."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy.spatial import KDTree

from latency_nas.estimate.regressor.covariance import JITTER, Covariance, Floats

__all__ = ["local_predictions"]

_N_NEIGHBOURS = 24
_CHUNK = 200  # points at once: intermediate results then stay in the cache
_WORKERS = 2


def _covariance_at(covariance: Covariance, smooth: Floats, rough: Floats) -> Floats:
    """The covariance at squared distances. It overwrites its arguments, since most of the time is spent on them."""
    rough *= 3
    rough += 1e-12
    s = np.sqrt(rough, out=rough)
    falling = np.exp(-s)
    falling *= covariance.rough
    s += 1
    s *= falling
    smooth *= -0.5
    np.exp(smooth, out=smooth)
    smooth *= covariance.smooth
    smooth += s
    return smooth


def _kernel_around(around: Floats, covariance: Covariance) -> tuple[Floats, Floats]:
    """The covariance of points with each other and with 0.

    Args:
        around: Coordinates, ``(points, n, d)``.
        covariance: Covariance of the process.

    Returns:
        Shapes ``(points, n, n)`` and ``(points, n, 1)``.
    """
    squares, norms = [], []
    for scales in (covariance.smooth_scales, covariance.rough_scales):
        points = around / np.asarray(scales)
        norm = np.square(points).sum(axis=-1, keepdims=True)
        square = points @ points.swapaxes(-1, -2)
        square *= -2
        square += norm
        square += norm.swapaxes(-1, -2)
        squares.append(np.maximum(square, 0, out=square))
        norms.append(norm)
    return _covariance_at(covariance, *squares), _covariance_at(covariance, *norms)


def local_predictions(
    covariance: Covariance, x: Floats, y: Floats, noise: Floats, at: Floats, *, leave_out_own: bool = False
) -> tuple[Floats, Floats]:
    """Mean and variance of the process at points, each from the rows nearest to it.

    Args:
        covariance: Covariance of the process.
        x: Coordinates of the rows, ``(rows, coordinates)``.
        y: Log latencies of the rows minus the trend, ``(rows,)``.
        noise: Noise variances of the rows, ``(rows,)``.
        at: Coordinates of the points, ``(points, coordinates)``.
        leave_out_own: Whether the points are rows, and each one's own row, its nearest, is left out.

    Returns:
        Mean and variance without noise, each ``(points,)``.
    """
    n = min(_N_NEIGHBOURS, len(x) - leave_out_own)
    scale = covariance.metric
    tree = KDTree(x * scale, balanced_tree=False)  # a third faster, since rows lie in clusters
    nearest = tree.query(at * scale, k=np.arange(1 + leave_out_own, n + 1 + leave_out_own), workers=_WORKERS)[1]
    noise = noise + JITTER
    mean, explained = np.empty(len(at)), np.empty(len(at))

    def predict(start: int) -> None:
        part = slice(start, start + _CHUNK)
        rows = nearest[part]
        around = x[rows] - at[part, None]  # relative to the point, which keeps small distances exact
        inside, across = _kernel_around(around, covariance)
        diagonal = np.arange(n)
        inside[:, diagonal, diagonal] += noise[rows]
        weights = np.linalg.solve(inside, across)[..., 0]
        mean[part] = (weights * y[rows]).sum(axis=-1)
        explained[part] = (weights * across[..., 0]).sum(axis=-1)

    starts = range(0, len(at), _CHUNK)
    if len(starts) <= 1:
        for start in starts:
            predict(start)
    else:
        # each chunk on one core: its operations are too small to be divided among cores
        with ThreadPoolExecutor(_WORKERS) as pool:
            list(pool.map(predict, starts))
    return mean, np.maximum(covariance.prior - explained, 0)
