"""Multipliers against loops by hand, against SciPy on a convex problem, and saved in the middle."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy.optimize import minimize

from latency_nas.errors import SearchError
from latency_nas.search.loss.constraint import CONSTRAINTS, AugmentedLagrangian, Constraint, LearnedWeight
from latency_nas.search.loss.loss import LatencyLoss
from tests.supernets import ChainNet, loss_of

TARGET_MS = 4.0


def updated_by(constraint: Constraint, *latencies_ms: float) -> Constraint:
    for latency_ms in latencies_ms:
        constraint.update(lambda latency_ms=latency_ms: latency_ms, TARGET_MS)
    return constraint


# --- formulas


@pytest.mark.parametrize("latency_ms", [2.0, 3.9, 4.0, 6.0])
def test_terms_are_their_formulas(latency_ms: float) -> None:
    multiplier, rho = 0.3, 2.0
    violation = latency_ms / TARGET_MS - 1
    value = torch.tensor(latency_ms, dtype=torch.float64)
    equality = AugmentedLagrangian("equality", multiplier=multiplier, rho=rho)
    expected = multiplier * violation + rho / 2 * violation**2
    assert equality(value, TARGET_MS).item() == pytest.approx(expected, abs=1e-15)
    inequality = AugmentedLagrangian("inequality", multiplier=multiplier, rho=rho)
    expected = (max(0.0, multiplier + rho * violation) ** 2 - multiplier**2) / (2 * rho)
    assert inequality(value, TARGET_MS).item() == pytest.approx(expected, abs=1e-15)
    learned = LearnedWeight(multiplier=multiplier)
    assert learned(value, TARGET_MS).item() == pytest.approx(multiplier * violation, abs=1e-15)


def test_updates_are_by_the_violation_of_the_argmax() -> None:
    latencies_ms = (6.0, 5.0, 3.0, 2.0)  # g = 0.5, 0.25, -0.25, -0.5
    equality = updated_by(AugmentedLagrangian("equality", rho=2.0, every=1), *latencies_ms)
    assert equality.multiplier.item() == 0.0
    inequality = updated_by(AugmentedLagrangian("inequality", rho=2.0, every=1), *latencies_ms, 6.0)
    assert inequality.multiplier.item() == 1.0  # 1, 1.5, 1, 0, 1
    low = updated_by(AugmentedLagrangian("inequality", rho=2.0, every=1), 2.0)
    assert low.multiplier.item() == 0.0
    assert updated_by(LearnedWeight(0.5), 2.0).multiplier.item() == -0.25


def test_only_one_of_several_steps_is_an_update() -> None:
    calls: list[int] = []
    constraint = AugmentedLagrangian(every=3)
    updated = [constraint.update(lambda: calls.append(1) or 6.0, TARGET_MS) for _ in range(7)]
    assert updated == [False, False, True, False, False, True, False]
    assert len(calls) == 2
    assert constraint.multiplier.item() == 1.0


def test_rho_grows_where_the_violation_does_not_shrink() -> None:
    constraint = AugmentedLagrangian("equality", growth=2.0, max_rho=3.0, shrinkage=0.5, every=1)
    rhos = [updated_by(constraint, latency_ms).rho.item() for latency_ms in (8.0, 5.0, 5.0, 5.0, 4.0)]
    assert rhos == [1.0, 1.0, 2.0, 3.0, 3.0]


@pytest.mark.parametrize("kind", ["equality", "inequality"])
def test_a_convex_problem_ends_where_scipy_ends(kind: str) -> None:
    """Minimise (x - 1)^2 + (y - 3)^2 subject to x + y = 2.5, or <= 2.5."""
    point = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    constraint = AugmentedLagrangian(kind, rho=4.0, every=40)
    optimizer = torch.optim.SGD([point], lr=0.05)
    for _ in range(2000):
        loss = ((point - torch.tensor([1.0, 3.0])) ** 2).sum() + constraint(point.sum(), 2.5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        constraint.update(lambda: point.sum().item(), 2.5)
    type_of = {"equality": "eq", "inequality": "ineq"}[kind]
    expected = minimize(
        lambda p: (p[0] - 1) ** 2 + (p[1] - 3) ** 2,
        [0, 0],
        constraints={"type": type_of, "fun": lambda p: 2.5 - p.sum()},
    )
    assert point.detach().numpy() == pytest.approx(expected.x, abs=1e-5)
    assert constraint.multiplier.item() == pytest.approx(1.5 * 2.5, abs=1e-4)  # -df/dx = lambda / T


# --- as the state of a loss


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_a_saved_search_goes_on_to_the_last_bit(name: str) -> None:
    def run(loss: LatencyLoss, supernet: ChainNet, n_steps: int) -> None:
        for _ in range(n_steps):
            for alpha in supernet.alphas():
                alpha.grad = None
            loss().backward()
            with torch.no_grad():
                for alpha in supernet.alphas():
                    alpha -= 0.3 * alpha.grad
            loss.step()

    supernet, other = ChainNet(), ChainNet()
    with torch.no_grad():
        for alpha in supernet.alphas():
            alpha.neg_()  # from the dearest architecture
    loss = loss_of(supernet, at=0.1, penalty=name)
    run(loss, supernet, 25)
    resumed = loss_of(other, at=0.1, penalty=name)
    other.load_state_dict(supernet.state_dict())
    resumed.load_state_dict(loss.state_dict())
    for item, net in ((loss, supernet), (resumed, other)):
        run(item, net, 25)
    assert loss.penalty.multiplier.item() > 0
    for name, tensor in loss.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    assert all(torch.equal(*pair) for pair in zip(supernet.alphas(), other.alphas(), strict=True))


def test_a_warm_up_leaves_the_multiplier_alone() -> None:
    loss = loss_of(ChainNet(), at=0.1, penalty="learned-weight")
    loss.scale.fill_(0.0)
    assert not loss.step()
    loss.scale.fill_(0.5)
    assert loss.step()
    assert loss.penalty.multiplier.item() == pytest.approx(0.01 * (loss.argmax_ms() / loss.target_ms - 1), rel=1e-12)


def test_half_precision_does_not_round_the_state() -> None:
    loss = loss_of(ChainNet(), penalty="equality").to(torch.bfloat16)
    assert {tensor.dtype for name, tensor in loss.state_dict().items() if "n_steps" not in name} == {torch.float64}


def test_two_losses_do_not_share_a_multiplier() -> None:
    first, second = (loss_of(ChainNet(), penalty="equality") for _ in range(2))
    assert first.penalty is not second.penalty


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AugmentedLagrangian("both"), "Expected `kind` to be 'equality' or 'inequality', but got 'both'."),
        (lambda: AugmentedLagrangian(rho=0.0), "Expected `rho` to be positive and not above 100.0, but got 0.0."),
        (lambda: AugmentedLagrangian(growth=0.5), "Expected `growth` to be a number >= 1, but got 0.5."),
        (lambda: LearnedWeight(-1.0), "Expected `eta` to be a positive number, but got -1.0."),
        (lambda: LearnedWeight(every=0), "Expected `every` to be a positive number of steps, but got 0."),
    ],
)
def test_arguments_out_of_range(make: Any, message: str) -> None:
    with pytest.raises(SearchError) as caught:
        make()
    assert str(caught.value) == message


def test_a_constraint_needs_a_target() -> None:
    loss = loss_of(ChainNet(), penalty="equality")
    loss.target_ms = None
    with pytest.raises(SearchError) as caught:
        loss()
    assert str(caught.value) == "Expected a target for the constraint, but `target_ms` is None."
