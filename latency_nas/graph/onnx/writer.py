"""Writes an `OpGraph` as an ONNX model with random weights, to be timed. This takes about a millisecond per layer.

The output of each ONNX node has the name of the graph's node, so that the ops of an engine can be mapped back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
from onnx import helper

from latency_nas.errors import MeasureError
from latency_nas.graph import Node, OpGraph
from latency_nas.graph.normal_form.spellings import spelled_out
from latency_nas.graph.onnx.elementwise import ELEMENTWISE
from latency_nas.graph.onnx.model_parts import ModelParts
from latency_nas.graph.onnx.selections import SELECTIONS
from latency_nas.kernel.cost import GATES
from latency_nas.kernel.vocabulary import OPS, SPATIAL_AXES

__all__ = ["save_onnx"]

_OPSET, _IR_VERSION = 20, 9
_TYPES = {"int64": onnx.TensorProto.INT64, "int32": onnx.TensorProto.INT32, "bool": onnx.TensorProto.BOOL}
_REDUCTIONS = {f"reduce_{name.lower()}": f"Reduce{name}" for name in ("Mean", "Sum", "Max", "Min", "Prod")}


def _ints(node: Node, name: str) -> list[int]:
    return list(cast(tuple[int, ...], node.attrs[name]))


def _list(writer: ModelParts, node: Node, name: str, values: Sequence[int]) -> str:
    return writer.tensor(f"{node.name}.{name}", np.array(values, np.int64))


def _conv(writer: ModelParts, node: Node) -> None:
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


def _batch_norm(writer: ModelParts, node: Node) -> None:
    channels = (writer.shape(node.inputs[0])[1],)
    parts = [writer.weight(f"{node.name}.{part}", channels) for part in ("scale", "shift", "mean")]
    variance = writer.tensor(f"{node.name}.variance", np.ones(channels, np.float32))
    writer.emit(node, "BatchNormalization", [*writer.activations(node), *parts, variance])


def _linear(writer: ModelParts, node: Node) -> None:
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


def _layer_norm(writer: ModelParts, node: Node) -> None:
    """Write a layer norm. Its axis is negative: with a positive one, MNN would split it into several ops."""
    rank = len(writer.shape(node.outputs[0]))
    axis = int(str(node.attrs.get("axis", rank - 1))) - rank
    shape = writer.shape(node.outputs[0])[axis:]
    parts = [writer.weight(f"{node.name}.{part}", shape) for part in ("scale", "shift")]
    writer.emit(node, "LayerNormalization", [*writer.activations(node), *parts], axis=axis)


def _rms_norm(writer: ModelParts, node: Node) -> None:
    """Write the ops of an RMS norm, which ONNX has only from opset 23."""
    rank = len(writer.shape(node.outputs[0]))
    axes = range(int(str(node.attrs.get("axis", rank - 1))) - rank, 0)
    (x,) = writer.activations(node)
    square, mean, moved, root, scaled = (
        f"{node.name}.{part}" for part in ("square", "mean", "moved", "root", "scaled")
    )
    epsilon = writer.tensor(f"{node.name}.epsilon", np.array(1e-6, np.float32))
    steps = (
        ("Mul", [x, x], square), ("ReduceMean", [square, _list(writer, node, "axes", axes)], mean),
        ("Add", [mean, epsilon], moved), ("Sqrt", [moved], root), ("Div", [x, root], scaled),
    )  # fmt: skip
    writer.nodes += [helper.make_node(op_type, inputs, [name], name=name) for op_type, inputs, name in steps]
    writer.emit(node, "Mul", [scaled, writer.weight(f"{node.name}.scale", writer.shape(node.outputs[0])[axes[0] :])])


def _recurrent(writer: ModelParts, node: Node) -> None:
    """Write a recurrent layer, with all its outputs (MNN's converter crashes on fewer), in our order of axes."""
    if "projection" in node.attrs:
        raise MeasureError(f"Expected {node.name} to be a layer that ONNX has, but it projects its hidden state.")
    (x,) = writer.activations(node)
    (steps, batch, features), size = writer.shape(node.inputs[0]), writer.shape(node.outputs[0])[-1]
    hidden, kind = int(str(node.attrs["hidden"])), node.op.upper()
    n_directions, n_rows = size // hidden, GATES[node.op] * hidden
    shapes = {"weight": (n_rows, features), "recurrence": (n_rows, hidden), "bias": (2 * n_rows,)}
    weights = [writer.weight(f"{node.name}.{name}", (n_directions, *shape)) for name, shape in shapes.items()]
    results = [f"{node.name}.{name}" for name in ("sequence", "state", "cell")[: 3 if kind == "LSTM" else 2]]
    ways: dict[str, Any] = {"direction": "bidirectional" if n_directions == 2 else "forward", "hidden_size": hidden}
    ways |= {"linear_before_reset": 1} if kind == "GRU" else {}
    writer.nodes.append(helper.make_node(kind, [x, *weights], results, name=results[0], **ways))
    last = results[0]
    if n_directions == 2:
        last = f"{node.name}.transposed"
        writer.nodes.append(helper.make_node("Transpose", results[:1], [last], name=last, perm=(0, 2, 1, 3)))
    writer.emit(node, "Reshape", [last, _list(writer, node, "shape", (steps, batch, size))])


def _slice(writer: ModelParts, node: Node) -> None:
    axes, starts, shape = _ints(node, "axes"), _ints(node, "starts"), writer.shape(node.outputs[0])
    steps = _ints(node, "steps") if "steps" in node.attrs else [1] * len(axes)
    ends = [start + shape[axis] * step for axis, start, step in zip(axes, starts, steps, strict=True)]
    lists = {"starts": starts, "ends": ends, "axes": axes, "steps": steps}
    stated = [_list(writer, node, name, each) for name, each in lists.items()]
    writer.emit(node, "Slice", [*writer.activations(node), *stated])


def _split(writer: ModelParts, node: Node) -> None:
    """Write a split with sizes, or one into a number of equal parts, which MNN tells from it."""
    axis = int(str(node.attrs["axis"]))
    sizes = [writer.shape(index)[axis] for index in node.outputs]
    equal = node.op == "chunk" and len(set(sizes)) == 1
    stated = [] if equal else [_list(writer, node, "sizes", sizes)]
    parts = {"num_outputs": len(sizes)} if equal else {}
    writer.emit(node, "Split", [*writer.activations(node), *stated], axis=axis, **parts)


def _pad(writer: ModelParts, node: Node) -> None:
    pads = _list(writer, node, "pads", _ints(node, "pads"))
    writer.emit(node, "Pad", [*writer.activations(node), pads], mode=node.attrs["mode"])


def _resize(writer: ModelParts, node: Node) -> None:
    sizes = _list(writer, node, "sizes", writer.shape(node.outputs[0]))
    modes = {} if node.attrs["mode"] != "nearest" else {"nearest_mode": "floor"}
    ways = {"mode": node.attrs["mode"], "coordinate_transformation_mode": "asymmetric" if modes else "half_pixel"}
    writer.emit(node, "Resize", [*writer.activations(node), "", "", sizes], **ways, **modes)


def _pool(writer: ModelParts, node: Node) -> None:
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


def _reduce(writer: ModelParts, node: Node) -> None:
    axes = writer.tensor(f"{node.name}.axes", np.array(_ints(node, "axes"), np.int64))
    writer.emit(node, _REDUCTIONS[node.op], [*writer.activations(node), axes], keepdims=node.attrs.get("keepdim", 0))


def _reshape(writer: ModelParts, node: Node) -> None:
    shape = writer.tensor(f"{node.name}.shape", np.array(writer.shape(node.outputs[0]), np.int64))
    writer.emit(node, "Reshape", [*writer.activations(node), shape])


def _concat(writer: ModelParts, node: Node) -> None:
    writer.emit(node, "Concat", writer.operands(node), axis=node.attrs["axis"])


_WRITE: dict[str, Callable[[ModelParts, Node], None]] = {
    **dict.fromkeys((op for op in SPATIAL_AXES if op.startswith("conv")), _conv),
    **dict.fromkeys((op for op in SPATIAL_AXES if op.startswith("pool")), _pool),
    "batch_norm": _batch_norm,
    "linear": _linear,
    "hard_sigmoid": lambda writer, node: writer.emit(
        node, "HardSigmoid", writer.activations(node), alpha=1 / 6, beta=0.5
    ),
    **dict.fromkeys(_REDUCTIONS, _reduce),
    "reshape": _reshape,
    "concat": _concat,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    **dict.fromkeys(GATES, _recurrent),
    "slice": _slice,
    **dict.fromkeys(("split", "chunk"), _split),
    "pad": _pad,
    "resize": _resize,
    "softmax": lambda writer, node: writer.emit(node, "Softmax", writer.activations(node), axis=node.attrs["axis"]),
    "transpose": lambda writer, node: writer.emit(
        node, "Transpose", writer.activations(node), perm=_ints(node, "perm")
    ),
    **ELEMENTWISE,
    **SELECTIONS,
}


def _type(graph: OpGraph, index: int) -> int:
    """The ONNX type of a value. Floats of any precision are written in fp32."""
    return _TYPES.get(graph.values[index].dtype, onnx.TensorProto.FLOAT)


def save_onnx(graph: OpGraph, target: Path, *, seed: int = 0) -> Path:
    """Write a graph as an ONNX model with random weights. The weights are in a file beside it.

    Args:
        graph: Graph without open choices.
        target: File of the model. The file of the weights has the same name with the suffix ``.weights``.
        seed: Seed of the random weights.

    Raises:
        MeasureError: if the graph has ops that cannot be written. The message lists them all.
    """
    graph = spelled_out(graph, lambda node: any(part.attrs.get("scalar") for part in node.spelled))
    with target.with_suffix(".weights").open("wb") as beside:
        target.write_bytes(_model(ModelParts(graph, seed, beside)).SerializeToString())
    return target


def _model(writer: ModelParts) -> onnx.ModelProto:
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
        helper.make_tensor_value_info(writer.names[index], _type(graph, index), list(graph.values[index].shape))
        for index in graph.inputs
    ]
    outputs = [
        helper.make_tensor_value_info(f"output_{position}", _type(graph, index), list(graph.values[index].shape))
        for position, index in enumerate(graph.outputs)
    ]
    body = helper.make_graph(writer.nodes, "network", inputs, outputs, writer.initializers)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", _OPSET)])
    model.ir_version = _IR_VERSION
    return model
