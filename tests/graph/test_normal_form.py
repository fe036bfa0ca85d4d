"""Spellings of ops, from ONNX and from torch: they are one op in the graph, and their own nodes can be put back."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from latency_nas.graph import OpGraph
from latency_nas.graph.normal_form.spellings import spelled_out
from latency_nas.graph.onnx.reader import read_onnx
from latency_nas.graph.torch.reader import read_torch

# op -> (nodes as (type, inputs, output), constants): ways to spell it on an input x of shape (1, 8, 4, 4)
_Spelling = tuple[str, list[tuple[str, list[str], str]], dict[str, object]]
SPELLINGS: dict[str, _Spelling] = {
    "x * relu6(x + 3) / 6": ("hard_swish", [
        ("Add", ["x", "three"], "a"), ("Clip", ["a", "zero", "six"], "r"), ("Mul", ["x", "r"], "m"),
        ("Div", ["m", "six"], "y"),
    ], {"three": 3.0, "zero": 0.0, "six": 6.0}),
    "x * (relu6(x + 3) * 1/6)": ("hard_swish", [
        ("Add", ["x", "three"], "a"), ("Clip", ["a", "zero", "six"], "r"), ("Mul", ["r", "sixth"], "m"),
        ("Mul", ["x", "m"], "y"),
    ], {"three": 3.0, "zero": 0.0, "six": 6.0, "sixth": 1 / 6}),
    "x * hard_sigmoid(x)": ("hard_swish", [("HardSigmoid", ["x"], "h"), ("Mul", ["x", "h"], "y")], {}),
    "x * sigmoid(x)": ("swish", [("Sigmoid", ["x"], "s"), ("Mul", ["s", "x"], "y")], {}),
    "x * (1 + erf(x / sqrt 2)) / 2": ("gelu", [
        ("Div", ["x", "root"], "d"), ("Erf", ["d"], "e"), ("Add", ["e", "one"], "a"), ("Mul", ["x", "a"], "m"),
        ("Mul", ["m", "half"], "y"),
    ], {"root": 2**0.5, "one": 1.0, "half": 0.5}),
}  # fmt: skip


_MEAN = [("ReduceMean", ["s"], "m"), ("Add", ["m", "eps"], "a"), ("Sqrt", ["a"], "q")]
_OF_ALL_AXES = {"two": 2.0, "eps": 1e-6, "one": 1.0}
SPELLINGS |= {
    "x * (1 / sqrt(mean(x ** 2) + eps))": ("rms_norm", [
        ("Pow", ["x", "two"], "s"), *_MEAN, ("Reciprocal", ["q"], "r"), ("Mul", ["x", "r"], "y"),
    ], _OF_ALL_AXES),
    "x * (one / sqrt(mean(x * x) + eps))": ("rms_norm", [
        ("Mul", ["x", "x"], "s"), *_MEAN, ("Div", ["one", "q"], "r"), ("Mul", ["x", "r"], "y"),
    ], _OF_ALL_AXES),
    "x / sqrt(mean(x * x) + eps)": ("rms_norm", [
        ("Mul", ["x", "x"], "s"), *_MEAN, ("Div", ["x", "q"], "y"),
    ], _OF_ALL_AXES),
}  # fmt: skip


def read(spelling: _Spelling, opset: int = 17) -> OpGraph:
    _, nodes, constants = spelling
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 4, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 4, 4])
    weights = [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in constants.items()]
    made = [helper.make_node(kind, inputs, [output]) for kind, inputs, output in nodes]
    graph = helper.make_graph(made, "g", [x], [y], weights)
    return read_onnx(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]))


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_spelling_is_one_op_and_can_be_spelled_out(name: str) -> None:
    graph = read(SPELLINGS[name])
    (node,) = graph.nodes
    assert (node.op, node.inputs, node.outputs) == (SPELLINGS[name][0], graph.inputs, graph.outputs)
    spelled = spelled_out(graph)
    assert len(spelled.nodes) == len(SPELLINGS[name][1])
    made = {*spelled.inputs}
    for part in spelled.nodes:
        assert made.issuperset(spelled.activations(part))
        made.update(part.outputs)
    assert made.issuperset(spelled.outputs)
    assert spelled_out(graph, keep=lambda node: True).nodes == graph.nodes


def test_another_number_is_another_op() -> None:
    op, nodes, constants = SPELLINGS["x * relu6(x + 3) / 6"]
    graph = read((op, nodes, {**constants, "three": 2.0}))
    assert [node.op for node in graph.nodes] == ["add", "relu6", "mul", "div"]


def test_a_part_that_is_read_elsewhere_stays() -> None:
    op, nodes, constants = SPELLINGS["x * sigmoid(x)"]
    graph = read((op, [*nodes[:-1], ("Mul", ["s", "x"], "m"), ("Add", ["m", "s"], "y")], constants))
    assert [node.op for node in graph.nodes] == ["sigmoid", "mul", "add"]


def test_the_softmax_of_a_matrix_is_that_of_the_last_axis() -> None:
    node = helper.make_node("Softmax", ["x"], ["y"], axis=3)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8, 4, 4]) for name in "xy")
    model = helper.make_graph([node], "g", [x], [y])
    old = read_onnx(helper.make_model(model, opset_imports=[helper.make_opsetid("", 12)]))
    new = read_onnx(helper.make_model(model, opset_imports=[helper.make_opsetid("", 13)]))
    assert [(node.op, dict(node.attrs)) for node in old.nodes] == [("softmax", {"axis": 3})]
    assert [part.op for part in spelled_out(old).nodes] == ["reshape", "softmax", "reshape"]
    assert [node.spelled for node in new.nodes] == [()]


@pytest.mark.parametrize("function", [
    lambda x: torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * x,  # MNN joins it only with x first
    lambda x: x * torch.rsqrt(x.pow(3).mean(-1, keepdim=True) + 1e-6),
    lambda x: x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-6),
    lambda x: -x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6),
    lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True)),
])  # fmt: skip
def test_what_only_looks_like_an_rms_norm_stays(function: Callable[[Tensor], Tensor]) -> None:
    ops = [node.op for node in read_torch(Act(function), input_shape=(1, 8, 4, 4)).nodes]
    assert {"pow", "reduce_mean", "rsqrt", "mul"} <= set(ops)
    assert "rms_norm" not in ops


def test_an_rms_norm_keeps_its_weights_and_axes() -> None:
    class Norm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(4, 4))

        def forward(self, x: Tensor) -> Tensor:
            return self.scale * (x * torch.rsqrt(x.pow(2).mean((-2, -1), keepdim=True) + 1e-6))

    graph = read_torch(Norm(), input_shape=(1, 8, 4, 4))
    (node,) = graph.nodes
    assert (node.op, dict(node.attrs)) == ("rms_norm", {"axis": 2})
    assert [graph.values[index].parameter for index in node.inputs] == ["", "scale"]
    assert [part.op for part in spelled_out(graph).nodes] == ["pow", "reduce_mean", "add", "rsqrt", "mul", "mul"]


class Act(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@pytest.mark.parametrize(("op", "function"), [
    ("hard_swish", lambda x: x * functional.relu6(x + 3) / 6),
    ("hard_swish", lambda x: functional.hardsigmoid(x) * x),
    ("swish", lambda x: x * torch.sigmoid(x)),
    ("rms_norm", lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)),
    ("rms_norm", lambda x: torch.ones(4) * (x * torch.rsqrt((x * x).mean((2, 3), keepdim=True) + 1e-6))),
])  # fmt: skip
def test_torch_has_the_same_normal_form(op: str, function: Callable[[Tensor], Tensor]) -> None:
    graph = read_torch(Act(function), input_shape=(1, 8, 4, 4))
    assert [node.op for node in graph.nodes] == [op]


def test_an_extracted_choice_is_read_by_all_parts_of_a_spelling() -> None:
    class Supernet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.ModuleList([nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1)])

        def forward(self, x: Tensor) -> Tensor:
            y = sum(gate * candidate(x) for gate, candidate in zip(torch.ones(2), self.block, strict=True))
            return y * functional.hardsigmoid(y)

    graph = read_torch(Supernet(), input_shape=(1, 8, 4, 4), choices={"block": ["block.0", "block.1"]})
    assert graph.choices == {"block": 2}
    spelled = spelled_out(graph.extract({"block": 1}))
    assert [node.op for node in spelled.nodes] == ["conv2d", "hard_sigmoid", "mul"]
    made = {index for node in spelled.nodes for index in node.outputs}
    assert all(made.issuperset(part.inputs) for part in spelled.nodes[1:])
