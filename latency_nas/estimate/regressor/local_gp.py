"""A Gaussian process that looks at each kernel's nearest rows only: nearly a whole one, and fast on large tables."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Covariance", "learn_covariance", "local_predictions"]

_N_NEIGHBOURS = 24
_CHUNK = 200  # so that what is computed stays in the cache
_WORKERS = 2
_JITTER = 1e-6
_STEPS, _RATE, _N_LEARNT = 40, 0.15, 400
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Covariance:
    """The covariance of log latencies: a smooth and a rough part, each with a scale for every coordinate, and noise.

    k(a, b) = smooth * exp(-r^2/2) + rough * (1 + sqrt(3) s) exp(-sqrt(3) s), where r and s are distances in the scales
    of the part; the noise of a row of latency t is ``relative + absolute / t^2``, as timers resolve a fixed time.

    Args:
        smooth_scales: of the first part, one for each coordinate.
        rough_scales: of the second.
        smooth: variance of the first part.
        rough: variance of the second.
        relative: variance of the noise.
        absolute: variance of the noise of the latency, in ms^2.

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

    def noise(self, latency_ms: Floats) -> Floats:
        """The noise variance of log latencies, of the shape of ``latency_ms``."""
        return np.asarray(self.relative + self.absolute / latency_ms**2)

    @property
    def metric(self) -> Floats:
        """The weight of each coordinate in the distance that neighbours are chosen by: the prior's mean slope."""
        slope = self.smooth / np.square(self.smooth_scales) + 3 * self.rough / np.square(self.rough_scales)
        return np.sqrt(slope)


def _squared(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances, ``(..., n, d)`` and ``(..., m, d)`` to ``(..., n, m)``."""
    squares = (a * a).sum(-1)[..., :, None] + (b * b).sum(-1)[..., None, :] - 2 * a @ b.mT
    return squares.clamp_min(0)


def _kernel(a: Tensor, b: Tensor, log_scales: Tensor, log_variances: Tensor) -> Tensor:
    smooth, rough = (-log_scales).exp()
    variances = log_variances.exp()
    s = (3 * _squared(a * rough, b * rough) + 1e-12).sqrt()
    return variances[0] * (-0.5 * _squared(a * smooth, b * smooth)).exp() + variances[1] * (1 + s) * (-s).exp()


def _kernel_around(around: Tensor, log_scales: Tensor, log_variances: Tensor) -> tuple[Tensor, Tensor]:
    """`_kernel` of points with each other and with 0, in half its time, since nothing is kept for gradients.

    Args:
        around: ``(points, n, d)``.
        log_scales: as in `_kernel`.
        log_variances: as in `_kernel`.

    Returns:
        Shapes ``(points, n, n)`` and ``(points, n, 1)``.
    """
    variances = log_variances.exp()

    def fall(smooth: Tensor, rough: Tensor) -> Tensor:
        s = rough.mul_(3).add_(1e-12)
        np.sqrt(s.numpy(), out=s.numpy())  # in half of torch's time
        falling = (-s).exp_()
        return smooth.mul_(-0.5).exp_().mul_(variances[0]).add_(s.add_(1).mul_(variances[1]).mul_(falling))

    squares = []
    for scale in (-log_scales).exp():
        points = around * scale
        norms = points.square().sum(-1, keepdim=True)
        squares.append(((norms + norms.mT).baddbmm_(points, points.mT, alpha=-2).clamp_min_(0), norms))
    (smooth, smooth_norms), (rough, rough_norms) = squares
    return fall(smooth, rough), fall(smooth_norms, rough_norms)


def learn_covariance(x: Floats, y: Floats, latency_ms: Floats, doubt: Floats, *, seed: int = 0) -> Covariance:
    """The covariance that makes the rows most likely, learnt on a part of them.

    Args:
        x: coordinates, ``(rows, coordinates)``, standardised.
        y: log latencies less their trend, ``(rows,)``.
        latency_ms: a smooth guess of each row's latency, for the noise.
        doubt: what each row's noise is multiplied with.
        seed: of the choice of rows.
    """
    import torch
    from torch.optim.adam import adam  # the function: an optimiser's class imports torch's compiler, for two seconds

    rng = np.random.default_rng(seed)
    xs, ys, t, trust = (torch.from_numpy(np.ascontiguousarray(part)) for part in (x, y, latency_ms, doubt))
    log_scales = torch.tensor([[0.7] * x.shape[1], [-0.3] * x.shape[1]], dtype=torch.float64, requires_grad=True)
    level = float(np.log(np.var(y) + 1e-4))
    log_variances = torch.tensor([level, level - 1.5, -6.0, -9.0], dtype=torch.float64, requires_grad=True)
    learnt = [log_scales, log_variances]
    means, squares = ([torch.zeros_like(parameter) for parameter in learnt] for _ in range(2))
    counts = [torch.zeros(()) for _ in learnt]
    part = torch.arange(len(x))
    for step in range(_STEPS):
        if len(x) > _N_LEARNT and step % 10 == 0:
            part = torch.from_numpy(_sample(x, rng))
        a, noise = xs[part], log_variances[2].exp() + log_variances[3].exp() / t[part] ** 2
        covariance = _kernel(a, a, log_scales, log_variances) + torch.diag(trust[part] * noise + _JITTER)
        root = torch.linalg.cholesky(covariance)
        whitened = torch.linalg.solve_triangular(root, ys[part][:, None], upper=False)
        loss = 0.5 * whitened.square().sum() + root.diagonal().log().sum() + 0.05 * log_scales.square().sum()
        gradients = list(torch.autograd.grad(loss, learnt))
        with torch.no_grad():
            adam(
                learnt, gradients, means, squares, [], counts, amsgrad=False, beta1=0.9, beta2=0.999, lr=_RATE,
                weight_decay=0.0, eps=1e-8, maximize=False,
            )  # fmt: skip
    scales, variances = log_scales.detach().exp().tolist(), log_variances.detach().exp().tolist()
    return Covariance(
        smooth_scales=tuple(scales[0]), rough_scales=tuple(scales[1]), smooth=variances[0], rough=variances[1],
        relative=variances[2], absolute=variances[3],
    )  # fmt: skip


def _sample(x: Floats, rng: np.random.Generator) -> NDArray[np.intp]:
    """Rows at random, half of them neighbours of a few of the others, without which short scales could not be seen."""
    spread = rng.choice(len(x), _N_LEARNT // 2, replace=False)
    near = [np.argsort(np.square(x - x[row]).sum(axis=1))[: _N_LEARNT // 10] for row in spread[:5]]
    return np.unique(np.concatenate([spread, *near]))


def local_predictions(
    covariance: Covariance, x: Floats, y: Floats, noise: Floats, at: Floats, *, itself: bool = False
) -> tuple[Floats, Floats]:
    """Mean and variance of the process at points, each from the rows nearest to it.

    Args:
        covariance: learnt.
        x: coordinates of the rows, ``(rows, coordinates)``.
        y: their log latencies less the trend, ``(rows,)``.
        noise: their noise variances, ``(rows,)``.
        at: coordinates of the points, ``(points, coordinates)``.
        itself: the points are rows, and each one's own row, its nearest, is left out.

    Returns:
        Mean and variance without noise, each ``(points,)``.
    """
    import torch

    n = min(_N_NEIGHBOURS, len(x) - itself)
    scale = covariance.metric
    tree = KDTree(x * scale, balanced_tree=False)  # rows lie in clumps: a third faster
    nearest = tree.query(at * scale, k=np.arange(1 + itself, n + 1 + itself), workers=_WORKERS)[1]
    log_scales = torch.tensor([covariance.smooth_scales, covariance.rough_scales], dtype=torch.float64).log()
    log_variances = torch.tensor([covariance.smooth, covariance.rough], dtype=torch.float64).log()
    xs, ys, noises, points = (torch.from_numpy(np.ascontiguousarray(part)) for part in (x, y, noise + _JITTER, at))

    def predict(start: int) -> tuple[Floats, Floats]:
        rows = torch.from_numpy(nearest[start : start + _CHUNK])
        here = points[start : start + _CHUNK][:, None]
        around = xs[rows] - here  # seen from the point, which keeps small distances exact
        inside, across = _kernel_around(around, log_scales, log_variances)
        inside.diagonal(dim1=-2, dim2=-1).add_(noises[rows])
        weights = torch.cholesky_solve(across, torch.linalg.cholesky(inside))[..., 0]
        return (weights * ys[rows]).sum(-1).numpy(), (weights * across[..., 0]).sum(-1).numpy()

    # chunks side by side, each on one core: their operations are too small to be shared out
    alone = partial(threadpool_limits, 1, "openmp")
    with ThreadPoolExecutor(_WORKERS, initializer=alone) as pool:
        parts = list(pool.map(predict, range(0, len(at), _CHUNK)))
    mean, explained = (np.concatenate(part) for part in zip(*parts, strict=True)) if parts else (np.empty(0),) * 2
    return mean, np.maximum(covariance.smooth + covariance.rough - explained, 0)
