"""What `attach` makes of shared parameters and modules, of any way to call a supernet, and of what it cannot price."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from latency_nas.errors import MissingKernelError, SearchError
from latency_nas.estimate import LatencyEstimator
from latency_nas.search.loss.loss import LatencyLoss
from latency_nas.search.supernet.naming import groups_of
from latency_nas.search.supernet.supernet import find_choices
from latency_nas.table import LatencyTable
from tests.supernets import DATASHEET, MadeUp, MixedOp, conv_relu, snapshot

IMAGE = torch.zeros(1, 4, 8, 8)


def mixed(*kernels: int) -> MixedOp:
    return MixedOp([conv_relu(4, 4, kernel) for kernel in kernels])


def attached(net: nn.Module, **more: Any) -> LatencyLoss:
    latency = LatencyLoss(MadeUp())
    latency.attach(net, **({} if "run" in more else {"example_input": IMAGE}), **more)
    return latency


def test_modules_with_one_parameter_are_places_of_one_choice() -> None:
    net = nn.Sequential(mixed(1, 3), mixed(5, 7))
    net[1].alpha = net[0].alpha
    latency = attached(net)
    assert latency.plan.choices == ("0",)
    for index in range(2):
        true_ms = MadeUp().predict(nn.Sequential(net[0].ops[index], net[1].ops[index]), IMAGE).latency_ms
        assert latency.plan.latency_ms({"0": index}) == pytest.approx(true_ms, rel=1e-9)
    latency.target_ms = min(latency.plan.latency_ms({"0": index}) for index in range(2))
    assert latency.plan.latency_ms(latency.discretize()) <= latency.target_ms
    assert latency.argmax_ms() <= latency.target_ms


def with_shared_candidate() -> nn.Sequential:
    shared = conv_relu(4, 4, 3)
    first, second = mixed(5, 1, 3), mixed(3, 5, 1)
    first.ops[2] = second.ops[0] = shared
    return nn.Sequential(first, nn.MaxPool2d(2), second)


WAYS: dict[str, Callable[[Any], Any]] = {
    "recognised": lambda net: None,
    "named": lambda net: groups_of(
        {"0": net[0].ops, "2": list(net[2].ops)},
        gates=lambda net: {"0": net[0].alpha.softmax(0), "2": net[2].alpha.softmax(0)},
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_candidate_that_two_choices_share(way: str) -> None:
    net = with_shared_candidate()
    plan = attached(net, choices=WAYS[way](net)).plan
    for one, other in product(range(3), repeat=2):
        true_ms = MadeUp().predict(nn.Sequential(net[0].ops[one], net[1], net[2].ops[other]), IMAGE).latency_ms
        assert plan.latency_ms({"0": one, "2": other}) == pytest.approx(true_ms, rel=1e-9)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block = conv_relu(4, 4, 3), mixed(1, 3)

    def features(self, x: Tensor) -> Tensor:
        return self.block(self.stem(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x)


RUNS: dict[str, Callable[[Any], Any]] = {
    "returns the output": lambda net: net(IMAGE),
    "returns nothing": lambda net: net(IMAGE) is None,
    "calls forward": lambda net: net.forward(IMAGE),
    "calls another method": lambda net: net.features(IMAGE),
    "calls the modules inside": lambda net: net.block(net.stem(IMAGE)),
    "returns a dict": lambda net: {"loss": net(IMAGE).sum(), "more": [1]},
}


@pytest.mark.parametrize("way", RUNS)
def test_what_ran_is_priced_whatever_was_called_and_returned(way: str) -> None:
    net = Net()
    before = snapshot(net)
    plan = attached(net, run=RUNS[way]).plan
    assert snapshot(net) == before
    assert "forward" not in vars(net)
    assert "features" not in vars(net)
    priced = [plan.latency_ms({"block": index}) for index in range(2)]
    true = [MadeUp().predict(nn.Sequential(net.stem, op), IMAGE).latency_ms for op in net.block.ops]
    if way == "returns a dict":  # with the sum that the function itself computes
        assert priced[1] - priced[0] == pytest.approx(true[1] - true[0], rel=1e-9)
        assert priced[0] > true[0]
    else:
        assert priced == pytest.approx(true, rel=1e-9)


def test_a_plan_whose_candidates_are_all_free_is_refused() -> None:
    net = nn.Sequential(MixedOp([nn.Identity(), nn.Identity()]), conv_relu(4, 4, 3))
    with pytest.raises(SearchError) as caught:
        attached(net)
    assert str(caught.value) == (
        "Expected candidates that run kernels, but every candidate of every choice is free: nothing that the supernet "
        "returned depends on them."
    )


def test_a_kernel_without_a_price_is_refused_with_on_missing_warn() -> None:
    latency = LatencyLoss(LatencyEstimator(LatencyTable.of({}, DATASHEET), on_missing="warn"))
    with pytest.raises(MissingKernelError, match=r"Expected a price for each kernel of a supernet, since a search"):
        latency.attach(Net(), IMAGE)


def test_a_candidate_that_is_none_is_named_unless_it_is_said() -> None:
    net = nn.Sequential(MixedOp([conv_relu(4, 4, 3), conv_relu(4, 4, 1)]))
    net[0].ops[1] = None
    net[0].forward = lambda x: net[0].alpha.softmax(0)[0] * net[0].ops[0](x)
    with pytest.raises(SearchError) as caught:
        attached(net)
    assert str(caught.value) == (
        "Expected candidates that are modules, but candidate 1 of `0` is None: attach while no path is switched off, "
        "or, if it runs nothing in the deployed network, say so by choices=latency_nas.find_choices(supernet)."
    )
    assert attached(net, choices=find_choices(net)).plan.latency_ms({"0": 1}) == 0
