"""The kernels that Paddle-Lite makes, by rule."""

from __future__ import annotations

import pytest
from torch import nn

from latency_nas.engine import Target, fuse
from latency_nas.graph.torch.reader import read_torch
from latency_nas.kernel import n_macs
from tests.networks import MobileNet


def test_a_linear_layer_is_one_kernel_or_a_product_and_an_addition() -> None:
    graph = read_torch(nn.Linear(8, 4), input_shape=(1, 8))
    assert [call.kernel.key for call in fuse(graph, "Paddle-Lite")] == ["linear [1,8] -> [1,4] bias=1 dtype=fp32"]
    assert [call.kernel.key for call in fuse(graph, "Paddle-Lite", Target(version="2.11"))] == [
        "matmul [1,8] [8,4] -> [1,4] dtype=fp32",
        "add [1,4] [4] -> [1,4] dtype=fp32",
    ]


@pytest.mark.parametrize(("version", "n_separate"), [("", 17), ("2.11", 35)])
def test_hard_swish_is_folded_by_the_later_version_after_what_is_not_depthwise(version: str, n_separate: int) -> None:
    calls = fuse(
        read_torch(MobileNet(nn.Hardswish), input_shape=(1, 3, 64, 64)), "Paddle-Lite", Target(version=version)
    )
    assert sum(call.kernel.op == "hard_swish" for call in calls) == n_separate


def test_fusion_keeps_the_multiplications_and_every_node() -> None:
    graph = read_torch(MobileNet(), input_shape=(1, 3, 224, 224))
    calls = fuse(graph, "Paddle-Lite")
    assert sum(n_macs(call.kernel) for call in calls) == sum(n_macs(graph.kernel(node)) for node in graph.nodes)
    assert sorted(name for call in calls for name in call.nodes) == sorted(node.name for node in graph.nodes)
