"""Parses an ONNX file: its nodes, inputs and outputs, and the shapes and small values that it states."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, inliner, numpy_helper

from latency_nas.errors import GraphError, InputMismatchError, short_repr
from latency_nas.graph.onnx.constants import MAX_ELEMENTS, MAX_FLOATS
from latency_nas.graph.onnx.parameters import parameters_of
from latency_nas.graph.onnx.weights import read_without_weights, without_weights
from latency_nas.graph.parameters import ParameterPart
from latency_nas.kernel import Shape

__all__ = ["STANDARD", "OnnxModel", "load", "python_value", "static_shape", "take_weight", "title"]

_Tensor = tuple[Shape, int]  # shape and ONNX's number of the element type

STANDARD = ("", "ai.onnx")


@dataclass(slots=True)
class OnnxModel:
    """The parts of an ONNX file that a reader needs.

    Args:
        name: Name of the file, for messages.
        proto: Content of the file.
        opset: Version of the opset.
        nodes: Nodes in an order in which they can run.
        inputs: Names of the model's inputs.
        outputs: Names of the model's outputs.
        tensors: Shape and element type of each tensor, by name.
        weights: Names of all tensors that are known before the model runs.
        constants: Values of the small ones of these, by name.
        parts: Parts of parameters that weights hold, by name. Weights that are not parameters are left out.
    """

    name: str
    proto: onnx.ModelProto
    opset: int = 0
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    tensors: dict[str, _Tensor] = field(default_factory=dict)
    weights: set[str] = field(default_factory=set)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    parts: dict[str, tuple[ParameterPart, ...]] = field(default_factory=dict)


# type of an attribute -> function that gives its value; graphs and types have none
_VALUES: dict[int, Callable[[Any], Any]] = {
    1: attrgetter("f"), 2: attrgetter("i"), 3: lambda attribute: attribute.s.decode("utf-8", "replace"),
    4: attrgetter("t"), 6: lambda attribute: tuple(attribute.floats), 7: lambda attribute: tuple(attribute.ints),
}  # fmt: skip


def python_value(attribute: onnx.AttributeProto) -> Any:
    """The value of an attribute; a graph or a type has none."""
    read = _VALUES.get(attribute.type)
    return read(attribute) if read else None


def title(node: onnx.NodeProto) -> str:
    """The name of a node in messages."""
    return f"{node.op_type} `{node.name or next(iter(node.output), '')}`"


def load(
    source: str | Path | bytes | onnx.ModelProto, input_shape: Sequence[int] | Mapping[str, Sequence[int]] | None
) -> OnnxModel:
    """Parse a model.

    Raises:
        GraphError: if the model cannot be read. The message names the file and what it lacks.
    """
    proto, name, folder = _parse(source)
    if proto.functions:
        proto = inliner.inline_local_functions(proto)
    model = OnnxModel(name=name, proto=proto)
    versions = [opset.version for opset in proto.opset_import if opset.domain in STANDARD]
    if not versions or not proto.graph.node:
        raise GraphError(f"Expected {name} to be an ONNX model, but it has no {'nodes' if versions else 'opset'}.")
    model.opset = max(versions)
    _take_weights(model, proto.graph, folder)
    model.parts = parameters_of(proto.graph.node, model.tensors, model.weights)
    changed = _take_inputs(model, proto.graph, input_shape)
    model.outputs = [value.name for value in proto.graph.output]
    if not changed:
        for value in [*proto.graph.value_info, *proto.graph.output]:
            shape = None if value.name in model.tensors else static_shape(value)
            if shape is not None:
                model.tensors[value.name] = shape, value.type.tensor_type.elem_type
    model.nodes = [node for node in proto.graph.node if node.op_type != "Constant"]
    return model


def _parse(source: str | Path | bytes | onnx.ModelProto) -> tuple[onnx.ModelProto, str, Path | None]:
    if isinstance(source, onnx.ModelProto):
        return source, "the given ONNX model", None
    name, folder = "the given bytes", None
    if isinstance(source, bytes):
        source = without_weights(source)
    else:
        name, folder = str(source), Path(source).parent
        try:
            source = read_without_weights(Path(source))
        except OSError as error:
            raise GraphError(f"Expected {name} to be an ONNX file, but it cannot be read: {error.strerror}.") from error
    try:
        return onnx.ModelProto.FromString(source), name, folder
    except Exception as error:  # protobuf's own, which differs between its builds
        raise GraphError(f"Expected {name} to be an ONNX model, but it is truncated or of another format.") from error


def _take_weights(model: OnnxModel, graph: onnx.GraphProto, folder: Path | None) -> None:
    """Read the shapes of all constants and the values of the small ones. Weights beside the file are not opened."""
    for node in graph.node:
        if node.op_type == "Constant" and node.domain in STANDARD and node.output:
            _take_constant(model, node.output[0], node, folder)
    for tensor in graph.initializer:
        _take_tensor(model, tensor.name, tensor, folder)
    for sparse in graph.sparse_initializer:
        take_weight(model, sparse.values.name, tuple(sparse.dims), sparse.values.data_type)


def _take_constant(model: OnnxModel, name: str, node: onnx.NodeProto, folder: Path | None) -> None:
    for attribute in node.attribute:
        value = python_value(attribute)
        if attribute.name == "value" and isinstance(value, onnx.TensorProto):
            _take_tensor(model, name, value, folder)
        elif isinstance(value, int | float | tuple):
            array = np.array(value, np.float32 if attribute.name.startswith("value_float") else np.int64)
            model.constants[name] = array
            take_weight(model, name, array.shape, helper.np_dtype_to_tensor_dtype(array.dtype))
        elif attribute.name == "sparse_value":
            take_weight(model, name, tuple(attribute.sparse_tensor.dims), attribute.sparse_tensor.values.data_type)


def take_weight(model: OnnxModel, name: str, shape: Shape, kind: int) -> None:
    """Record a tensor that is known before the model runs."""
    if not name:
        raise GraphError(
            f"Expected each initializer of {model.name} to have a name, but one of {short_repr(shape)} has none."
        )
    if any(size < 0 for size in shape):
        raise GraphError(f"Expected sizes of `{name}` in {model.name} to be 0 or more, but got {short_repr(shape)}.")
    model.tensors[name] = shape, kind
    model.weights.add(name)


def _take_tensor(model: OnnxModel, name: str, tensor: onnx.TensorProto, folder: Path | None) -> None:
    shape = tuple(tensor.dims)
    take_weight(model, name, shape, tensor.data_type)
    if prod(shape) > (MAX_FLOATS if tensor.data_type == onnx.TensorProto.FLOAT else MAX_ELEMENTS):
        return
    try:
        model.constants[name] = numpy_helper.to_array(tensor, str(folder or ""))
    except Exception:  # wrong length, or data beside the file: a reader that needs the value will report it
        model.constants.pop(name, None)


def static_shape(value: onnx.ValueInfoProto) -> Shape | None:
    """The shape of a tensor if every size is known; ``()`` for a value that is not a tensor."""
    tensor = value.type.tensor_type
    sizes = tensor.shape.dim[:]
    shape = tuple([size.dim_value for size in sizes])
    if shape and min(shape) > 0:
        return shape
    if value.type.WhichOneof("value") not in {"tensor_type", None}:
        return ()
    known = tensor.HasField("shape") and all(size.HasField("dim_value") for size in sizes)
    return shape if known and min(shape, default=0) >= 0 else None


def _take_inputs(
    model: OnnxModel, graph: onnx.GraphProto, given: Sequence[int] | Mapping[str, Sequence[int]] | None
) -> bool:
    """Record the shapes of the inputs. Returns whether any differs from the file's."""
    declared = {value.name: value for value in graph.input if value.name not in model.weights}
    model.inputs = list(declared)
    if given is None:
        shapes: Mapping[str, Sequence[int]] = {}
    elif isinstance(given, Mapping):
        shapes = given
    elif len(declared) == 1:
        shapes = dict.fromkeys(declared, given)
    else:
        raise InputMismatchError(
            f"Expected `input_shape` to name each input of {model.name} ({', '.join(declared)}), but got one shape."
        )
    if unknown := shapes.keys() - declared.keys():
        raise InputMismatchError(
            f"Expected `input_shape` to name inputs of {model.name} ({', '.join(declared)}), "
            f"but got {sorted(unknown)[0]!r}."
        )
    changed = False
    for name, value in declared.items():
        static = static_shape(value)
        static = static if static is None or 0 not in static else None  # some exporters write 0 for an open size
        shape = tuple(map(int, shapes[name])) if name in shapes else static
        if shape is None:
            sizes = [size.dim_param or size.dim_value or "?" for size in value.type.tensor_type.shape.dim]
            raise InputMismatchError(
                f"Expected `input_shape` for the input `{name}` of {model.name}, whose shape is not fixed: "
                f"({', '.join(map(str, sizes))})."
            )
        declares, n_sizes = value.type.tensor_type.HasField("shape"), len(value.type.tensor_type.shape.dim)
        if declares and n_sizes != len(shape):
            raise InputMismatchError(
                f"Expected `input_shape` for the input `{name}` of {model.name} to have {n_sizes} sizes, "
                f"but got {shape}."
            )
        if not name or value.type.tensor_type.elem_type not in onnx.TensorProto.DataType.values():
            raise GraphError(f"Expected the input `{name}` of {model.name} to have a name and a type.")
        if min(shape, default=1) < 1:
            raise InputMismatchError(
                f"Expected sizes of the input `{name}` of {model.name} to be 1 or more, but got {shape}."
            )
        changed |= shape != static
        model.tensors[name] = shape, value.type.tensor_type.elem_type
    return changed
