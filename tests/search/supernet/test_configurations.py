"""Architectures by index, by name and by option, as `LatencyLoss.price` reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from latency_nas.errors import SearchError
from latency_nas.search.loss.loss import LatencyLoss
from latency_nas.search.plan.architecture import Architecture
from latency_nas.search.supernet.naming import groups_of, options_of
from latency_nas.search.supernet.supernet import find_choices
from tests.search.supernet.test_styles import fbnet, ofa
from tests.styles import Fbnet, Ofa, Spos
from tests.supernets import MadeUp, MixedOp, set_target, snapshot


@pytest.fixture(scope="module")
def elastic() -> LatencyLoss:
    """Attached to a network of integer options: depths 1 and 2, kernels 3 and 5, expansions 1, 2 and 3."""
    torch.manual_seed(0)
    latency = LatencyLoss(MadeUp())
    ofa(latency, Ofa())
    return latency


def cost(latency: LatencyLoss, architecture: Mapping[str, Any]) -> float:
    return latency.price(architecture).latency_ms


def message_of(latency: LatencyLoss, config: dict[str, object]) -> str:
    with pytest.raises(SearchError) as caught:
        latency.price(config)
    return str(caught.value)


def test_integers_are_options_where_options_are(elastic: LatencyLoss) -> None:
    indices = Architecture(dict.fromkeys(elastic.plan.choices, 1))  # the second option of each
    options = elastic.config(indices)
    assert options["depth0"] == 2
    assert options["kernel0"] == 5
    assert options["resolution"] == 12
    assert cost(elastic, options) == cost(elastic, indices) == pytest.approx(elastic.plan.latency_ms(indices))
    as_options = {**options, "depth0": 1, "depth1": 1}
    assert cost(elastic, as_options) == pytest.approx(elastic.plan.latency_ms({**indices, "depth0": 0, "depth1": 0}))
    assert cost(elastic, as_options) != cost(elastic, indices)


def test_what_is_no_option_is_no_index_either(elastic: LatencyLoss) -> None:
    config = {**elastic.config(dict.fromkeys(elastic.plan.choices, 0)), "kernel0": 1}
    assert message_of(elastic, config) == (
        "Expected one of the options 3, 5 of `kernel0`, but got 1; an architecture of indices is priced by "
        "latency.plan.cost."
    )


def test_a_plan_without_its_supernet_takes_no_number_that_could_be_both(elastic: LatencyLoss) -> None:
    latency = LatencyLoss(MadeUp())
    latency.attach_plan(elastic.plan, lambda: torch.zeros(elastic.plan.n_gates))
    indices = dict.fromkeys(elastic.plan.choices, 0)
    assert cost(latency, indices) == pytest.approx(elastic.plan.latency_ms(indices))
    assert message_of(latency, {**indices, "depth0": 1}) == (
        "Expected an index or a name for `depth0`, but 1 could be both: give '1' for the candidate of that name, or "
        "price indices by latency.plan.cost."
    )
    assert cost(latency, {**indices, "depth0": "2"}) == pytest.approx(elastic.plan.latency_ms({**indices, "depth0": 1}))


def test_what_is_found_is_indices() -> None:
    latency = LatencyLoss(MadeUp())
    fbnet(latency, Fbnet())
    set_target(latency)
    for found in (latency.architecture(), latency.project(), latency.discretize()):
        assert isinstance(found, Architecture)
        assert cost(latency, found) == cost(latency, dict(found)) == pytest.approx(latency.plan.latency_ms(found))
    with pytest.raises(SearchError) as caught:
        latency.config(found)
    assert str(caught.value) == ("Expected a supernet that was attached by its options: no other has configurations.")


class SlicedConv(nn.Module):
    """Its first channels, and so those of the convolution that follows."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.conv, self.width = nn.Conv2d(8, 8, kernel, padding=kernel // 2), 8

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.conv.weight[: self.width, : x.shape[1]], self.conv.bias[: self.width]
        return functional.conv2d(x, weight, bias, padding=self.conv.padding).relu()


class WeightedElastic(nn.Module):
    """Blocks of weighted operators whose number and width are elastic."""

    OPTIONS: ClassVar = {"depth": (1, 2, 3), "width": (4, 8)}

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.ModuleList(MixedOp([SlicedConv(1), SlicedConv(3), SlicedConv(5)]) for _ in range(3))
        self.depth = 3

    def configured(self, config: Mapping[str, int]) -> WeightedElastic:
        self.depth = config["depth"]
        for block in self.blocks:
            for op in block.ops:
                op.width = config["width"]
        return self

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        for block in self.blocks[: self.depth]:
            x = block(x)
        return x

    def subnet(self, config: Mapping[str, int], ops: Mapping[str, int]) -> nn.Module:
        self.configured(config)
        picked = [block.ops[ops[f"blocks.{number}"]] for number, block in enumerate(self.blocks[: self.depth])]
        return nn.Sequential(self.stem, nn.ReLU(), *picked)


BOTH: dict[str, Callable[[WeightedElastic], Any]] = {
    "named": lambda net: groups_of(
        {f"blocks.{number}": block.ops for number, block in enumerate(net.blocks)},
        gates=lambda net: {f"blocks.{number}": block.alpha.softmax(0) for number, block in enumerate(net.blocks)},
    ),
    "recognised": find_choices,
}


@pytest.mark.parametrize("kind", BOTH)
def test_weighted_operators_in_a_network_of_elastic_depth_and_width(kind: str) -> None:
    torch.manual_seed(0)
    net, latency, image = WeightedElastic(), LatencyLoss(MadeUp()), torch.zeros(1, 3, 8, 8)
    before = snapshot(net)
    weighted = BOTH[kind](net)
    options = options_of(net.OPTIONS, lambda net, config: net.configured(config))
    latency.attach(net, image, choices=[*weighted, options] if kind == "recognised" else [options, weighted])
    assert snapshot(net) == before
    random = np.random.default_rng(0)
    for _ in range(20):
        ops = {f"blocks.{number}": int(random.integers(3)) for number in range(3)}
        config = {name: int(random.choice(values)) for name, values in net.OPTIONS.items()}
        true_ms = MadeUp().predict(net.subnet(config, ops), image).latency_ms
        assert latency.price({**ops, **config}).latency_ms == pytest.approx(true_ms, rel=1e-9)
    latency.use_config({"depth": 2, "width": 8})
    gradients = torch.autograd.grad(latency.expected_ms(), [block.alpha for block in net.blocks], allow_unused=True)
    assert [gradient is not None and bool(gradient.any()) for gradient in gradients] == [True, True, False]
    set_target(latency, 0.3)
    found = latency.project({"depth": 3, "width": 8})
    assert found.keys() == {*net.OPTIONS, "blocks.0", "blocks.1", "blocks.2"}
    assert latency.price(found).latency_ms <= (latency.target_ms or 0)


def test_a_choice_that_no_configuration_runs_is_named() -> None:
    net = WeightedElastic()
    options = options_of({"depth": (1, 2)}, lambda net, config: net.configured({**config, "width": 8}))
    with pytest.raises(SearchError) as caught:
        LatencyLoss(MadeUp()).attach(net, torch.zeros(1, 3, 8, 8), choices=[options, *find_choices(net)])
    assert str(caught.value) == (
        "Expected every choice to run in some configuration of the supernet, but blocks.2 ran in none."
    )


def test_a_path_that_was_sampled_is_priced() -> None:
    """Single paths have no weights: with `sampled`, the term is that of the path that the last forward took."""
    net, latency, image = Spos(), LatencyLoss(MadeUp()), torch.zeros(1, 3, 8, 8)
    latency.attach(net, image, sampled=True)
    for path in ((0, 1, 2, 3), (2, 2, 0, 1)):
        net(image, path)
        assert latency.expected_ms().item() == pytest.approx(
            latency.plan.latency_ms(dict(zip(latency.plan.choices, path, strict=True))), rel=1e-9
        )
        assert tuple(latency.architecture().values()) == path
    set_target(latency, 0.2)
    config = {"blocks.0": "blocks.0.2", "blocks.1": 2, "blocks.2": 2, "blocks.3": 2}
    found = latency.project(config)
    assert isinstance(found, Architecture)
    assert latency.plan.latency_ms(found) <= (latency.target_ms or 0)
