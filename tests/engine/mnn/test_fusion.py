"""The kernels that the rules give against the ops that MNN executes, by two ways of conversion."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from supernet import Supernet
from torch import nn

from latency_nas.engine import ExecutedOp, fuse
from latency_nas.engine.mnn.converter import convert
from latency_nas.engine.mnn.fusion import fuse_mnn
from latency_nas.engine.mnn.mnn_engine import MNN
from latency_nas.errors import GraphError
from latency_nas.graph import Node, OpGraph, Value
from latency_nas.graph.architectures import random_architectures
from latency_nas.graph.torch.reader import read_torch
from latency_nas.kernel import n_macs
from latency_nas.search.supernet.supernet import find_choices
from tests.mnn_network import executed_ops, lowered
from tests.networks import SNIPPETS, MobileNet, ResNet18, Snippet
from tests.zoo import ZOO

pytestmark = pytest.mark.usefixtures("exporter_tables_read_once")

FAMILIES = {
    "MobileNetV2": (MobileNet, (1, 3, 64, 64)),
    "MobileNetV3-like": (lambda: MobileNet(nn.Hardswish, se=True), (1, 3, 64, 64)),
    "ResNet18": (ResNet18, (1, 3, 64, 64)),
}
# run by benchmarks/fusion_mnn.py: four of 60 to 138 million weights; BERT, whose input is integers, cannot be written
NOT_HERE = ("AlexNet", "BERT", "VGG11", "VGG16-BN", "Wide-ResNet50")
SEVERAL_OUTPUTS = ("FPN on ResNet18", "SSDLite")  # MNN runs their branches in an order of its own


def ours(model: nn.Module, shape: tuple[int, ...]) -> list[ExecutedOp]:
    return MNN().executed_ops(fuse_mnn(read_torch(model, input_shape=shape)))


def by_writer(model: nn.Module, shape: tuple[int, ...], folder: Path) -> list[ExecutedOp]:
    return executed_ops(convert(read_torch(model, input_shape=shape), folder / "a.mnn"))


def by_exporter(model: nn.Module, shape: tuple[int, ...], folder: Path) -> list[ExecutedOp]:
    return executed_ops(MNN().export(model, torch.zeros(shape), folder / "b.mnn"))


@pytest.mark.parametrize("name", FAMILIES)
def test_families_fuse_to_what_mnn_executes(name: str, tmp_path: Path) -> None:
    make, shape = FAMILIES[name]
    model = make()
    expected = ours(model, shape)
    assert by_writer(model, shape, tmp_path) == expected
    assert by_exporter(model, shape, tmp_path) == expected


@pytest.mark.parametrize("name", [name for name in ZOO if name not in NOT_HERE])
def test_the_zoo_fuses_to_what_mnn_executes(name: str, tmp_path: Path) -> None:
    make, shape = ZOO[name]
    with torch.device("meta"):
        model = make()
    graph = read_torch(model, input_shape=shape)
    executed, expected = lowered(convert(graph, tmp_path / "a.mnn")), [call.kernel for call in fuse_mnn(graph)]
    if name in SEVERAL_OUTPUTS:
        executed, expected = sorted(executed, key=str), sorted(expected, key=str)
    assert executed == expected  # in types and shapes by the session, in attributes by the file


def test_an_extra_or_missing_kernel_or_another_shape_does_not_agree() -> None:
    add = ExecutedOp("BinaryOp", ((1, 8),), ((1, 8),))
    looped = ExecutedOp("While", ((1, 8), (8,)), ((1, 8),))
    relu = ExecutedOp("ReLU", ((1, 8),), ((1, 8),))
    assert MNN().agree([looped, relu], [add, relu])
    for executed in ([looped], [looped, relu, relu], [relu, looped], [replace(looped, outputs=((8,),)), relu]):
        assert not MNN().agree(executed, [add, relu])
    assert not MNN().agree([add], [looped])
    assert not MNN().agree([replace(looped, inputs=((8,), (8,)))], [add])


@pytest.mark.parametrize("name", SNIPPETS)
def test_each_rule_gives_what_mnn_executes(name: str, tmp_path: Path) -> None:
    model, shape = Snippet(SNIPPETS[name]), (1, 8, 8, 8)
    expected = ours(model, shape)
    assert by_writer(model, shape, tmp_path) == expected
    assert by_exporter(model, shape, tmp_path) == expected


def test_random_architectures_of_the_example_fuse_to_what_mnn_executes(tmp_path: Path) -> None:
    supernet, shape = Supernet(), (1, 1, 32, 32)
    choices = {choice.module: choice.candidates for choice in find_choices(supernet)}
    graph = read_torch(supernet, input_shape=shape, choices=choices)
    for architecture in random_architectures(graph.choices, 8, seed=3):
        expected = MNN().executed_ops(fuse_mnn(graph.extract(architecture)))
        subnet = supernet.subnet(architecture)
        assert ours(subnet, shape) == expected
        assert by_writer(subnet, shape, tmp_path) == expected
    assert by_exporter(subnet, shape, tmp_path) == expected


def test_every_node_is_carried_out_by_exactly_one_kernel() -> None:
    graph = read_torch(MobileNet(), input_shape=(1, 3, 64, 64))
    carried = [name for call in fuse_mnn(graph) for name in call.nodes]
    moved = {node.name for node in graph.nodes if node.op == "reshape"}
    assert sorted([*carried, *moved]) == sorted(node.name for node in graph.nodes)


def test_fusion_keeps_the_multiplications() -> None:
    graph = read_torch(ResNet18(), input_shape=(1, 3, 224, 224))
    before = sum(n_macs(graph.kernel(node)) for node in graph.nodes)
    assert sum(n_macs(call.kernel) for call in fuse_mnn(graph)) == before == 1_814_073_344


def test_an_open_choice_is_refused() -> None:
    supernet = Supernet()
    choices = {choice.module: choice.candidates for choice in find_choices(supernet)}
    graph = read_torch(supernet, input_shape=(1, 1, 32, 32), choices=choices)
    with pytest.raises(GraphError) as caught:
        fuse_mnn(graph)
    assert str(caught.value) == "Expected a graph of one architecture, but the choice `blocks.0` is open."


def test_an_engine_without_rules_is_refused() -> None:
    graph = read_torch(nn.ReLU(), input_shape=(1, 8, 4, 4))
    with pytest.raises(GraphError) as caught:
        fuse(graph, "TNN")
    assert str(caught.value) == (
        "Expected an engine whose fusion rules are known (MNN, Paddle-Lite), but got 'TNN': "
        "its tables can be read, but no model can be priced by them yet."
    )


def test_what_follows_from_constants_does_not_run() -> None:
    """The converter computes it; what reads it and an input runs."""
    values = [Value(shape=(4, 8)), Value(shape=(8, 8), constant=True), *[Value(shape=(8, 8))] * 2, Value(shape=(4, 8))]
    nodes = [
        Node(name=op, op=op, inputs=inputs, outputs=(output,), attrs={})
        for op, inputs, output in (("relu", (1,), 2), ("linear", (2,), 3), ("matmul", (0, 3), 4))
    ]
    graph = OpGraph(values=tuple(values), nodes=tuple(nodes), inputs=(0,), outputs=(4,))
    assert [call.kernel.op for call in fuse_mnn(graph) if call.kernel.op != "raster"] == ["matmul"]


class Cached(nn.Module):
    """A first step of decoding, which joins an empty cache to its keys."""

    def forward(self, keys: torch.Tensor) -> torch.Tensor:
        return torch.relu(torch.cat([keys.new_zeros(0), keys], dim=-2))


def test_an_empty_tensor_joins_nothing() -> None:
    graph = read_torch(Cached(), input_shape=(1, 4, 16, 8))
    assert [call.kernel.op for call in fuse_mnn(graph)][-1] == "relu"
