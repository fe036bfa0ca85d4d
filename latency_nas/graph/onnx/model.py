"""Parses an ONNX file: its nodes, inputs and outputs, and the shapes and small values that it states."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from latency_nas.errors import GraphError, InputMismatchError, short_repr
from latency_nas.graph.input_shapes import InputShape, check_input_shape
from latency_nas.graph.onnx.constants import MAX_ELEMENTS, MAX_FLOATS
from latency_nas.graph.onnx.functions import write_out
from latency_nas.graph.onnx.literals import literals_of
from latency_nas.graph.onnx.open_inputs import how_to_give, lacking_shapes
from latency_nas.graph.onnx.parameters import parameters_of
from latency_nas.graph.onnx.value_types import static_shape
from latency_nas.graph.onnx.weights import read_without_weights, without_weights
from latency_nas.graph.parameters import ParameterPart
from latency_nas.kernel import Shape

__all__ = [
    "STANDARD",
    "OnnxModel",
    "load",
    "python_value",
    "take_parameters",
    "take_value",
    "take_weight",
    "take_weights",
    "title",
]

_Tensor = tuple[Shape, int]  # shape and ONNX's number of the element type

STANDARD = ("", "ai.onnx")


@dataclass(slots=True)
class OnnxModel:
    """The parts of an ONNX file that a reader needs.

    Args:
        name: Name of the file, for messages.
        proto: Content of the file.
        folder: Folder of the file; None for a model in memory.
        opset: Version of the opset.
        nodes: Nodes in an order in which they can run.
        inputs: Names of the model's inputs.
        outputs: Names of the model's outputs.
        tensors: Shape and element type of each tensor, by name.
        weights: Names of all tensors that are known before the model runs.
        constants: Values of the small ones of these, by name.
        literals: Names of the constants that are of the model's code (see `latency_nas.graph.onnx.literals`), with the
            number that all of their elements are, or None.
        parts: Parts of parameters that weights hold, by name. Weights that are not parameters are left out.
        conditions: Names of the branches that unknown conditions decide, by the condition's name.
        decisions: Whether conditions are true, by their names, where only one branch can run with the given inputs.
        sides: Start of the names in each branch of an unknown condition -> the condition, and whether it is true there.
        origins: Names of tensors in a loop's body, by their names in the copy for each iteration.
        n_copied: Number of nodes that were copied out of branches and loops.
    """

    name: str
    proto: onnx.ModelProto
    folder: Path | None = None
    opset: int = 0
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    tensors: dict[str, _Tensor] = field(default_factory=dict)
    weights: set[str] = field(default_factory=set)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    literals: dict[str, float | None] = field(default_factory=dict)
    parts: dict[str, tuple[ParameterPart, ...]] = field(default_factory=dict)
    conditions: dict[str, str] = field(default_factory=dict)
    decisions: dict[str, bool] = field(default_factory=dict)
    sides: dict[str, tuple[str, bool]] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    n_copied: int = 0
    _attributes: dict[int, tuple[onnx.NodeProto, dict[str, Any]]] = field(default_factory=dict)

    def attributes(self, node: onnx.NodeProto) -> Mapping[str, Any]:
        """The attributes of a node as Python values; protobuf is slow, so each node is read once."""
        found = self._attributes.get(id(node))
        if found is None:  # the node is kept beside its attributes, so that no other one gets its id
            found = self._attributes[id(node)] = node, {item.name: python_value(item) for item in node.attribute[:]}
        return found[1]


# type of an attribute -> function that gives its value; graphs and types have none
_VALUES: dict[int, Callable[[Any], Any]] = {
    1: attrgetter("f"), 2: attrgetter("i"), 3: lambda attribute: attribute.s.decode("utf-8", "replace"),
    4: attrgetter("t"), 6: lambda attribute: tuple(attribute.floats[:]), 7: lambda attribute: tuple(attribute.ints[:]),
}  # fmt: skip


def python_value(attribute: onnx.AttributeProto) -> Any:
    """The value of an attribute; a graph or a type has none."""
    read = _VALUES.get(attribute.type)
    return read(attribute) if read else None


def title(node: onnx.NodeProto) -> str:
    """The name of a node in messages."""
    return f"{node.op_type} `{node.name or next(iter(node.output), '')}`"


def load(source: str | Path | bytes | onnx.ModelProto, input_shape: InputShape | None) -> OnnxModel:
    """Parse a model.

    Raises:
        GraphError: if the model cannot be read. The message names the file and what it lacks.
    """
    proto, name, folder = _parse(source)
    if proto.functions:
        proto = write_out(proto, name)
    model = OnnxModel(name=name, proto=proto, folder=folder)
    versions = [opset.version for opset in proto.opset_import if opset.domain in STANDARD]
    if not versions or not proto.graph.node:
        raise GraphError(f"Expected {name} to be an ONNX model, but it has no {'nodes' if versions else 'opset'}.")
    model.opset = max(versions)
    take_weights(model, proto.graph)
    changed = _take_inputs(model, proto.graph, input_shape)
    model.outputs = [value.name for value in proto.graph.output]
    if not changed:
        for value in proto.graph.value_info[:] + proto.graph.output[:]:
            name = value.name
            if name not in model.tensors and (shape := static_shape(value)) is not None:
                model.tensors[name] = shape, value.type.tensor_type.elem_type
    model.nodes = [node for node in proto.graph.node[:] if node.op_type != "Constant"]
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


def take_weights(model: OnnxModel, graph: onnx.GraphProto, prefix: str = "") -> dict[str, str]:
    """Record the shapes of all constants of a graph and the values of the small ones. Large ones are not read.

    Returns:
        The name of each in the model: that in the graph, after the prefix.
    """
    constants = [
        node for node in graph.node if node.op_type == "Constant" and node.domain in STANDARD and any(node.output[:1])
    ]
    for node in constants:
        _take_constant(model, f"{prefix}{node.output[0]}", node)
    initializers = {tensor.name: tensor for tensor in graph.initializer[:]}
    for name, tensor in initializers.items():
        _take_tensor(model, name and f"{prefix}{name}", tensor)
    for sparse in graph.sparse_initializer:
        name = sparse.values.name
        take_weight(model, name and f"{prefix}{name}", tuple(sparse.dims), sparse.values.data_type)
    by_torch = model.proto.producer_name == "pytorch"
    found = literals_of(graph, by_torch=by_torch, folder=model.folder)
    model.literals.update({f"{prefix}{name}": number for name, number in found.items()})
    names = [node.output[0] for node in constants] + [*initializers]
    return {name: f"{prefix}{name}" for name in [*names, *(sparse.values.name for sparse in graph.sparse_initializer)]}


def take_parameters(model: OnnxModel, nodes: Iterable[onnx.NodeProto]) -> None:
    """Record the weights that are parameters, as far as these nodes show it."""
    model.parts.update(parameters_of(nodes, model.tensors, model.weights - model.literals.keys()))


def take_value(model: OnnxModel, name: str, array: NDArray[Any]) -> None:
    """Record a small tensor that is known before the model runs, with its value."""
    take_weight(model, name, array.shape, helper.np_dtype_to_tensor_dtype(array.dtype))
    model.constants[name] = array


def _take_constant(model: OnnxModel, name: str, node: onnx.NodeProto) -> None:
    for attribute in node.attribute:
        value = python_value(attribute)
        if attribute.name == "value" and isinstance(value, onnx.TensorProto):
            _take_tensor(model, name, value)
        elif isinstance(value, int | float | tuple):
            kind = np.float32 if attribute.name.startswith("value_float") else np.int64
            take_value(model, name, np.array(value, kind))
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


def _take_tensor(model: OnnxModel, name: str, tensor: onnx.TensorProto) -> None:
    shape, kind = tuple(tensor.dims[:]), tensor.data_type
    take_weight(model, name, shape, kind)
    if prod(shape) > (MAX_FLOATS if kind == onnx.TensorProto.FLOAT else MAX_ELEMENTS):
        return
    if tensor.data_location == onnx.TensorProto.EXTERNAL and model.folder is None:
        return  # a model in memory has no folder that its data could be in
    try:
        model.constants[name] = numpy_helper.to_array(tensor, str(model.folder or ""))
    except Exception:  # wrong length, or data beside the file: a reader that needs the value will report it
        model.constants.pop(name, None)


def _take_inputs(model: OnnxModel, graph: onnx.GraphProto, given: InputShape | None) -> bool:
    """Record the shapes of the inputs. Returns whether any differs from the file's."""
    declared = {value.name: value for value in graph.input if value.name not in model.weights}
    model.inputs = list(declared)
    kinds = onnx.TensorProto.DataType.values()
    for name, value in declared.items():  # a name that is not UTF-8 is read as bytes
        if not name or not isinstance(name, str) or value.type.tensor_type.elem_type not in kinds:
            raise GraphError(f"Expected the input {short_repr(name)} of {model.name} to have a name and a type.")
    static = {name: _fixed_shape(value) for name, value in declared.items()}
    left = [name for name, shape in static.items() if shape is None]
    shapes = _by_name(model, given, left)
    if lacking := [name for name in left if name not in shapes]:
        raise lacking_shapes(model.name, len(model.inputs), {name: declared[name] for name in lacking})
    for name, value in declared.items():
        shape = shapes[name] if name in shapes else static[name]
        tensor = value.type.tensor_type
        if tensor.HasField("shape") and len(tensor.shape.dim) != len(shape or ()):
            raise InputMismatchError(
                f"Expected `input_shape` for the input `{name}` of {model.name} to have {len(tensor.shape.dim)} sizes, "
                f"but got {shape}."
            )
        model.tensors[name] = shape or (), tensor.elem_type
    return any(shape != static[name] for name, shape in shapes.items())


def _fixed_shape(value: onnx.ValueInfoProto) -> Shape | None:
    """The shape of an input; None if sizes are open, which some exporters write as 0."""
    shape = static_shape(value)
    return None if shape is not None and min(shape, default=1) < 1 else shape


def _by_name(model: OnnxModel, given: InputShape | None, left: Sequence[str]) -> dict[str, Shape]:
    """The given shapes by input. A single one is that of the only input, or of the only one that is open."""
    checked = check_input_shape(given)
    if checked is None:
        return {}
    inputs = ", ".join(model.inputs)
    if isinstance(checked, tuple):
        targets = model.inputs if len(model.inputs) == 1 else left
        if len(targets) == 1:
            return {targets[0]: checked}
        raise InputMismatchError(
            f"Expected `input_shape` to name inputs of {model.name} ({inputs}), but got one shape, {checked}: "
            f"{how_to_give(targets or model.inputs)}."
        )
    if unknown := sorted(checked.keys() - set(model.inputs)):
        raise InputMismatchError(
            f"Expected `input_shape` to name inputs of {model.name} ({inputs}), but got {unknown[0]!r}."
        )
    return checked
