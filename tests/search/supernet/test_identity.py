"""Networks that are taken out of a supernet and number their blocks anew: what is read is the plan of the supernet."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from latency_nas.search.loss.loss import LatencyLoss
from latency_nas.search.supernet.naming import options_of
from tests.styles import ElasticBlock, FbnetV2, Ofa
from tests.supernets import MadeUp, snapshot

Config = Mapping[str, int]


def shared_memory(net: Ofa, config: Config) -> nn.Module:
    """New layers, of which only the depthwise weights are views of the supernet's."""
    return net.subnet(config)


def deep_copies(net: Ofa, config: Config) -> nn.Module:
    """Copies of the active blocks."""
    net.set_active_subnet(config)
    return nn.Sequential(*deepcopy([net.stem, *net.active(), net.head]))


def by_letters(net: Ofa, config: Config) -> nn.Module:
    """As `deep_copies`, under names instead of numbers in a list."""
    return nn.Sequential(OrderedDict((f"layer{n}", module) for n, module in enumerate(deep_copies(net, config))))


def copied_parts(net: Ofa, config: Config) -> nn.Module:
    """New layers with copies of the weights' active parts; a smaller kernel is transformed and is no part of one."""
    net.set_active_subnet(config)
    return nn.Sequential(net.stem, *(copied(block) for block in net.active()), net.head)


def copied(block: ElasticBlock) -> nn.Module:
    made = deepcopy(block.subnet())
    layers = made.inner
    n = layers[0].out_channels
    for layer, source in ((layers[0], block.expand), (layers[4], block.project)):
        part = source.weight[: layer.out_channels, : layer.in_channels]
        layer.load_state_dict({"weight": part, "bias": source.bias[: layer.out_channels]})
    layers[2].load_state_dict({"weight": 2 * layers[2].weight if block.kernel < 5 else layers[2].weight,
                               "bias": block.depth.bias[:n]})  # fmt: skip
    return made


def in_stages(net: Ofa, config: Config) -> nn.Module:
    """A list of all blocks, with a pooling without weights before each stage."""
    net.set_active_subnet(config)
    blocks: list[nn.Module] = []
    for stage, depth in enumerate(net.runtime_depth):
        blocks += [nn.MaxPool2d(3, 1, 1), *deepcopy(list(net.blocks[2 * stage : 2 * stage + depth]))]
    return nn.Sequential(net.stem, nn.Sequential(*blocks), net.head)


WAYS: dict[str, Callable[[Any, Config], nn.Module]] = {
    function.__name__: function for function in (shared_memory, deep_copies, by_letters, copied_parts, in_stages)
}


@pytest.mark.parametrize("way", WAYS)
def test_blocks_may_be_numbered_anew(way: str) -> None:
    torch.manual_seed(0)
    net, take, asked = Ofa(), WAYS[way], 0

    def configure(net: Ofa, config: Config) -> tuple[nn.Module, Tensor]:
        nonlocal asked
        asked += 1
        return take(net, config), torch.zeros(1, 3, config["resolution"], config["resolution"])

    before, latency = snapshot(net), LatencyLoss(MadeUp())
    latency.attach(net, choices=options_of(net.OPTIONS, configure))
    assert asked <= 100
    assert snapshot(net) == before
    random = np.random.default_rng(0)
    for _ in range(20):
        config = {name: int(random.choice(options)) for name, options in net.OPTIONS.items()}
        true_ms = MadeUp().predict(*configure(net, config)).latency_ms
        assert latency.price(config).latency_ms == pytest.approx(true_ms, rel=1e-9)


def test_weights_of_the_same_random_numbers_tell_nothing() -> None:
    """A network made anew after the same seed has some of the supernet's numbers by chance."""
    torch.manual_seed(0)
    net, latency = FbnetV2(), LatencyLoss(MadeUp())

    def configure(net: FbnetV2, config: Config) -> nn.Module:
        torch.manual_seed(0)
        return net.subnet(config)

    plan = latency.attach(net, torch.zeros(1, 3, 8, 8), choices=options_of(net.OPTIONS, configure))
    assert {len(term.candidates) for term in plan.terms} == {2}
