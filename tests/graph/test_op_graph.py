"""Extracting architectures from a supernet's graph."""

from __future__ import annotations

import pytest
from torch import nn

from latency_nas.errors import GraphError
from latency_nas.graph import OpGraph
from latency_nas.graph.torch.reader import read_torch
from tests.supernets import MixedOp


@pytest.fixture
def graph() -> OpGraph:
    candidates = [nn.Conv2d(4, 4, 1), nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()), nn.Identity()]
    model = nn.Sequential(nn.Conv2d(3, 4, 1), MixedOp(candidates), nn.Conv2d(4, 2, 1))
    return read_torch(model, input_shape=(1, 3, 8, 8), choices={"1": ("1.ops.0", "1.ops.1", "1.ops.2")})


def test_choices_are_counted(graph: OpGraph) -> None:
    assert graph.choices == {"1": 3}


@pytest.mark.parametrize(
    ("candidate", "names"),
    [(0, ["1.ops.0/conv2d"]), (1, ["1.ops.1.0/conv2d", "1.ops.1.1/relu"]), (2, [])],
)
def test_a_candidate_replaces_its_choice(graph: OpGraph, candidate: int, names: list[str]) -> None:
    network = graph.extract({"1": candidate})
    assert [node.name for node in network.nodes] == ["0/conv2d", *names, "2/conv2d"]
    assert network.choices == {}
    for before, after in zip(network.nodes, network.nodes[1:], strict=False):
        assert network.activations(after) == before.outputs


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ({}, "Expected one candidate for each of the 1 choices; 1 differ."),
        ({"1": 0, "2": 0}, "Expected one candidate for each of the 1 choices; 2 differ."),
        ({"1": 3}, "Expected a candidate of `1` from 0 to 2, but got 3."),
    ],
)
def test_an_architecture_that_does_not_fit_is_refused(
    graph: OpGraph, architecture: dict[str, int], message: str
) -> None:
    with pytest.raises(GraphError) as caught:
        graph.extract(architecture)
    assert str(caught.value) == message
