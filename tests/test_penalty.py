"""Penalties against their formulas in NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from latency_nas.search.penalty import PENALTIES

TARGET_MS = 4.0
LATENCIES_MS = np.array([0.5, 3.9, 4.1, 9.0])  # two below the target, two above
FORMULAS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "absolute": lambda latency: np.abs(latency - TARGET_MS) / TARGET_MS,
    "hinge": lambda latency: np.maximum(latency - TARGET_MS, 0) / TARGET_MS,
    "linear": lambda latency: (latency - TARGET_MS) / TARGET_MS,
}
SLOPES = {"absolute": [-1, -1, 1, 1], "hinge": [0, 0, 1, 1], "linear": [1, 1, 1, 1]}


def test_every_penalty_has_a_formula_here() -> None:
    assert PENALTIES.keys() == FORMULAS.keys() == SLOPES.keys()


@pytest.mark.parametrize("name", FORMULAS)
def test_value_and_slope(name: str) -> None:
    latency = torch.tensor(LATENCIES_MS, requires_grad=True)
    penalty = PENALTIES[name](latency, TARGET_MS)
    np.testing.assert_allclose(penalty.detach().numpy(), FORMULAS[name](LATENCIES_MS), rtol=1e-12)
    (slope,) = torch.autograd.grad(penalty.sum(), latency)
    np.testing.assert_allclose(slope.numpy(), np.array(SLOPES[name]) / TARGET_MS, rtol=1e-12)


@pytest.mark.parametrize("name", FORMULAS)
def test_nothing_to_pay_on_the_target(name: str) -> None:
    assert PENALTIES[name](torch.tensor(TARGET_MS), TARGET_MS) == 0


def test_hinge_is_exactly_zero_below_the_target() -> None:
    assert not PENALTIES["hinge"](torch.linspace(0, TARGET_MS, 9), TARGET_MS).any()
