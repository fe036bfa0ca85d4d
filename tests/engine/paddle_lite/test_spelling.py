"""Chains in ONNX files that are one operator of Paddle, and those that are none."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from latency_nas.engine import fuse
from latency_nas.graph.onnx.reader import read_onnx

MAP = (1, 8, 4, 4)


def kernels(
    *nodes: tuple[str, str, str], source: tuple[int, ...] = MAP, **numbers: float | list[float] | list[int]
) -> list[str]:
    """The kernels of a file with these nodes, each with its type, its inputs and its outputs, and these constants."""
    data = {
        name: numpy_helper.from_array(
            np.array(value, np.int64 if isinstance(value, list) and isinstance(value[0], int) else np.float32), name
        )
        for name, value in numbers.items()
    }
    last = nodes[-1][2]
    graph = helper.make_graph(
        [helper.make_node(op, inputs.split(), outputs.split()) for op, inputs, outputs in nodes],
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, source)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in last.split()],
        list(data.values()),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    return [call.kernel.key for call in fuse(read_onnx(model.SerializeToString()), "Paddle-Lite")]


CLAMPED = (("Add", "x three", "a"), ("Clip", "a zero six", "b"))
NUMBERS = {"zero": 0.0, "three": 3.0, "six": 6.0, "sixth": 1 / 6}


@pytest.mark.parametrize(
    "products",
    [
        (("Mul", "x b", "c"), ("Div", "c six", "d")),
        (("Mul", "b x", "c"), ("Mul", "sixth c", "d")),
        (("Div", "b six", "c"), ("Mul", "x c", "d")),
        (("Mul", "b sixth", "c"), ("Mul", "c x", "d")),
    ],
)
@pytest.mark.parametrize("as_list", [False, True])
def test_hard_swish(products: tuple[tuple[str, str, str], ...], as_list: bool) -> None:
    """Before opset 14, ONNX has no other way to write it. Exporters write the numbers with no axis or with one."""
    numbers = {name: [value] if as_list and name not in ("zero", "six") else value for name, value in NUMBERS.items()}
    assert kernels(*CLAMPED, *products, **numbers) == ["hard_swish [1,8,4,4] -> [1,8,4,4] dtype=fp32"]


def test_what_is_no_hard_swish() -> None:
    """The clamped value has a second reader; or the product is with another tensor."""
    wide = "[1,8,4,4] -> [1,8,4,4]"
    halves = (("Mul", "x b", "c"), ("Div", "c six", "d"))
    assert kernels(*CLAMPED, *halves, ("Add", "b d", "e"), **NUMBERS) == [
        f"paddle.scale {wide} act=relu6 dtype=fp32",
        f"mul [1,8,4,4] {wide} dtype=fp32",
        f"paddle.scale {wide} dtype=fp32",
        f"add [1,8,4,4] {wide} dtype=fp32",
    ]
    assert kernels(("Neg", "x", "y"), *CLAMPED, ("Mul", "y b", "c"), ("Div", "c six", "d"), **NUMBERS) == [
        f"neg {wide} dtype=fp32",
        f"paddle.scale {wide} act=relu6 dtype=fp32",
        f"mul [1,8,4,4] {wide} dtype=fp32",
        f"paddle.scale {wide} dtype=fp32",
    ]


@pytest.mark.parametrize(
    "nodes",
    [
        (("Sigmoid", "x", "a"), ("Mul", "x a", "d")),
        (("Mul", "x one", "a"), ("Sigmoid", "a", "b"), ("Mul", "b x", "d")),
    ],
)
def test_swish(nodes: tuple[tuple[str, str, str], ...]) -> None:
    assert kernels(*nodes, one=[1.0]) == ["swish [1,8,4,4] -> [1,8,4,4] dtype=fp32"]


def test_a_gate_is_no_swish() -> None:
    assert kernels(("Neg", "x", "y"), ("Sigmoid", "y", "a"), ("Mul", "x a", "d")) == [
        "neg [1,8,4,4] -> [1,8,4,4] dtype=fp32",
        "sigmoid [1,8,4,4] -> [1,8,4,4] dtype=fp32",
        "mul [1,8,4,4] [1,8,4,4] -> [1,8,4,4] dtype=fp32",
    ]


def test_a_weight_of_one_element_is_no_number() -> None:
    """Paddle multiplies by it as by any tensor, and knows it in the file of ONNX by its name."""
    made = kernels(("Mul", "x block_0.w_0", "a"), ("Add", "a two", "d"), **{"block_0.w_0": [2.0], "two": [2.0]})
    assert made == [
        "mul [1,8,4,4] [1] -> [1,8,4,4] dtype=fp32",
        "paddle.scale [1,8,4,4] -> [1,8,4,4] dtype=fp32",
    ]


def test_a_slice_drops_its_axis() -> None:
    cut = ("Slice", "x start end axis", "a")
    assert kernels(cut, ("Squeeze", "a axis", "d"), start=[2], end=[3], axis=[1]) == [
        "slice [1,8,4,4] -> [1,4,4] axes=[1] starts=[2] dtype=fp32"
    ]
    assert kernels(cut, ("Squeeze", "a other", "d"), start=[2], end=[3], axis=[1], other=[0, 1]) == [
        "slice [1,8,4,4] -> [1,1,4,4] axes=[1] starts=[2] dtype=fp32",
        "reshape [1,1,4,4] -> [4,4] dtype=fp32",
    ]
