"""Plans of parameters against the parameters of networks that are extracted from their supernets."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from ofa_elastic import EXAMPLE as ELASTIC_EXAMPLE
from ofa_elastic import OPTIONS, Supernet
from torch import nn

from latency_nas import LatencyLoss, ResourceCounter, options_of
from latency_nas.errors import QuantityError, SearchError
from latency_nas.kernel import QUANTITIES
from latency_nas.search.loss.targets import Targets
from latency_nas.search.plan.plan import CostPlan
from tests.supernets import EXAMPLE, ChainNet, MixedOp, all_architectures, conv_relu, loss_of, set_target, table_of

PARAMS = QUANTITIES["parameters"]


def n_parameters(module: nn.Module) -> int:
    """The number of parameters; one that several modules share counts once."""
    return sum(parameter.numel() for parameter in module.parameters())


def loss_of_params(net: nn.Module, **options: Any) -> LatencyLoss:
    loss = LatencyLoss(ResourceCounter("params"), **options)
    loss.attach(net, EXAMPLE)
    return loss


def brute_force(net: ChainNet, plan: CostPlan) -> dict[tuple[int, ...], int]:
    sizes = dict(zip(plan.choices, map(len, plan.candidates), strict=True))
    architectures = all_architectures(sizes)
    return {tuple(architecture.values()): n_parameters(net.subnet(architecture)) for architecture in architectures}


def test_the_plan_is_exact() -> None:
    net = ChainNet()
    plan = loss_of_params(net).plan
    every = brute_force(net, plan)
    assert plan.quantity == PARAMS
    assert not plan.terms
    assert {pick: plan.cost(dict(zip(plan.choices, pick, strict=True))) for pick in every} == every
    assert plan.bounds() == (min(every.values()), max(every.values()))
    assert {cost.source for costs in plan.costs for cost in costs} == {"counted", "none"}
    assert plan.std(dict.fromkeys(plan.choices, 0)) == 0.0


def test_a_parameter_that_two_choices_share_counts_once() -> None:
    """Each choice has its own layer, with one weight in both: a term of both choices subtracts it."""
    first, second = (MixedOp([conv_relu(4, 4, 1), conv_relu(4, 4, kernel)]) for kernel in (3, 5))
    shared = second.ops[0][0].weight = first.ops[0][0].weight
    net = ChainNet(ops=[first, second])
    plan = loss_of_params(net).plan
    every = brute_force(net, plan)
    assert {pick: plan.cost(dict(zip(plan.choices, pick, strict=True))) for pick in every} == every
    both = every[0, 0] + every[1, 1] - every[0, 1] - every[1, 0]
    assert both == -shared.numel()
    assert plan.terms


def test_only_the_part_of_an_elastic_weight_that_is_read_counts() -> None:
    supernet = Supernet()
    loss = LatencyLoss(ResourceCounter("params"))
    loss.attach(supernet, ELASTIC_EXAMPLE, choices=options_of(OPTIONS, lambda net, config: net.configured(config)))
    names = list(OPTIONS)
    for picked in itertools.islice(itertools.product(*OPTIONS.values()), 0, None, 97):
        config = dict(zip(names, picked, strict=True))
        assert loss.price(config).value == n_elastic(config), config


def n_elastic(config: dict[str, int]) -> int:
    """The parameters of the stem, of each stage's convolutions, and of the classifier's columns."""
    n_params, c_in = 8 * 9 + 8, 8
    for stage in range(2):
        depth, kernel, width = (config[f"{kind}{stage}"] for kind in ("depth", "kernel", "width"))
        for _ in range(depth):
            n_params, c_in = n_params + width * c_in * kernel**2 + width, width
    return n_params + 10 * c_in + 10


def test_a_target_has_the_unit_of_the_count() -> None:
    net = ChainNet()
    loss = loss_of_params(net, target=1000)
    cheapest, dearest = loss.plan.bounds()
    assert (loss.target, loss.quantity) == (1000, PARAMS)
    assert repr(loss) == "LatencyLoss(table='params', target_params=1000, weight=1.0, penalty='absolute')"
    with pytest.raises(SearchError) as caught:
        loss.target = 10
    assert str(caught.value) == (
        f"Expected a target that the supernet can reach, from {cheapest:,.0f} params (its cheapest architecture) to "
        f"{dearest:,.0f} params (its dearest), but got 10 params."
    )
    with pytest.raises(SearchError) as caught:
        loss.target = -1
    assert str(caught.value) == "Expected `target` to be a positive number of params, but got -1."


def test_a_loss_of_a_count_has_no_milliseconds() -> None:
    def refusal(name: str, instead: str) -> str:
        return f"Expected a latency where `{name}` is used, but got parameters in params: use `{instead}`."

    with pytest.raises(QuantityError) as caught:
        LatencyLoss(ResourceCounter("params"), 1000)
    assert str(caught.value) == refusal("target_ms", "target")
    loss = loss_of_params(ChainNet())
    names = {"target_ms": "target", "expected_ms": "expected", "std_ms": "std", "argmax_ms": "argmax_cost"}
    for name, instead in names.items():
        with pytest.raises(QuantityError) as caught:
            use(loss, name)
        assert str(caught.value) == refusal(name, instead)
    with pytest.raises(QuantityError) as caught:
        loss.target_ms = 1000
    assert str(caught.value) == refusal("target_ms", "target")
    assert (
        loss.argmax_cost()
        == loss.price(loss.architecture()).value
        == n_parameters(net_of(loss).subnet(loss.architecture()))
    )
    assert float(loss.std().detach()) == 0.0


def use(loss: LatencyLoss, name: str) -> None:
    """Read a property, or call a method."""
    method = getattr(loss, name)
    method()


def net_of(loss: LatencyLoss) -> ChainNet:
    (net,) = loss._supernet
    assert isinstance(net, ChainNet)
    return net


def test_one_target_is_given_and_not_two() -> None:
    with pytest.raises(SearchError) as caught:
        LatencyLoss(table_of(ChainNet()), 1.0, target=2.0)
    assert str(caught.value) == "Expected `target_ms` or `target`, but got both: 1.0 and 2.0."
    assert LatencyLoss(table_of(ChainNet()), target=2.0).target_ms == 2.0


def test_a_plan_of_another_quantity_is_refused() -> None:
    net = ChainNet()
    plan = loss_of_params(net).plan
    with pytest.raises(QuantityError) as caught:
        LatencyLoss(table_of(net)).attach_plan(plan, lambda: torch.zeros(plan.n_gates))
    assert str(caught.value) == (
        "Expected a plan of latency in ms, but got one of parameters in params: make the loss with the table or "
        "counter that the plan was made with."
    )


def test_a_search_for_parameters_moves_towards_its_target() -> None:
    torch.manual_seed(0)
    net = ChainNet()
    loss = loss_of_params(net, penalty="hinge")
    set_target(loss, 0.3)
    before = float(loss.expected().detach())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    for _ in range(10):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert float(loss.expected().detach()) < before
    assert loss.plan.cost(loss.project()) <= loss.target


def test_figures_and_summary_name_each_unit() -> None:
    net = ChainNet()
    latency = Targets({"phone": loss_of(net, at=0.5), "size": LatencyLoss(ResourceCounter("params"))})
    latency.attach(net, EXAMPLE)
    set_target(latency.by_name()["size"])
    figures = latency.figures()
    named = sorted(name for name in figures if name.count("/") == 2 and "entropy" not in name)
    assert named == [
        "latency/phone/argmax_ms", "latency/phone/expected_ms", "latency/phone/target_ms", "latency/phone/temperature",
        "latency/size/argmax_params", "latency/size/expected_params", "latency/size/target_params",
        "latency/size/temperature",
    ]  # fmt: skip
    table, beside = latency.summary(), ["cheapest", "dearest", "share"]
    head = ["choice", "candidate", "probability"]
    assert cells_of(table)[0] == [*head, "phone (ms)", *beside, "size (params)", *beside]
    (total,) = [row for row in cells_of(table) if row[0] == "in all"]
    assert total[7] == f"{n_parameters(net.subnet(latency.architecture())):,}"
    assert cells_of(loss_of(net, at=0.5).summary())[0] == [*head, "ms", *beside]


def cells_of(table: str) -> list[list[str]]:
    lines = [line for line in table.splitlines() if line[:1] in "┃│"]
    return [[cell.strip() for cell in line.replace("┃", "│").split("│")[1:-1]] for line in lines if line]


def test_a_factor_is_undefined_below_one_of_any_unit() -> None:
    loss = LatencyLoss(ResourceCounter("params"), penalty="fbnet")
    with pytest.raises(SearchError) as caught:
        loss.attach(nn.Sequential(MixedOp([nn.ReLU(), nn.Sigmoid()])), EXAMPLE)
    assert str(caught.value) == (
        "Expected costs above 1 params, since FBNet's formula takes a power of log(LAT), but got 0 params (the "
        "cheapest architecture or the target): choose another penalty, or price a larger batch."
    )
