"""Learning the covariance of the Gaussian process, the only part of the process that needs torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from latency_nas.estimate.regressor.covariance import JITTER, Covariance, Floats

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["learn_covariance"]

_STEPS, _RATE, _N_LEARNT = 40, 0.15, 400


def _squared(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances, ``(..., n, d)`` and ``(..., m, d)`` to ``(..., n, m)``."""
    squares = (a * a).sum(-1)[..., :, None] + (b * b).sum(-1)[..., None, :] - 2 * a @ b.mT
    return squares.clamp_min(0)


def _kernel(a: Tensor, b: Tensor, log_scales: Tensor, log_variances: Tensor) -> Tensor:
    smooth, rough = (-log_scales).exp()
    variances = log_variances.exp()
    s = (3 * _squared(a * rough, b * rough) + 1e-12).sqrt()
    return variances[0] * (-0.5 * _squared(a * smooth, b * smooth)).exp() + variances[1] * (1 + s) * (-s).exp()


def learn_covariance(x: Floats, y: Floats, latency_ms: Floats, noise_factor: Floats, *, seed: int = 0) -> Covariance:
    """The covariance with the largest likelihood, learnt from a sample of the rows.

    Args:
        x: Coordinates, ``(rows, coordinates)``, standardised.
        y: Log latencies minus their trend, ``(rows,)``.
        latency_ms: Smooth estimate of each row's latency, for the noise.
        noise_factor: Factor of each row's noise.
        seed: Seed of the sample.
    """
    import torch

    with torch.inference_mode(False), torch.enable_grad():  # the caller may have turned gradients off
        return _learn(x, y, latency_ms, noise_factor, seed)


def _learn(x: Floats, y: Floats, latency_ms: Floats, noise_factor: Floats, seed: int) -> Covariance:
    import torch
    from torch.optim.adam import (
        adam,
    )  # importing an optimiser's class imports torch's compiler, which takes two seconds

    rng = np.random.default_rng(seed)
    xs, ys, t, factor = (torch.from_numpy(np.ascontiguousarray(part)) for part in (x, y, latency_ms, noise_factor))
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
        covariance = _kernel(a, a, log_scales, log_variances) + torch.diag(factor[part] * noise + JITTER)
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
    """Random rows, half of them neighbours of a few others: without neighbours, short scales could not be learnt."""
    spread = rng.choice(len(x), _N_LEARNT // 2, replace=False)
    near = [np.argsort(np.square(x - x[row]).sum(axis=1))[: _N_LEARNT // 10] for row in spread[:5]]
    return np.unique(np.concatenate([spread, *near]))
