"""Convolutions whose weights are computed as the network runs, from each source."""

from __future__ import annotations

import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.nn import functional

from latency_nas import LatencyEstimator, ResourceCounter
from latency_nas.engine import fuse
from latency_nas.errors import MissingKernelError
from latency_nas.graph import OpGraph
from latency_nas.graph.onnx.reader import read_onnx
from latency_nas.graph.paddle.builder import build
from latency_nas.graph.paddle.program import PaddleOp, PaddleProgram, PaddleVariable
from latency_nas.graph.torch.reader import read_torch

SHAPES = {"x": (1, 4, 8, 8), "weight": (4, 4, 4, 4), "y": (1, 4, 5, 5)}
KERNEL = (
    "conv2d.computed_weights [1,4,8,8] [4,4,4,4] -> [1,4,5,5] bias=0 dilation=[1,1] group=1 kernel=[4,4] "
    "pad=[0,0,0,0] stride=[1,1] dtype=fp32"
)


class Dynamic(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, x.reshape(4, 4, 4, 4))


def from_torch() -> OpGraph:
    return read_torch(Dynamic(), input_shape=SHAPES["x"])


def from_onnx() -> OpGraph:
    nodes = [helper.make_node("Reshape", ["x", "size"], ["weight"]), helper.make_node("Conv", ["x", "weight"], ["y"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPES[name]) for name in "xy"]
    size = helper.make_tensor("size", TensorProto.INT64, [4], SHAPES["weight"])
    graph = helper.make_graph(nodes, "dynamic", ends[:1], ends[1:], [size])
    return read_onnx(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))


def from_paddle() -> OpGraph:
    attrs = {"strides": (1, 1), "paddings": (0, 0), "dilations": (1, 1), "groups": 1}
    variables = {name: PaddleVariable(shape=shape, dtype="fp32") for name, shape in SHAPES.items()}
    ops = (
        PaddleOp(type="feed", inputs={}, outputs={"Out": ("x",)}, attrs={}),
        PaddleOp(type="reshape2", inputs={"X": ("x",)}, outputs={"Out": ("weight",)}, attrs={"shape": (4, 4, 4, 4)}),
        PaddleOp(
            type="conv2d", inputs={"Input": ("x",), "Filter": ("weight",)}, outputs={"Output": ("y",)}, attrs=attrs
        ),
        PaddleOp(type="fetch", inputs={"X": ("y",)}, outputs={}, attrs={}),
    )
    return build(PaddleProgram(ops=ops, variables=variables), "a program", None).graph()


@pytest.mark.parametrize("source", [from_torch, from_onnx, from_paddle])
def test_the_convolution_is_an_op_of_its_own(source: object) -> None:
    graph = source()  # type: ignore[operator]
    for engine in ("MNN", "Paddle-Lite"):
        assert fuse(graph, engine)[-1].kernel.key == KERNEL


def test_it_has_no_price_and_no_count_unless_a_table_has_it() -> None:
    for estimator in (LatencyEstimator("x86-mnn", on_missing="regress"), ResourceCounter("macs")):
        with pytest.raises(MissingKernelError) as caught:
            estimator.predict(from_torch())
        assert KERNEL in str(caught.value)


def test_weights_that_follow_from_parameters_are_known() -> None:
    class Scaled(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return functional.conv2d(x, self.weight * torch.sigmoid(self.weight), self.bias)

    (node,) = read_torch(Scaled(4, 8, 3), input_shape=SHAPES["x"]).nodes
    assert node.op == "conv2d"
