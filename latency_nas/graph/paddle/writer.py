"""Writes an `OpGraph` as a Paddle program with random weights, without Paddle, to be timed by Paddle-Lite.

References:
    Paddle, ``paddle/fluid/framework/framework.proto``, and ``SerializeToStream`` of its dense tensor for the weights.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from latency_nas.errors import MeasureError
from latency_nas.graph import Node, OpGraph
from latency_nas.graph.paddle.proto import ProgramDesc
from latency_nas.kernel import AttrValue, Shape

__all__ = ["write_paddle"]

_DENSE_TENSOR, _FEED, _FETCH, _FP32 = 7, 9, 10, 5  # Paddle's numbers of these types
_N_DRAWN = 4099  # random numbers, repeated; a prime, so that the period differs from that of any layout

Attrs = Mapping[str, AttrValue]

# op with one input and an output of the same shape -> Paddle's name and attributes
_UNARY: dict[str, tuple[str, dict[str, Any]]] = {
    **{op: (op, {}) for op in ("relu", "sigmoid", "tanh", "gelu", "sqrt", "exp", "floor", "abs", "log", "rsqrt")},
    "relu6": ("relu6", {"threshold": 6.0}),
    "leaky_relu": ("leaky_relu", {"alpha": 0.01}),
    "swish": ("swish", {"beta": 1.0}),
    "hard_swish": ("hard_swish", {"threshold": 6.0, "scale": 6.0, "offset": 3.0}),
    "hard_sigmoid": ("hard_sigmoid", {"slope": 0.1666667, "offset": 0.5}),
    "clip": ("clip", {"min": 0.0, "max": 6.0}),
    "paddle.scale": ("scale", {"scale": 2.0, "bias": 0.5, "bias_after_scale": True}),
    "paddle.dropout": ("dropout", {"dropout_prob": 0.2, "is_test": True, "dropout_implementation": "upscale_in_train"}),
}
_BINARY = {
    **{op: f"elementwise_{op}" for op in ("add", "sub", "mul", "div", "pow", "mod")},
    "maximum": "elementwise_max",
    "minimum": "elementwise_min",
}


class _Writer:
    """Collects the variables, operators and weights of one program."""

    def __init__(self, graph: OpGraph, seed: int) -> None:
        self.graph = graph
        self.program = ProgramDesc()
        self.block = self.program.blocks.add(idx=0, parent_idx=-1)
        self.weights: dict[str, Shape] = {}
        self.names = {index: f"value_{index}" for index in range(len(graph.values))}
        self.pool = np.random.default_rng(seed).uniform(-1.0, 1.0, _N_DRAWN).astype(np.float32)

    def variable(self, name: str, shape: Sequence[int], *, persistable: bool = False, kind: int = _DENSE_TENSOR) -> str:
        variable = self.block.vars.add(name=name, persistable=persistable)
        variable.type.type = kind
        if kind == _DENSE_TENSOR:
            variable.type.dense_tensor.tensor.data_type = _FP32
            variable.type.dense_tensor.tensor.dims.extend(shape)
        return name

    def weight(self, name: str, shape: Shape) -> str:
        self.weights[name] = shape
        return self.variable(name, shape, persistable=True)

    def op(self, type_: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any], **attrs: Any) -> None:
        op = self.block.ops.add(type=type_)
        for slots, named in ((op.inputs, inputs), (op.outputs, outputs)):
            for slot, names in named.items():
                slots.add(parameter=slot, arguments=[names] if isinstance(names, str) else names)
        for name, value in attrs.items():
            _set(op.attrs.add(name=name), value)

    def shape(self, index: int) -> Shape:
        return self.graph.values[index].shape

    def operands(self, node: Node) -> list[str]:
        """Names of all inputs. A constant is a new weight."""
        for index in node.inputs:
            if self.graph.values[index].constant and self.names[index] not in self.weights:
                self.weight(self.names[index], self.shape(index))
        return [self.names[index] for index in node.inputs]

    def source(self, node: Node) -> str:
        return self.names[self.graph.activations(node)[0]]

    def target(self, node: Node) -> str:
        return self.names[node.outputs[0]]

    def with_xshape(self, node: Node, type_: str, **attrs: Any) -> None:
        shape = self.shape(self.graph.activations(node)[0])
        xshape = self.variable(f"{self.target(node)}.xshape", (0, *shape))
        self.op(type_, {"X": self.source(node)}, {"Out": self.target(node), "XShape": xshape}, **attrs)


def _set(attr: Any, value: Any) -> None:
    """Set an attribute by the type of its value. Booleans come first, since they are integers to Python."""
    if isinstance(value, bool):
        attr.type, attr.b = 6, value
    elif isinstance(value, int):
        attr.type, attr.i = 0, value
    elif isinstance(value, float):
        attr.type, attr.f = 1, value
    elif isinstance(value, str):
        attr.type, attr.s = 2, value.encode()
    else:
        attr.type = 3
        attr.ints.extend(value)


def _conv(writer: _Writer, node: Node) -> None:
    attrs, source, target = node.attrs, writer.graph.activations(node)[0], writer.target(node)
    c_in, c_out = writer.shape(source)[1], writer.shape(node.outputs[0])[1]
    group, kernel = cast(int, attrs["group"]), cast(Shape, attrs["kernel"])
    if node.op == "conv2d":
        type_ = "depthwise_conv2d" if group == c_in > 1 else "conv2d"
        shape: Shape = (c_out, c_in // group, *kernel)
    else:
        type_, shape = "conv2d_transpose", (c_in, c_out // group, *kernel)
    inputs = {"Input": writer.names[source], "Filter": writer.weight(f"{target}.filter", shape)}
    if attrs.get("bias", 1):
        inputs["Bias"] = writer.weight(f"{target}.bias", (c_out,))
    top, left, bottom, right = cast(tuple[int, int, int, int], attrs["pad"])
    extra: dict[str, Any] = {"output_padding": [], "output_size": []} if node.op != "conv2d" else {}
    writer.op(
        type_, inputs, {"Output": target}, strides=attrs["stride"], paddings=(top, bottom, left, right),
        dilations=attrs["dilation"], groups=group, padding_algorithm="EXPLICIT", data_format="NCHW", **extra,
    )  # fmt: skip


def _batch_norm(writer: _Writer, node: Node) -> None:
    target, channels = writer.target(node), writer.shape(node.outputs[0])[1:2]
    parts = {part: writer.weight(f"{target}.{part}", channels) for part in ("Scale", "Bias", "Mean", "Variance")}
    outputs = {"Y": target, "MeanOut": parts["Mean"], "VarianceOut": parts["Variance"]}
    outputs |= {name: writer.variable(f"{target}.{name}", channels) for name in ("SavedMean", "SavedVariance")}
    writer.op(
        "batch_norm", {"X": writer.source(node), **parts}, outputs, epsilon=1e-5, momentum=0.9, is_test=True,
        data_layout="NCHW", use_global_stats=False, trainable_statistics=False,
    )  # fmt: skip


def _linear(writer: _Writer, node: Node) -> None:
    source, target = writer.graph.activations(node)[0], writer.target(node)
    c_in, c_out = writer.shape(source)[-1], writer.shape(node.outputs[0])[-1]
    weight = writer.weight(f"{target}.weight", (c_in, c_out))
    bias = node.attrs.get("bias", 1)
    product = writer.variable(f"{target}.product", writer.shape(node.outputs[0])) if bias else target
    writer.op(
        "matmul_v2", {"X": writer.names[source], "Y": weight}, {"Out": product}, trans_x=False, trans_y=False
    )  # fmt: skip
    if bias:
        added = {"X": product, "Y": writer.weight(f"{target}.bias", (c_out,))}
        writer.op("elementwise_add", added, {"Out": target}, axis=-1)


def _matmul(writer: _Writer, node: Node) -> None:
    x, y = writer.operands(node)
    writer.op("matmul_v2", {"X": x, "Y": y}, {"Out": writer.target(node)}, trans_x=False, trans_y=False)


def _pool(writer: _Writer, node: Node) -> None:
    attrs, is_global = node.attrs, bool(node.attrs.get("global"))
    top, left, bottom, right = cast(tuple[int, int, int, int], attrs["pad"])
    writer.op(
        "pool2d", {"X": writer.source(node)}, {"Out": writer.target(node)}, pooling_type=attrs["type"],
        ksize=(1, 1) if is_global else attrs["kernel"], strides=attrs["stride"], paddings=(top, bottom, left, right),
        global_pooling=False, adaptive=is_global, exclusive=True, ceil_mode=bool(attrs.get("ceil", 0)),
        padding_algorithm="EXPLICIT", data_format="NCHW",
    )  # fmt: skip


def _unary(writer: _Writer, node: Node) -> None:
    type_, attrs = _UNARY[node.op]
    writer.op(type_, {"X": writer.source(node)}, {"Out": writer.target(node)}, **attrs)


def _binary(writer: _Writer, node: Node) -> None:
    if node.attrs.get("scalar"):
        raise MeasureError(f"Expected operands of {node.name} that are tensors, but one is a number.")
    x, y = writer.operands(node)
    writer.op(_BINARY[node.op], {"X": x, "Y": y}, {"Out": writer.target(node)}, axis=-1)


def _concat(writer: _Writer, node: Node) -> None:
    writer.op("concat", {"X": writer.operands(node)}, {"Out": writer.target(node)}, axis=node.attrs["axis"])


def _split(writer: _Writer, node: Node) -> None:
    axis = cast(int, node.attrs["axis"])
    outputs = [writer.names[index] for index in node.outputs]
    sections = [writer.shape(index)[axis] for index in node.outputs]
    writer.op("split", {"X": writer.source(node)}, {"Out": outputs}, axis=axis, sections=sections, num=0)


def _shuffle(writer: _Writer, node: Node) -> None:
    """Write a shuffle as reshape, transpose and reshape, which Paddle-Lite merges."""
    source, target = writer.source(node), writer.target(node)
    n, c, height, width = writer.shape(node.outputs[0])
    group = cast(int, node.attrs["group"])
    shapes = (n, group, c // group, height, width), (n, c // group, group, height, width), (n, c, height, width)
    steps: tuple[tuple[str, dict[str, Any]], ...] = (
        ("reshape2", {"shape": shapes[0]}),
        ("transpose2", {"axis": (0, 2, 1, 3, 4)}),
        ("reshape2", {"shape": shapes[2]}),
    )
    for number, (type_, attrs) in enumerate(steps):
        made = target if number == 2 else writer.variable(f"{target}.{number}", shapes[number])
        xshape = writer.variable(f"{made}.xshape", (0,))
        writer.op(type_, {"X": source}, {"Out": made, "XShape": xshape}, **attrs)
        source = made


def _softmax(writer: _Writer, node: Node) -> None:
    axis = node.attrs.get("axis", -1)
    writer.op("softmax", {"X": writer.source(node)}, {"Out": writer.target(node)}, axis=axis)


def _reduce_mean(writer: _Writer, node: Node) -> None:
    writer.op(
        "reduce_mean", {"X": writer.source(node)}, {"Out": writer.target(node)}, dim=node.attrs["axes"],
        keep_dim=bool(node.attrs.get("keepdim", 0)), reduce_all=False,
    )  # fmt: skip


_WRITE: dict[str, Callable[[_Writer, Node], None]] = {
    "conv2d": _conv,
    "conv_transpose2d": _conv,
    "batch_norm": _batch_norm,
    "linear": _linear,
    "matmul": _matmul,
    "pool2d": _pool,
    "concat": _concat,
    "split": _split,
    "shuffle_channel": _shuffle,
    "softmax": _softmax,
    "reduce_mean": _reduce_mean,
    "reshape": lambda writer, node: writer.with_xshape(node, "reshape2", shape=writer.shape(node.outputs[0])),
    "transpose": lambda writer, node: writer.with_xshape(node, "transpose2", axis=node.attrs["perm"]),
    **dict.fromkeys(_UNARY, _unary),
    **dict.fromkeys(_BINARY, _binary),
}


def write_paddle(graph: OpGraph, *, seed: int = 0) -> tuple[bytes, bytes]:
    """Write a graph as a Paddle program with random weights.

    Args:
        graph: Graph without open choices, in fp32.
        seed: Seed of the random weights.

    Returns:
        The contents of the ``.pdmodel`` and of the ``.pdiparams``.

    Raises:
        MeasureError: if the graph has ops that cannot be written. The message lists them all.
    """
    unknown = sorted({f"{node.op} (at {node.name})" for node in graph.nodes if node.op not in _WRITE})
    if unknown:
        raise MeasureError(f"Expected ops out of {', '.join(sorted(_WRITE))}, but the model has {', '.join(unknown)}.")
    other_dtypes = sorted({value.dtype for value in graph.values} - {"fp32"})
    if other_dtypes:
        raise MeasureError(
            f"Expected a model in fp32 to write as a Paddle program, but it has {', '.join(other_dtypes)}."
        )
    writer = _Writer(graph, seed)
    writer.variable("feed", (), persistable=True, kind=_FEED)
    writer.variable("fetch", (), persistable=True, kind=_FETCH)
    for index, value in enumerate(graph.values):
        if not value.constant:
            writer.variable(writer.names[index], value.shape)
    for column, index in enumerate(graph.inputs):
        writer.op("feed", {"X": "feed"}, {"Out": writer.names[index]}, col=column)
    for node in graph.nodes:
        _WRITE[node.op](writer, node)
    for column, index in enumerate(graph.outputs):
        writer.op("fetch", {"X": writer.names[index]}, {"Out": "fetch"}, col=column)
    return bytes(writer.program.SerializeToString()), _weights(writer)


def _weights(writer: _Writer) -> bytes:
    """All tensors in the order of their names, each with versions, levels, its description, and its data."""
    parts: list[bytes] = []
    for name, shape in sorted(writer.weights.items()):
        described = ProgramDesc().blocks.add().vars.add().type.dense_tensor.tensor
        described.data_type = _FP32
        described.dims.extend(shape)
        description = described.SerializeToString()
        values: NDArray[np.floating[Any]] = np.resize(writer.pool, prod(shape))
        if name.endswith(".Variance"):
            values = np.abs(values) + 0.5
        elif len(shape) > 1:
            values = values / np.float32(np.sqrt(max(1, prod(shape[1:])) / 3))  # so that activations do not overflow
        parts += [struct.pack("<IQIi", 0, 0, 0, len(description)), description, values.astype("<f4").tobytes()]
    return b"".join(parts)
