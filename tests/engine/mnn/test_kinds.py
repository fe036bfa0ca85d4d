"""Kinds of layers and of spellings, one by one: the kernels by rule against the ops that MNN executes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from latency_nas.engine.mnn.converter import convert
from latency_nas.engine.mnn.fusion import fuse_mnn
from latency_nas.engine.mnn.mnn_engine import MNN
from latency_nas.graph import OpGraph
from latency_nas.graph.onnx.reader import read_onnx
from latency_nas.graph.torch.reader import read_torch
from tests.mnn_network import executed_ops

_Function = Callable[[Callable[[Tensor], Tensor], Tensor], Tensor | tuple[Tensor, ...]]


def inverse_root(x: Tensor) -> Tensor:
    return torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class Kind(nn.Module):
    """A function of a convolution's output, and of a layer of its own."""

    def __init__(self, function: _Function, layer: nn.Module) -> None:
        super().__init__()
        self.function, self.layer, self.conv = function, layer, nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.function(self.layer, self.conv(x))


def windows(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    parts = x.permute(0, 2, 3, 1).reshape(n, h // 4, 4, w // 4, 4, c).permute(0, 1, 3, 2, 4, 5)
    return parts.reshape(-1, 16, c)


def joined(x: Tensor) -> Tensor:
    return x.reshape(1, 4, 4, 4, 4, 8).permute(0, 1, 3, 2, 4, 5).reshape(1, 16, 16, 8).permute(0, 3, 1, 2)


def gated(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return x * torch.sigmoid(layer(x.mean((2, 3)))).view(1, 8, 1, 1)


def parted(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    first, second = x.split([4, 4], 1)
    return layer(first * torch.sigmoid(second))


def focused(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    parts = [x[..., row::2, column::2] for column in (0, 1) for row in (0, 1)]
    return layer(torch.cat(parts, 1))


def conv(c_in: int = 8, c_out: int = 8, kernel: int = 3, **named: int) -> nn.Module:
    return nn.Conv2d(c_in, c_out, kernel, **named)


_UNARY = {
    "abs": torch.abs, "neg": torch.neg, "reciprocal": torch.reciprocal, "erf": torch.erf, "elu": functional.elu,
    "selu": functional.selu, "softplus": functional.softplus, "exp": torch.exp, "sin": torch.sin,
    "maximum": lambda x: torch.maximum(x, -x), "pow": lambda x: x**3, "hard swish": functional.hardswish,
    "x * hard_sigmoid(x)": lambda x: x * functional.hardsigmoid(x), "x * sigmoid(x)": lambda x: x * torch.sigmoid(x),
    "x * relu6(x + 3) / 6": lambda x: x * functional.relu6(x + 3) / 6, "1 - x": lambda x: 1 - x,
    "mish": functional.mish, "remainder": lambda x: x % 3, "deviation": lambda x: x - x.std(1, keepdim=True),
    "clamp": lambda x: x.clamp(-x, x + 1), "gelu spelled out": lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5)),
}  # fmt: skip
KINDS: dict[str, tuple[_Function, nn.Module]] = {
    **{name: (lambda layer, x, f=f: layer(f(x)), conv()) for name, f in _UNARY.items()},
    "transposed, norm, relu": (
        lambda layer, x: functional.relu(layer(x)), nn.Sequential(nn.ConvTranspose2d(8, 8, 2, 2), nn.BatchNorm2d(8))
    ),
    "transposed, depthwise": (lambda layer, x: layer(x), nn.ConvTranspose2d(8, 8, 2, 2, groups=8)),
    "transposed, groups": (lambda layer, x: layer(x), nn.ConvTranspose2d(8, 8, 2, 2, groups=4)),
    "two outputs a channel": (lambda layer, x: layer(x), conv(8, 16, groups=8)),
    "groups of two channels": (lambda layer, x: layer(x), conv(groups=4)),
    "gate of linear layers": (gated, nn.Linear(8, 8)),
    "pixel shuffle": (lambda layer, x: layer(functional.pixel_shuffle(x, 2)), conv(2)),
    "pixel unshuffle": (lambda layer, x: layer(functional.pixel_unshuffle(x, 2)), conv(32)),
    "windows": (lambda layer, x: joined(layer(windows(x))), nn.Linear(8, 8)),
    "split, one half gates": (parted, conv(4, 8, 1)),
    "every second pixel": (focused, conv(32)),
    "maximum of a map": (lambda layer, x: layer(x * x.amax((2, 3), keepdim=True)), conv()),
    "mean of two axes apart": (lambda _, x: x.mean((1, 3)), nn.Identity()),
    "conv1d": (lambda layer, x: functional.relu(layer(x.flatten(2))), nn.Conv1d(8, 8, 3, padding=1)),
    "pad and conv": (lambda layer, x: layer(functional.pad(x, (1, 2, 1, 2))), conv()),
    "mirrored pad and conv": (lambda layer, x: layer(functional.pad(x, (1, 2, 1, 2), mode="reflect")), conv()),
    "pad": (lambda _, x: functional.pad(x, (1, 2, 1, 2)), nn.Identity()),
    "channels last norm": (lambda layer, x: layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), nn.LayerNorm(8)),
    "softmax of channels": (lambda layer, x: layer(x.softmax(1)), conv()),
    "two outputs, of which one is read": (lambda layer, x: (x, layer(x)), conv()),
    "variance": (lambda _, x: x.var((2, 3)), nn.Identity()),
    "product of two views": (lambda _, x: x.flatten(2) @ x.flatten(2).transpose(1, 2), nn.Identity()),
    "RMS norm spelled out": (lambda layer, x: layer(x * inverse_root(x)), conv()),
    "RMS norm of products": (
        lambda layer, x: layer(x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-6)), conv()
    ),
    "RMS norm, the root first": (lambda layer, x: layer(inverse_root(x) * x), conv()),
    "RMS norm of cubes": (
        lambda layer, x: layer(x * torch.rsqrt(x.pow(3).mean(-1, keepdim=True) + 1e-6)), conv()
    ),
    "square of torch": (lambda layer, x: layer(x.pow(2)), conv()),
    "selection by a smaller mask": (
        lambda layer, x: layer(torch.where(x.mean(1, keepdim=True) > 0, x, 0.5)), conv()
    ),
    "first token": (lambda layer, x: layer(x.flatten(2).transpose(1, 2)[:, 0]), nn.Linear(8, 8)),
}  # fmt: skip


def check(graph: OpGraph, converted: Path) -> None:
    expected, executed = MNN().executed_ops(fuse_mnn(graph)), executed_ops(converted)
    assert MNN().agree(executed, expected), f"{executed}\n{expected}"


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_of_layer(name: str, tmp_path: Path) -> None:
    graph = read_torch(Kind(*KINDS[name]).eval(), input_shape=(1, 8, 16, 16))
    check(graph, convert(graph, tmp_path / "net.mnn"))


# name -> opset, nodes as (type, inputs, outputs, attributes), constants; from x of shape (1, 8, 4, 4) to y
_Node = tuple[str, list[str], list[str], dict[str, object]]
_W = np.ones((8, 8, 1, 1), np.float32)
_SWISH: list[_Node] = [
    ("Add", ["c", "three"], ["a"], {}), ("Clip", ["a", "zero", "six"], ["r"], {}), ("Mul", ["c", "r"], ["m"], {}),
    ("Div", ["m", "six"], ["y"], {}),
]  # fmt: skip
_NUMBERS = {"three": np.float32(3), "zero": np.float32(0), "six": np.float32(6)}
_LISTS = _NUMBERS | {"three": np.full(1, 3, np.float32)}
FILES: dict[str, tuple[int, list[_Node], dict[str, object]]] = {
    "hard swish of numbers": (13, _SWISH, _NUMBERS),
    "hard swish of lists of a number": (13, _SWISH, _LISTS),
    "softmax of a matrix": (12, [("Softmax", ["c"], ["y"], {"axis": 3})], {}),
    "softmax of the last axis": (12, [("Softmax", ["c"], ["y"], {"axis": -1})], {}),
    "addition of zero": (13, [("Add", ["c", "zero"], ["d"], {}), ("Abs", ["d"], ["y"], {})], _NUMBERS),
    "product with a list of one": (
        13, [("Mul", ["c", "one"], ["d"], {}), ("Abs", ["d"], ["y"], {})], {"one": np.ones(1, np.float32)}
    ),
    "a number on the left": (
        13, [("Add", ["one", "c"], ["d"], {}), ("Mul", ["c", "d"], ["y"], {})],
        {"one": np.ones((1, 1, 1, 1), np.float32)},
    ),
    "bias after a convolution": (13, [("Add", ["c", "bias"], ["y"], {})], {"bias": np.ones((1, 8, 1, 1), np.float32)}),
    "scale after a convolution": (13, [("Mul", ["c", "bias"], ["y"], {})], {"bias": np.ones((1, 8, 1, 1), np.float32)}),
    "square and root": (
        13, [("Mul", ["c", "c"], ["s"], {}), ("Sqrt", ["s"], ["q"], {}), ("Reciprocal", ["q"], ["y"], {})], {}
    ),
    "RMS norm": (
        13,
        [
            ("Pow", ["c", "two"], ["p"], {}), ("ReduceMean", ["p"], ["m"], {"axes": [-1]}),
            ("Add", ["m", "epsilon"], ["a"], {}), ("Sqrt", ["a"], ["q"], {}), ("Div", ["epsilon", "q"], ["r"], {}),
            ("Mul", ["c", "r"], ["n"], {}), ("Mul", ["n", "scale"], ["y"], {}),
        ],
        {"two": np.float32(2), "epsilon": np.float32(1), "scale": np.arange(4, dtype=np.float32)},
    ),
    "power of two": (13, [("Pow", ["c", "two"], ["y"], {})], {"two": np.float32(2)}),
    "reversed rows": (
        13, [("Slice", ["c", "last", "first", "axis", "back"], ["d"], {}), ("Conv", ["d", "w"], ["y"], {})],
        {"last": np.array([-1]), "first": np.array([-99]), "axis": np.array([2]), "back": np.array([-1])},
    ),
    "norm of instances": (
        13, [("InstanceNormalization", ["c", "ones", "ones"], ["d"], {}), ("Conv", ["d", "w"], ["y"], {})],
        {"ones": np.ones(8, np.float32)},
    ),
    "split into a number of parts": (
        18, [("Split", ["c"], ["u", "v"], {"axis": 1, "num_outputs": 2}), ("Mul", ["u", "v"], ["y"], {})], {}
    ),
    "split with sizes": (
        13, [("Split", ["c", "sizes"], ["u", "v"], {"axis": 1}), ("Mul", ["u", "v"], ["y"], {})],
        {"sizes": np.array([4, 4], np.int64)},
    ),
    "the same reshape twice": (
        13,
        [("Reshape", ["c", "to"], ["u"], {}), ("Reshape", ["c", "to"], ["v"], {}), ("Add", ["u", "v"], ["y"], {})],
        {"to": np.array([1, 4, 32], np.int64)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_spelling(name: str, tmp_path: Path) -> None:
    opset, nodes, constants = FILES[name]
    weights = [numpy_helper.from_array(np.asarray(value), key) for key, value in {**constants, "w": _W}.items()]
    made = [helper.make_node("Conv", ["x", "w"], ["c"]), *(helper.make_node(k, i, o, **a) for k, i, o, a in nodes)]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 4, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    model = helper.make_model(
        helper.make_graph(made, "g", [x], [y], weights), opset_imports=[helper.make_opsetid("", opset)], ir_version=8
    )
    onnx.save(model, str(tmp_path / "net.onnx"))
    check(read_onnx(model), convert(tmp_path / "net.onnx", tmp_path / "net.mnn"))
