"""Writes an `OpGraph` as an ONNX model with random weights, to be timed. This takes about a millisecond per layer.

The output of each ONNX node has the name of the graph's node, so that the ops of an engine can be mapped back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from latency_nas.errors import MeasureError
from latency_nas.graph import Node, OpGraph
from latency_nas.graph.normal_form.spellings import spelled_out
from latency_nas.kernel.vocabulary import OPS, SPATIAL_AXES

__all__ = ["save_onnx"]

_OPSET, _IR_VERSION = 20, 9
_N_DRAWN = 65_537  # random numbers, repeated; a prime, so that the period differs from that of any layout
_FEW_BYTES = 1024  # a smaller tensor is written into the model's own file
_STEP = 9973  # distance between the first random numbers of two tensors
_UNARY = {
    "relu": "Relu", "leaky_relu": "LeakyRelu", "elu": "Elu", "selu": "Selu", "mish": "Mish", "hard_swish": "HardSwish",
    "sigmoid": "Sigmoid", "tanh": "Tanh", "gelu": "Gelu", "softplus": "Softplus", "exp": "Exp", "log": "Log",
    "sqrt": "Sqrt", "reciprocal": "Reciprocal", "erf": "Erf", "sin": "Sin", "cos": "Cos", "abs": "Abs", "neg": "Neg",
    "sign": "Sign", "floor": "Floor", "ceil": "Ceil", "round": "Round", "matmul": "MatMul",
}  # fmt: skip
_BINARY = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "pow": "Pow", "maximum": "Max", "minimum": "Min",
}  # fmt: skip
_REDUCTIONS = {f"reduce_{name.lower()}": f"Reduce{name}" for name in ("Mean", "Sum", "Max", "Min", "Prod")}


class _Writer:
    """Collects the nodes and initializers of one model.

    Args:
        graph: Graph to write.
        seed: Seed of the random weights.
        beside: Open file for the weights, so that each is copied only once.
    """

    def __init__(self, graph: OpGraph, seed: int, beside: BinaryIO) -> None:
        self.graph, self.beside = graph, beside
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.drawn = np.random.default_rng(seed).random(_N_DRAWN, np.float32)
        self.names = {index: f"input_{position}" for position, index in enumerate(graph.inputs)}

    def tensor(self, name: str, array: NDArray[np.generic]) -> str:
        """Add an initializer, and return its name."""
        if array.nbytes < _FEW_BYTES:
            self.initializers.append(numpy_helper.from_array(array, name))
            return name
        where = {"location": Path(self.beside.name).name, "offset": self.beside.tell(), "length": array.nbytes}
        self.beside.write(np.ascontiguousarray(array).data)
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        tensor = onnx.TensorProto(name=name, dims=array.shape, data_type=kind, data_location=onnx.TensorProto.EXTERNAL)
        for key, value in where.items():
            tensor.external_data.add(key=key, value=str(value))
        self.initializers.append(tensor)
        return name

    def weight(self, name: str, shape: Sequence[int], *, low: float = -1.0) -> str:
        """Add a random tensor, scaled so that activations neither vanish nor overflow. No two tensors are equal.

        MNN would merge equal ones into one, and its convolutions would then read it as an activation.
        """
        fan_in = max(1, int(np.prod(shape[1:])))
        drawn = np.roll(self.drawn, _STEP * len(self.initializers))
        values = (low + (1.0 - low) * drawn) / np.float32(np.sqrt(fan_in / 3))
        return self.tensor(name, np.resize(values, tuple(shape)))

    def emit(self, node: Node, op_type: str, inputs: Sequence[str], **attributes: Any) -> None:
        outputs = [node.name, *(f"{node.name}.{position}" for position in range(1, len(node.outputs)))]
        self.nodes.append(helper.make_node(op_type, list(inputs), outputs, name=node.name, **attributes))
        self.names.update(zip(node.outputs, outputs, strict=True))

    def activations(self, node: Node) -> list[str]:
        return [self.names[index] for index in self.graph.activations(node)]

    def operands(self, node: Node) -> list[str]:
        """Names of all inputs of a node. A constant input becomes a tensor of random values, which cost the same."""
        for position, index in enumerate(node.inputs):
            if self.graph.values[index].constant:
                self.names[index] = self.weight(f"{node.name}.operand{position}", self.graph.values[index].shape)
        return [self.names[index] for index in node.inputs]

    def shape(self, index: int) -> tuple[int, ...]:
        return self.graph.values[index].shape


def _ints(node: Node, name: str) -> list[int]:
    return list(cast(tuple[int, ...], node.attrs[name]))


def _list(writer: _Writer, node: Node, name: str, values: Sequence[int]) -> str:
    return writer.tensor(f"{node.name}.{name}", np.array(values, np.int64))


def _conv(writer: _Writer, node: Node) -> None:
    extra = {"output_padding": _ints(node, "output_pad")} if "output_pad" in node.attrs else {}
    inputs = writer.activations(node)
    inputs.append(writer.weight(f"{node.name}.weight", writer.shape(node.inputs[1])))
    if node.attrs["bias"]:
        inputs.append(writer.weight(f"{node.name}.bias", (writer.shape(node.outputs[0])[1],)))
    writer.emit(
        node, "ConvTranspose" if "transpose" in node.op else "Conv", inputs, kernel_shape=_ints(node, "kernel"),
        strides=_ints(node, "stride"), pads=_ints(node, "pad"), dilations=_ints(node, "dilation"),
        group=node.attrs["group"], **extra,
    )  # fmt: skip


def _batch_norm(writer: _Writer, node: Node) -> None:
    channels = (writer.shape(node.inputs[0])[1],)
    parts = [writer.weight(f"{node.name}.{part}", channels) for part in ("scale", "shift", "mean")]
    variance = writer.tensor(f"{node.name}.variance", np.ones(channels, np.float32))
    writer.emit(node, "BatchNormalization", [*writer.activations(node), *parts, variance])


def _linear(writer: _Writer, node: Node) -> None:
    """Write a linear layer. With more than two axes it is a product and a sum, as exporters write it."""
    source = writer.shape(writer.graph.activations(node)[0])
    features = writer.shape(node.outputs[0])[-1], source[-1]
    inputs = writer.activations(node)
    bias = [writer.weight(f"{node.name}.bias", features[:1])] if node.attrs.get("bias") else []
    if len(source) == 2:
        writer.emit(node, "Gemm", [*inputs, writer.weight(f"{node.name}.weight", features), *bias], transB=1)
        return
    product = [*inputs, writer.weight(f"{node.name}.weight", features[::-1])]
    if not bias:
        writer.emit(node, "MatMul", product)
        return
    writer.nodes.append(helper.make_node("MatMul", product, [f"{node.name}.product"], name=f"{node.name}.product"))
    writer.emit(node, "Add", [f"{node.name}.product", *bias])


def _layer_norm(writer: _Writer, node: Node) -> None:
    """Write a layer norm. Its axis is negative: with a positive one, MNN would split it into several ops."""
    rank = len(writer.shape(node.outputs[0]))
    axis = int(str(node.attrs.get("axis", rank - 1))) - rank
    shape = writer.shape(node.outputs[0])[axis:]
    parts = [writer.weight(f"{node.name}.{part}", shape) for part in ("scale", "shift")]
    writer.emit(node, "LayerNormalization", [*writer.activations(node), *parts], axis=axis)


def _swish(writer: _Writer, node: Node) -> None:
    (x,) = writer.activations(node)
    writer.nodes.append(helper.make_node("Sigmoid", [x], [f"{node.name}.gate"], name=f"{node.name}.gate"))
    writer.emit(node, "Mul", [x, f"{node.name}.gate"])


def _slice(writer: _Writer, node: Node) -> None:
    axes, starts, shape = _ints(node, "axes"), _ints(node, "starts"), writer.shape(node.outputs[0])
    steps = _ints(node, "steps") if "steps" in node.attrs else [1] * len(axes)
    ends = [start + shape[axis] * step for axis, start, step in zip(axes, starts, steps, strict=True)]
    lists = {"starts": starts, "ends": ends, "axes": axes, "steps": steps}
    stated = [_list(writer, node, name, each) for name, each in lists.items()]
    writer.emit(node, "Slice", [*writer.activations(node), *stated])


def _split(writer: _Writer, node: Node) -> None:
    """Write a split with sizes, or one into a number of equal parts, which MNN tells from it."""
    axis = int(str(node.attrs["axis"]))
    sizes = [writer.shape(index)[axis] for index in node.outputs]
    equal = node.op == "chunk" and len(set(sizes)) == 1
    stated = [] if equal else [_list(writer, node, "sizes", sizes)]
    parts = {"num_outputs": len(sizes)} if equal else {}
    writer.emit(node, "Split", [*writer.activations(node), *stated], axis=axis, **parts)


def _pad(writer: _Writer, node: Node) -> None:
    pads = _list(writer, node, "pads", _ints(node, "pads"))
    writer.emit(node, "Pad", [*writer.activations(node), pads], mode=node.attrs["mode"])


def _resize(writer: _Writer, node: Node) -> None:
    sizes = _list(writer, node, "sizes", writer.shape(node.outputs[0]))
    modes = {} if node.attrs["mode"] != "nearest" else {"nearest_mode": "floor"}
    ways = {"mode": node.attrs["mode"], "coordinate_transformation_mode": "asymmetric" if modes else "half_pixel"}
    writer.emit(node, "Resize", [*writer.activations(node), "", "", sizes], **ways, **modes)


def _relu6(writer: _Writer, node: Node) -> None:
    bounds = [writer.tensor(f"{node.name}.{value}", np.float32(value)) for value in (0, 6)]  # type: ignore[arg-type]
    writer.emit(node, "Clip", [*writer.activations(node), *bounds])


def _pool(writer: _Writer, node: Node) -> None:
    if node.attrs.get("global"):
        kind = {"max": "GlobalMaxPool", "avg": "GlobalAveragePool"}[str(node.attrs["type"])]
        writer.emit(node, kind, writer.activations(node))
        return
    kind = {"max": "MaxPool", "avg": "AveragePool"}[str(node.attrs["type"])]
    extra = {} if kind == "MaxPool" else {"count_include_pad": 1}
    writer.emit(
        node, kind, writer.activations(node), kernel_shape=_ints(node, "kernel"), strides=_ints(node, "stride"),
        pads=_ints(node, "pad"), ceil_mode=node.attrs.get("ceil", 0), **extra,
    )  # fmt: skip


def _reduce(writer: _Writer, node: Node) -> None:
    axes = writer.tensor(f"{node.name}.axes", np.array(_ints(node, "axes"), np.int64))
    writer.emit(node, _REDUCTIONS[node.op], [*writer.activations(node), axes], keepdims=node.attrs.get("keepdim", 0))


def _reshape(writer: _Writer, node: Node) -> None:
    shape = writer.tensor(f"{node.name}.shape", np.array(writer.shape(node.outputs[0]), np.int64))
    writer.emit(node, "Reshape", [*writer.activations(node), shape])


def _unary(writer: _Writer, node: Node) -> None:
    writer.emit(node, _UNARY[node.op], writer.activations(node))


def _binary(writer: _Writer, node: Node) -> None:
    operands = writer.operands(node)
    if node.attrs.get("scalar"):
        operands.append(writer.tensor(f"{node.name}.scalar", np.array(0.5, np.float32)))
    writer.emit(node, _BINARY[node.op], operands)


def _concat(writer: _Writer, node: Node) -> None:
    writer.emit(node, "Concat", writer.operands(node), axis=node.attrs["axis"])


_WRITE: dict[str, Callable[[_Writer, Node], None]] = {
    **dict.fromkeys((op for op in SPATIAL_AXES if op.startswith("conv")), _conv),
    **dict.fromkeys((op for op in SPATIAL_AXES if op.startswith("pool")), _pool),
    "batch_norm": _batch_norm,
    "linear": _linear,
    "relu6": _relu6,
    "hard_sigmoid": lambda writer, node: writer.emit(
        node, "HardSigmoid", writer.activations(node), alpha=1 / 6, beta=0.5
    ),
    **dict.fromkeys(_REDUCTIONS, _reduce),
    "reshape": _reshape,
    "concat": _concat,
    "layer_norm": _layer_norm,
    "swish": _swish,
    "slice": _slice,
    **dict.fromkeys(("split", "chunk"), _split),
    "pad": _pad,
    "resize": _resize,
    "softmax": lambda writer, node: writer.emit(node, "Softmax", writer.activations(node), axis=node.attrs["axis"]),
    "transpose": lambda writer, node: writer.emit(
        node, "Transpose", writer.activations(node), perm=_ints(node, "perm")
    ),
    **dict.fromkeys(_UNARY, _unary),
    **dict.fromkeys(_BINARY, _binary),
}


def save_onnx(graph: OpGraph, target: Path, *, seed: int = 0) -> Path:
    """Write a graph as an ONNX model with random weights. The weights are in a file beside it.

    Args:
        graph: Graph without open choices, with float inputs.
        target: File of the model. The file of the weights has the same name with the suffix ``.weights``.
        seed: Seed of the random weights.

    Raises:
        MeasureError: if the graph has ops that cannot be written. The message lists them all.
    """
    graph = spelled_out(graph, lambda node: any(part.attrs.get("scalar") for part in node.spelled))
    with target.with_suffix(".weights").open("wb") as beside:
        target.write_bytes(_model(_Writer(graph, seed, beside)).SerializeToString())
    return target


def _model(writer: _Writer) -> onnx.ModelProto:
    graph = writer.graph
    unknown = sorted({f"{node.op} (at {node.name})" for node in graph.nodes if node.op not in _WRITE})
    if unknown:
        known = ", ".join(sorted(_WRITE.keys() & OPS.keys()))
        raise MeasureError(f"Expected ops out of {known}, but the model has {', '.join(unknown)}.")
    for node in graph.nodes:
        _WRITE[node.op](writer, node)
    # A node may be an output twice, so each output has a name of its own.
    for position, index in enumerate(graph.outputs):
        name = f"output_{position}"
        writer.nodes.append(helper.make_node("Identity", [writer.names[index]], [name], name=name))
    inputs = [
        helper.make_tensor_value_info(writer.names[index], onnx.TensorProto.FLOAT, list(graph.values[index].shape))
        for index in graph.inputs
    ]
    outputs = [
        helper.make_tensor_value_info(f"output_{position}", onnx.TensorProto.FLOAT, list(graph.values[index].shape))
        for position, index in enumerate(graph.outputs)
    ]
    body = helper.make_graph(writer.nodes, "network", inputs, outputs, writer.initializers)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", _OPSET)])
    model.ir_version = _IR_VERSION
    return model
