"""The Gaussian process of nearest rows: its shortcuts against what they are short for."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import torch

from latency_nas.estimate.regressor.covariance import Covariance
from latency_nas.estimate.regressor.covariance_learning import _kernel, learn_covariance
from latency_nas.estimate.regressor.local_gp import _kernel_around, local_predictions

SCALES = torch.tensor([[0.7, 0.2, 1.1], [-0.3, 0.4, 0.1]], dtype=torch.float64)
VARIANCES = torch.tensor([-0.5, -1.5], dtype=torch.float64)
COVARIANCE = Covariance(
    smooth_scales=tuple(SCALES[0].exp().tolist()), rough_scales=tuple(SCALES[1].exp().tolist()),
    smooth=VARIANCES[0].exp().item(), rough=VARIANCES[1].exp().item(), relative=0.01, absolute=0.0,
)  # fmt: skip


def test_covariances_made_in_place_are_those_that_gradients_go_through() -> None:
    around = torch.randn(5, 7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    before = around.clone()
    inside, across = map(torch.from_numpy, _kernel_around(around.numpy(), COVARIANCE))
    torch.testing.assert_close(inside, _kernel(around, around, SCALES, VARIANCES), rtol=1e-12, atol=1e-14)
    centre = torch.zeros(5, 1, 3, dtype=torch.float64)
    torch.testing.assert_close(across, _kernel(around, centre, SCALES, VARIANCES), rtol=1e-12, atol=1e-14)
    assert torch.equal(around, before)


def test_learning_imports_no_compiler() -> None:
    """Which would take longer than all that is learnt."""
    code = (
        "import sys, numpy as np; from latency_nas.estimate.regressor.covariance_learning import learn_covariance; "
        "x = np.random.default_rng(0).normal(size=(30, 3)); y = np.sin(x).sum(1); "
        "learnt = learn_covariance(x, y, np.exp(y), np.ones(30)); "
        "print(max(learnt.smooth_scales) > 1, 'torch' in sys.modules, 'torch._dynamo' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)  # noqa: S603
    assert printed.stdout.split() == ["True", "True", "False"]


def test_learning_works_where_torch_keeps_no_gradients() -> None:
    x = np.random.default_rng(0).normal(size=(12, 3))
    rows = (x, np.sin(x).sum(1), np.ones(12), np.ones(12))
    expected = learn_covariance(*rows)
    for nothing_kept in (torch.no_grad(), torch.inference_mode()):
        with nothing_kept:
            assert learn_covariance(*rows) == expected


def test_predictions_are_those_of_the_whole_process_where_all_rows_are_near() -> None:
    """Rasmussen and Williams, equations 2.25 and 2.26, solved by NumPy."""
    rng = np.random.default_rng(0)
    x, at = rng.normal(size=(20, 3)), rng.normal(size=(4, 3))
    y, noise = np.sin(x).sum(1), np.full(20, 0.01)
    scales = SCALES.exp().tolist()
    smooth, rough = VARIANCES.exp().tolist()

    def k(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        r, s = (np.linalg.norm((a[:, None] - b[None]) / np.array(scale), axis=-1) for scale in scales)
        return smooth * np.exp(-(r**2) / 2) + rough * (1 + np.sqrt(3) * s) * np.exp(-np.sqrt(3) * s)

    weights = np.linalg.solve(k(x, x) + np.diag(noise + 1e-6), k(x, at))
    mean, variance = local_predictions(COVARIANCE, x, y, noise, at)
    np.testing.assert_allclose(mean, weights.T @ y, rtol=1e-5)
    np.testing.assert_allclose(variance, smooth + rough - (weights * k(x, at)).sum(0), rtol=1e-4)


def test_rows_without_noise_that_nearly_coincide_are_predicted_from_far_away() -> None:
    """Where the covariance of the rows is nearly singular, and their distances are differences of large numbers."""
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=(8, 3)), 4, axis=0) + 1e-5 * rng.normal(size=(32, 3))
    scales = tuple((0.05 * SCALES[0].exp()).tolist())
    covariance = Covariance(
        smooth_scales=scales, rough_scales=scales, smooth=1.0, rough=1.0, relative=0.0, absolute=0.0
    )
    mean, variance = local_predictions(covariance, x, np.sin(x).sum(1), np.zeros(32), np.array([x[0], x[0] + 30]))
    assert abs(mean[0] - np.sin(x[0]).sum()) < 1e-3
    assert variance[0] < 1e-4
    assert mean[1] == 0
    assert variance[1] == 2
