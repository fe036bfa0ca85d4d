"""Completes the shapes of an ONNX model: sorts its nodes, folds its constants, and infers shapes by onnx."""

from __future__ import annotations

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from latency_nas.errors import GraphError
from latency_nas.graph.onnx.constants import MAX_ELEMENTS, fold
from latency_nas.graph.onnx.declared import drop_stale_shapes
from latency_nas.graph.onnx.model import STANDARD, OnnxModel, python_value, static_shape, take_weight, title

__all__ = ["complete"]

_MAX_SIZES = 2**16  # onnx takes a list of integers for a shape and makes a size of each element
_WITH_SUBGRAPHS = frozenset({"If", "Loop", "Scan", "SequenceMap"})
_SUBGRAPHS = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
_OF_SHAPES = frozenset({"Shape", "Size"})  # known if the shape of their input is known
_MAX_ROUNDS = 50  # of inference and folding; each must find at least one more shape


def _reads(node: onnx.NodeProto) -> list[str]:
    """Names of all tensors that a node reads, also those that its subgraphs read from outside."""
    own = [name for name in node.input[:] if name]
    standard = node.domain in STANDARD and node.op_type not in _WITH_SUBGRAPHS
    return own if standard else [*own, *_reads_within(node)]


def _reads_within(node: onnx.NodeProto) -> Iterator[str]:
    for attribute in node.attribute:
        if attribute.type not in _SUBGRAPHS:
            continue
        for graph in (attribute.g, *attribute.graphs):
            own = {value.name for value in (*graph.input, *graph.initializer)}
            for inner in graph.node:
                yield from (name for name in _reads(inner) if name not in own)
                own.update(inner.output)


def _in_order(model: OnnxModel, nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """The nodes, sorted so that each comes after those that it reads from."""
    made = {*model.inputs, *model.weights}
    makers: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for name in filter(None, node.output[:]):
            if name in makers or name in made:
                raise GraphError(f"Expected each tensor of {model.name} once, but {title(node)} makes `{name}` again.")
            makers[name] = index
    waits = [{makers[name] for name in _reads(node) if name in makers} for node in nodes]
    known = made.union(makers, [""])
    missing = [node for node in nodes if not known.issuperset(node.input[:])]
    if missing:
        name = next(name for name in missing[0].input if name not in known)
        raise GraphError(
            f"Expected {model.name} to hold all that it reads, but it lacks `{name}`, an initializer or "
            f"input that {title(missing[0])} needs."
        )
    if lost := [name for name in model.outputs if name not in makers and name not in made]:
        raise GraphError(f"Expected {model.name} to hold all of its outputs, but nothing makes `{lost[0]}`.")
    if all(max(before, default=-1) < index for index, before in enumerate(waits)):
        return nodes
    try:
        return [nodes[index] for index in TopologicalSorter(dict(enumerate(waits))).static_order()]
    except CycleError as error:
        stuck = nodes[error.args[1][0]]
        raise GraphError(
            f"Expected {model.name} to be free of cycles, but {title(stuck)} waits for its own output."
        ) from error


def _unknown(model: OnnxModel) -> list[tuple[onnx.NodeProto, str]]:
    return [(node, name) for node in model.nodes for name in node.output[:] if name and name not in model.tensors]


def complete(model: OnnxModel) -> None:
    """Sort the nodes; then fold constants and infer shapes in turn, until every shape is known.

    Raises:
        GraphError: if the model lacks a tensor, has a cycle, or a shape stays unknown.
    """
    model.nodes = _in_order(model, model.nodes)
    drop_stale_shapes(model)
    _fold(model)
    n_unknown = len(_unknown(model))
    for _ in range(_MAX_ROUNDS):
        if not n_unknown:
            return
        _infer(model)
        n_nodes = len(model.nodes)
        _fold(model)
        left = _unknown(model)
        if len(left) == n_unknown and len(model.nodes) == n_nodes:
            break
        n_unknown = len(left)
    left = _unknown(model)
    if left:
        node, name = left[0]
        raise GraphError(
            f"Expected every shape of {model.name} to follow from its inputs', but that of `{name}`, made by "
            f"{title(node)}, does not: it depends on values, on data that is not in the file, or the op is not known "
            f"to onnx {onnx.__version__}."
        )


def _fold(model: OnnxModel) -> None:
    """Remove the nodes whose outputs are known before the model runs."""
    kept = []
    for node in model.nodes:
        first = next(iter(node.input), "")
        if first and first not in model.weights and node.op_type not in _OF_SHAPES:
            kept.append(node)
            continue
        value = _value(model, node)
        if value is not None and len(node.output) == 1 and value.dtype.kind in "biuf":
            model.constants[node.output[0]] = value
            take_weight(model, node.output[0], value.shape, helper.np_dtype_to_tensor_dtype(value.dtype))
            _inherit_parts(model, node)
        elif (
            node.input
            and all(name in model.weights for name in _reads(node))
            and all(name in model.tensors for name in node.output if name)
        ):
            model.weights.update(filter(None, node.output))
            _inherit_parts(model, node)
        else:
            kept.append(node)
    model.nodes = kept


def _inherit_parts(model: OnnxModel, node: onnx.NodeProto) -> None:
    """Give the outputs of a node all parts of parameters of its inputs."""
    parts = tuple(dict.fromkeys(part for name in node.input for part in model.parts.get(name, ())))
    if parts and node.op_type not in _OF_SHAPES:
        model.parts.update({name: parts for name in node.output if name})


def _value(model: OnnxModel, node: onnx.NodeProto) -> NDArray[Any] | None:
    if node.domain not in STANDARD or not node.output:
        return None
    if node.op_type in _OF_SHAPES and node.input and node.input[0] in model.tensors:
        attrs = {attribute.name: attribute.i for attribute in node.attribute}
        shape = np.array(model.tensors[node.input[0]][0], np.int64)
        return shape[attrs.get("start") : attrs.get("end")] if node.op_type == "Shape" else np.asarray(shape.prod())
    if not all(name in model.constants for name in node.input[:] if name):
        return None
    attrs = {attribute.name: python_value(attribute) for attribute in node.attribute}
    for name, value in attrs.items():
        if isinstance(value, onnx.TensorProto):
            attrs[name] = numpy_helper.to_array(value) if np.prod(value.dims, dtype=object) <= MAX_ELEMENTS else None
    inputs: list[Any] = [model.constants[name] if name else None for name in node.input]
    return fold(node.op_type, inputs, attrs)


def _infer(model: OnnxModel) -> None:
    """Infer shapes by onnx, on a copy without weights."""

    def info(name: str) -> onnx.ValueInfoProto:
        shape, kind = model.tensors[name]
        known = len(shape) != 1 or shape[0] <= _MAX_SIZES or kind != onnx.TensorProto.INT64
        return helper.make_tensor_value_info(name, kind, shape if known else [None])

    try:
        large = sorted(model.weights - model.constants.keys())
        inputs = [info(name) for name in (*model.inputs, *large)]
        graph = helper.make_graph(
            [], "shapes", inputs, [helper.make_empty_tensor_value_info(name) for name in model.outputs],
            [numpy_helper.from_array(value, name) for name, value in model.constants.items()],
        )  # fmt: skip
        graph.node.extend(model.nodes)
        made = {name for node in model.nodes for name in node.output}
        graph.value_info.extend(info(name) for name in model.tensors if name in made)
        copy = helper.make_model(graph, opset_imports=model.proto.opset_import, ir_version=model.proto.ir_version)
        inferred = onnx.shape_inference.infer_shapes(copy, data_prop=True)
    except Exception as error:  # errors of onnx and of its checker
        reason = str(error).strip().splitlines()
        raise GraphError(
            f"Expected {model.name} to be a valid ONNX model, but onnx {onnx.__version__} finds: "
            f"{reason[0] if reason else type(error).__name__}"
        ) from error
    for value in [*inferred.graph.value_info, *inferred.graph.output]:
        shape = static_shape(value)
        if shape is not None and value.type.WhichOneof("value"):
            model.tensors.setdefault(value.name, (shape, value.type.tensor_type.elem_type))
