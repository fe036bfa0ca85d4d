"""Penalties against their formulas in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from latency_nas.errors import SearchError
from latency_nas.kernel import LATENCY
from latency_nas.search.loss.loss import LatencyLoss
from latency_nas.search.loss.penalty import (
    FACTORS,
    PENALTIES,
    FBNet,
    MnasNet,
    Penalty,
    ProxylessLog,
    named_penalty,
)
from latency_nas.table import LatencyTable
from tests.supernets import DATASHEET, EXAMPLE, ChainNet, loss_of

TARGET_MS = 4.0
LATENCIES_MS = np.array([0.5, 3.9, 4.1, 9.0])  # two below the target, two above
FORMULAS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "absolute": lambda latency: np.abs(latency - TARGET_MS) / TARGET_MS,
    "hinge": lambda latency: np.maximum(latency - TARGET_MS, 0) / TARGET_MS,
    "linear": lambda latency: (latency - TARGET_MS) / TARGET_MS,
    "log": lambda latency: np.log(latency) - np.log(TARGET_MS),
    "mnasnet-hard": lambda latency: -np.log(np.where(latency <= TARGET_MS, 1, (latency / TARGET_MS) ** -1)),
    "mnasnet-soft": lambda latency: -np.log((latency / TARGET_MS) ** -0.07),
}
INVERSE = TARGET_MS / LATENCIES_MS
SLOPES = {
    "absolute": [-1, -1, 1, 1],
    "hinge": [0, 0, 1, 1],
    "linear": [1, 1, 1, 1],
    "log": INVERSE,
    "mnasnet-hard": [0, 0, *INVERSE[2:]],
    "mnasnet-soft": 0.07 * INVERSE,
}


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
def test_penalties_are_zero_on_the_target(name: str) -> None:
    assert PENALTIES[name](torch.tensor(TARGET_MS), TARGET_MS) == 0


def test_hinge_is_exactly_zero_below_the_target() -> None:
    assert not PENALTIES["hinge"](torch.linspace(0, TARGET_MS, 9), TARGET_MS).any()


# --- MnasNet's product, and factors of the task's loss


@pytest.mark.parametrize(("below", "above"), [(-0.07, -0.07), (0.0, -1.0)], ids=["soft", "hard"])
@pytest.mark.parametrize("latency_ms", LATENCIES_MS)
def test_mnasnet_is_the_logarithm_of_its_product(below: float, above: float, latency_ms: float) -> None:
    task_loss = 0.8
    product = np.exp(-task_loss) * (latency_ms / TARGET_MS) ** (below if latency_ms <= TARGET_MS else above)
    term = MnasNet(below=below, above=above)(torch.tensor(latency_ms), TARGET_MS)
    assert task_loss + term.item() == pytest.approx(-np.log(product), rel=1e-6)


def test_factors_are_their_formulas() -> None:
    latency = torch.tensor([2.0, 9.0], dtype=torch.float64)
    assert {"fbnet": FBNet(), "proxyless-log": ProxylessLog()} == FACTORS
    fbnet = 0.2 * np.log([2.0, 9.0]) ** 0.6
    np.testing.assert_allclose(FBNet()(latency, None).numpy(), fbnet, rtol=1e-12)
    proxyless = 3.0 * (np.log([2.0, 9.0]) / np.log(TARGET_MS)) ** 0.5
    np.testing.assert_allclose(ProxylessLog(alpha=3.0, beta=0.5)(latency, TARGET_MS).numpy(), proxyless, rtol=1e-12)
    assert ProxylessLog()(torch.tensor(TARGET_MS), TARGET_MS) == 1


def test_fbnets_power_is_of_the_logarithm() -> None:
    """Not log(LAT^beta) = beta log(LAT), which would be linear in beta."""
    latency = torch.tensor(9.0, dtype=torch.float64)
    once, twice = (FBNet(alpha=1.0, beta=beta)(latency, None).item() for beta in (1.0, 2.0))
    assert once == pytest.approx(np.log(9))
    assert twice == pytest.approx(np.log(9) ** 2)
    assert twice != pytest.approx(2 * np.log(9))


@pytest.mark.parametrize("name", ["log(LAT^beta)", "log(LAT ** beta)", "log-power"])
def test_the_misreading_is_refused_by_name(name: str) -> None:
    with pytest.raises(SearchError) as caught:
        named_penalty(name)
    assert str(caught.value) == (
        f"Expected `penalty` to be one formula, but {name!r} is read in two ways. FBNet published the factor alpha * "
        "log(LAT)^beta: penalty='fbnet', with latency.combine(task_loss). log(LAT^beta) is a misreading of it and only "
        "beta * log(LAT): penalty='log', weight=beta."
    )


# --- in a loss


def test_a_factor_multiplies_and_a_penalty_is_added() -> None:
    task_loss = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    added = loss_of(ChainNet(), weight=0.5)
    assert torch.equal(added.combine(task_loss), task_loss + added.term())
    multiplied = loss_of(ChainNet(), penalty="fbnet", weight=0.5)
    factor = 0.2 * np.log(multiplied.expected_ms().item()) ** 0.6
    assert multiplied.combine(task_loss).item() == pytest.approx(2 * (0.5 + 0.5 * factor), rel=1e-12)


@pytest.mark.parametrize("penalty", ["fbnet", "proxyless-log"])
def test_gradients_of_factors_reach_the_architecture_and_the_task(penalty: str) -> None:
    supernet = ChainNet()
    loss = loss_of(supernet, penalty=penalty)
    task_loss = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)

    def of_alphas(*alphas: Tensor) -> Tensor:
        for block, alpha in zip(supernet.blocks, alphas, strict=True):
            del block.alpha
            block.alpha = alpha
        return loss.combine(task_loss)

    alphas = [alpha.detach().double().requires_grad_() for alpha in supernet.alphas()]
    assert torch.autograd.gradcheck(of_alphas, alphas)
    loss.combine(task_loss).backward()
    assert task_loss.grad is not None
    assert task_loss.grad.item() == pytest.approx(loss.combine(task_loss).item() / 2, rel=1e-12)


def message_of(penalty: str | Penalty, step: Callable[[LatencyLoss], object], **options: float) -> str:
    with pytest.raises(SearchError) as caught:
        step(loss_of(ChainNet(), penalty=penalty, **options))
    return str(caught.value)


def test_a_factor_cannot_be_added() -> None:
    assert message_of("fbnet", lambda loss: loss()) == (
        "Expected latency.combine(task_loss): FBNet multiplies the task's loss."
    )


@pytest.mark.parametrize(
    ("factor", "cheapest_ms", "target_ms", "smallest"),
    [(FBNet(), 0.9, 4.0, "0.9"), (ProxylessLog(), 0.5, 4.0, "0.5"), (ProxylessLog(), 2.0, 1.0, "1")],
)
def test_a_logarithm_from_one_millisecond_down_is_refused(
    factor: FBNet | ProxylessLog, cheapest_ms: float, target_ms: float, smallest: str
) -> None:
    with pytest.raises(SearchError) as caught:
        factor.check(cheapest_ms, target_ms, LATENCY)
    assert str(caught.value) == (
        f"Expected latencies above 1 ms, since {type(factor).__name__}'s formula takes a power of log(LAT), but got "
        f"{smallest} ms (the cheapest architecture or the target): choose another penalty, or price a larger batch."
    )
    factor.check(1.001, 1.1, LATENCY)


def test_attaching_checks_the_factor() -> None:
    table = loss_of(ChainNet()).estimator.table
    rows = {kernel: replace(row, latency_ms=row.latency_ms / 9) for kernel, row in table.items()}
    with pytest.raises(SearchError, match="FBNet's formula takes a power of"):
        LatencyLoss(LatencyTable.of(rows, DATASHEET), penalty="fbnet").attach(ChainNet(), EXAMPLE)


def test_dividing_by_a_target_needs_one() -> None:
    loss = loss_of(ChainNet(), penalty="proxyless-log")
    loss.target_ms = None
    with pytest.raises(SearchError) as caught:
        loss.combine(torch.tensor(1.0))
    assert str(caught.value) == "Expected a target, which `proxyless-log` divides by, but `target_ms` is None."


def test_any_function_can_be_the_penalty() -> None:
    loss = loss_of(ChainNet(), penalty=lambda latency_ms, target_ms: (latency_ms - target_ms) ** 2, weight=2.0)
    expected = 2 * (loss.expected_ms().item() - loss.target_ms) ** 2
    assert loss.term().item() == pytest.approx(expected, rel=1e-12)
