"""The discretization term: the end of a search draws the parameters to one architecture on its target."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from latency_nas.errors import SearchError
from latency_nas.estimate.resource_counter import ResourceCounter
from latency_nas.search.loss.discretization_term import discretization_term
from latency_nas.search.loss.loss import LatencyLoss
from latency_nas.search.loss.schedule import Schedule
from latency_nas.search.loss.targets import Targets
from tests.supernets import EXAMPLE, ChainNet, loss_of, set_target, table_of

SIZES = (5,) * 5


def test_the_gradient_is_gates_minus_architecture() -> None:
    theta = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    temperature = torch.tensor(0.3, dtype=torch.float64)
    gates = (theta / temperature).softmax(1)
    set_point = {"a": 2, "b": 0, "c": 3}
    (gradient,) = torch.autograd.grad(discretization_term(gates, set_point, temperature), theta)
    one_hot = torch.nn.functional.one_hot(torch.tensor([2, 0, 3]), 4)
    torch.testing.assert_close(gradient, (gates - one_hot).detach(), rtol=1e-12, atol=1e-12)


def make(**options: Any) -> tuple[Any, LatencyLoss]:
    torch.manual_seed(0)
    net = ChainNet(SIZES)
    latency = loss_of(net, at=0.6, weight=0.0, penalty="hinge", **options)
    with torch.no_grad():
        for block in net.blocks:
            block.alpha.copy_(torch.randn(5))
    return net, latency


def run(net: Any, latency: LatencyLoss, steps: range, n_steps: int = 60) -> None:
    alphas = [block.alpha for block in net.blocks]
    for step in steps:
        latency.step(progress=step / n_steps)
        term = latency()
        if term.requires_grad:
            for alpha, gradient in zip(alphas, torch.autograd.grad(term, alphas), strict=True):
                alpha.data -= 0.5 * gradient
    latency.step(progress=1.0)


def test_a_search_ends_on_its_target_by_itself() -> None:
    net, latency = make(schedule=Schedule(discretization=0.5, final_temperature=0.2))
    assert not 0.97 * latency.target_ms <= latency.argmax_ms() <= latency.target_ms
    most_probable = latency.project(within=0.03)
    run(net, latency, range(60))
    assert 0.97 * latency.target_ms <= latency.argmax_ms() <= latency.target_ms
    assert latency.architecture() == most_probable == latency.discretize(within=0.03)
    assert min(latency.gates().max(1).values) > 0.9


def test_without_it_nothing_moves() -> None:
    net, latency = make(schedule=Schedule(final_temperature=0.2))
    before = latency.architecture()
    run(net, latency, range(60))
    assert latency.architecture() == before


def test_an_argmax_on_target_is_kept() -> None:
    _, latency = make(schedule=Schedule(discretization=1.0))
    latency.discretize(within=0.03)
    assert latency.set_point() == latency.architecture()


def test_a_resumed_search_has_the_same_term() -> None:
    schedule = Schedule(discretization=0.8, final_temperature=0.2)
    net, latency = make(schedule=schedule)
    run(net, latency, range(60))
    first, before = make(schedule=schedule)
    for step in range(30):
        run(first, before, range(step, step + 1))
        before.step(progress=(step + 1) / 60)
    second, after = make(schedule=schedule)
    second.load_state_dict(first.state_dict())
    after.load_state_dict(before.state_dict())
    assert after.discretizes
    assert after().item() == before().item() > 0


def test_the_term_is_added_to_the_product_with_a_factor() -> None:
    _, latency = make(schedule=Schedule(discretization=0.5))
    factored = loss_of(ChainNet(SIZES), at=0.6, penalty="fbnet", schedule=Schedule(discretization=0.5))
    assert factored.combine(torch.tensor(2.0)).item() == pytest.approx(2 * factored.factor().item(), rel=1e-6)
    factored.step(progress=0.75)
    whole = 2 * factored.factor() + 0.5 * discretization_term(
        factored.gates(), factored.set_point(), factored.temperature
    )
    assert factored.combine(torch.tensor(2.0)).item() == pytest.approx(whole.item(), rel=1e-6)
    with pytest.raises(SearchError) as caught:
        latency.factor()
    assert str(caught.value) == "Expected a factor, but hinge is added to the task's loss."


def test_several_targets_are_drawn_to_one_architecture() -> None:
    torch.manual_seed(0)
    net = ChainNet(SIZES)
    schedule = Schedule(discretization=1.0)
    params = LatencyLoss(ResourceCounter("params"), weight=0.0, penalty="hinge", schedule=schedule)
    phone = LatencyLoss(table_of(net), weight=0.0, penalty="hinge", schedule=schedule)
    latency = Targets({"phone": phone, "size": params})
    latency.attach(net, EXAMPLE)
    set_target(phone, 0.6)
    set_target(params, 0.7)
    latency.step(progress=0.9)
    latency()
    assert phone.set_point() == params.set_point()
    assert phone.plan.latency_ms(phone.set_point()) <= phone.target_ms
    assert params.plan.cost(phone.set_point()) <= params.target


def test_a_share_is_expected() -> None:
    with pytest.raises(SearchError) as caught:
        Schedule(discretization=1.5)
    assert str(caught.value) == "Expected `discretization` to be a share of the search, from 0 to 1, but got 1.5."
