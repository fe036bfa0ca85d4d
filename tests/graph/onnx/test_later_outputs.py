"""Nodes of which only a later output is read cost what they cost with all outputs."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import pytest
from onnx import NodeProto, TensorProto, helper

from latency_nas.engine import fuse
from latency_nas.errors import GraphError
from latency_nas.graph.onnx.reader import read_onnx

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
# weight -> shape
SHAPES = {"scale": (12,), "w4": (1, 32, 12), "r4": (1, 32, 8), "w3": (1, 24, 12), "r3": (1, 24, 8), "k": (1,)}
CASES: list[tuple[str, Sequence[int], Sequence[str], int, dict[str, Any]]] = [
    ("MaxPool", (1, 4, 8, 12), ("x",), 2, {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("TopK", (1, 64), ("x", "k"), 2, {}),
    ("LSTM", (5, 1, 12), ("x", "w4", "r4"), 3, {"hidden_size": 8}),
    ("GRU", (5, 1, 12), ("x", "w3", "r3"), 2, {"hidden_size": 8}),
    ("LayerNormalization", (4, 12), ("x", "scale"), 3, {}),
    ("DynamicQuantizeLinear", (4, 12), ("x",), 3, {}),
]


def kernels(node: NodeProto, shape: Sequence[int], output: str, engine: str) -> list[str]:
    """The kernels of a node between the input and one of its outputs, without copies."""
    ends = [helper.make_tensor_value_info(name, FLOAT, size) for name, size in (("x", shape), (output, None))]
    weights = [
        helper.make_tensor(name, INT64 if name == "k" else FLOAT, size, [3] * prod(size))
        for name, size in SHAPES.items()
        if name in node.input
    ]
    graph = helper.make_graph([node], "later", ends[:1], ends[1:], weights)
    read = read_onnx(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    copies = {"raster", "slice", "reshape"}
    return [call.kernel.key for call in fuse(read, engine) if call.kernel.op not in copies]


@pytest.mark.parametrize("engine", ["MNN", "Paddle-Lite"])
@pytest.mark.parametrize(("op", "shape", "inputs", "n_outputs", "attrs"), CASES, ids=[case[0] for case in CASES])
def test_it_costs_the_same_whichever_output_is_read(
    op: str, shape: Sequence[int], inputs: Sequence[str], n_outputs: int, attrs: dict[str, Any], engine: str
) -> None:
    every = [f"y{position}" for position in range(n_outputs)]
    whole = kernels(helper.make_node(op, inputs, every, **attrs), shape, "y0", engine)
    assert len(whole) == 1
    for name in every[1:]:
        alone = [other if other == name else "" for other in every]
        for outputs in (every, alone, ["y0", *[""] * (n_outputs - 1)]):
            read = name if name in outputs else "y0"
            assert kernels(helper.make_node(op, inputs, outputs, **attrs), shape, read, engine) == whole


def test_the_mask_of_a_dropout_that_drops_nothing_is_known() -> None:
    for outputs in (["y", "mask"], ["", "mask"]):
        assert kernels(helper.make_node("Dropout", ["x"], outputs), (1, 12), "mask", "MNN") == []


def test_a_loop_that_leaves_out_a_state_is_refused() -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["going"], ["goes_on"]), helper.make_node("Relu", ["state"], ["next"])],
        "body",
        [helper.make_tensor_value_info(name, kind, size) for name, kind, size in (
            ("step", INT64, []), ("going", TensorProto.BOOL, []), ("state", FLOAT, [1, 8]),
        )],
        [helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
         helper.make_tensor_value_info("next", FLOAT, [1, 8])],
    )  # fmt: skip
    count = helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0)
    cast = helper.make_node("Cast", ["sum"], ["n"], to=INT64)
    loop = helper.make_node("Loop", ["n", "", ""], ["y"], body=body)
    ends = [helper.make_tensor_value_info(name, FLOAT, size) for name, size in (("x", (1, 8)), ("y", None))]
    graph = helper.make_graph([count, cast, loop], "loop", ends[:1], ends[1:])
    with pytest.raises(GraphError, match=r"^Expected .*Loop `y`"):
        read_onnx(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
