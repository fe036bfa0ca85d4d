"""Completes the shapes of an ONNX model: sorts its nodes, folds its constants, and infers shapes by onnx."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from operator import is_not
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from latency_nas.errors import GraphError, InputMismatchError
from latency_nas.graph.normal_form.no_ops import number_in
from latency_nas.graph.onnx.composites import take_parameters_of
from latency_nas.graph.onnx.constants import MAX_ELEMENTS, fold
from latency_nas.graph.onnx.control import body_ops, expand, is_control, is_joined
from latency_nas.graph.onnx.declared import drop_stale_shapes
from latency_nas.graph.onnx.loop_shapes import take_kept_shapes
from latency_nas.graph.onnx.model import STANDARD, OnnxModel, python_value, take_value, title
from latency_nas.graph.onnx.recurrent import RECURRENT
from latency_nas.graph.onnx.scopes import reads
from latency_nas.graph.onnx.value_types import static_shape

__all__ = ["ImpossibleBranchError", "complete"]

_NEVER_SIZES = frozenset(onnx.TensorProto.DataType.values()) - {onnx.TensorProto.UNDEFINED, onnx.TensorProto.INT64}
_MAX_SIZES = 2**16  # onnx takes a list of integers for a shape and makes a size of each element
_OF_SHAPES = frozenset({"Shape", "Size"})  # known if the shape of their input is known
_UNKNOWN = f"it depends on values, on data that is not in the file, or the op is not known to onnx {onnx.__version__}"
# ops that optimisers also write into models of opsets that lack them; their output is as their input
_LIKE_INPUT = frozenset({
    "Gelu", "LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization", "HardSwish", "Mish", "Swish",
})  # fmt: skip
_MAX_ROUNDS = 50  # of inference and folding; each must find at least one more shape


def _in_order(model: OnnxModel, nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """The nodes, sorted so that each comes after those that it reads from."""
    nodes, made = nodes[:], {*model.inputs, *model.weights}
    makers: dict[str, int] = {}
    for index, node in enumerate(nodes):
        outputs = node.output[:]
        if not any(outputs):
            raise GraphError(f"Expected {title(node)} of {model.name} to have an output.")
        if not outputs[0]:
            node = nodes[index] = _with_first_output(node)
            outputs = node.output[:]
        for name in filter(None, outputs):
            if name in makers or name in made:
                raise GraphError(f"Expected each tensor of {model.name} once, but {title(node)} makes `{name}` again.")
            makers[name] = index
    waits = [{makers[name] for name in reads(node) if name in makers} for node in nodes]
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


def _with_first_output(node: onnx.NodeProto) -> onnx.NodeProto:
    """The node with a name for its first output, which nothing reads: what it costs follows from that one."""
    if node.op_type in RECURRENT:
        return node
    named = onnx.NodeProto()
    named.CopyFrom(node)
    named.output[0] = f"{next(filter(None, node.output))}.first"
    return named


class ImpossibleBranchError(Exception):
    """A branch of an unknown condition cannot run with the given inputs: the other one is what runs.

    Args:
        condition: Name of the condition.
        name: Name of the branch, for messages.
        value: Whether the condition would be true.
        reason: Reason why the branch cannot run.
    """

    def __init__(self, condition: str, name: str, value: bool, reason: str) -> None:
        super().__init__(condition, name, value, reason)
        self.condition, self.name, self.value, self.reason = condition, name, value, reason


def _unknown(model: OnnxModel) -> list[tuple[onnx.NodeProto, str]]:
    return [(node, name) for node in model.nodes for name in node.output[:] if name and name not in model.tensors]


def complete(model: OnnxModel) -> None:
    """Sort the nodes; then fold constants, expand control flow and infer shapes in turn, until every shape is known.

    Raises:
        GraphError: if the model lacks a tensor, has a cycle, or a shape stays unknown.
    """
    model.nodes = _in_order(model, model.nodes)
    take_parameters_of(model, model.nodes)
    drop_stale_shapes(model)
    model.nodes = _fold(model, model.nodes)
    for _ in range(_MAX_ROUNDS):
        before = len(model.nodes), len(model.tensors)
        _expand(model, undecided=False)
        if _unknown(model):
            _infer(model)
            model.nodes = _fold(model, model.nodes)
        is_stuck = before == (len(model.nodes), len(model.tensors))
        if is_stuck and not _expand(model, undecided=True) and not take_kept_shapes(model):
            break
    if model.conditions:
        for node in filter(is_joined, model.nodes):
            _check_joined(model, node)
    left = _unknown(model)
    if left:
        node, name = left[0]
        misfit = _misfit(model, node)
        if misfit:
            _check_side(model, node, misfit)
        inner = f" of {body_ops(node)}" if is_control(node) else ""
        raise (InputMismatchError if misfit else GraphError)(
            f"Expected every shape of {model.name} to follow from its inputs', but that of `{name}`, made by "
            f"{title(node)}{inner}, does not: {misfit or _UNKNOWN}."
        )


def _expand(model: OnnxModel, *, undecided: bool) -> bool:
    """Replace control flow. Returns whether anything was replaced."""
    nodes = expand(model, model.nodes, _fold, undecided=undecided)
    changed = len(nodes) != len(model.nodes) or (nodes is not model.nodes and any(map(is_not, nodes, model.nodes)))
    if changed:
        model.nodes = _fold(model, _in_order(model, nodes))
    return changed


def _fold(model: OnnxModel, nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """The nodes without those whose outputs are known before the model runs."""
    kept = []
    for node in nodes:
        first = next(iter(node.input), "")
        if first and first not in model.weights and node.op_type not in _OF_SHAPES:
            kept.append(node)
            continue
        value = _value(model, node)
        if value is not None and len(node.output) == 1 and value.dtype.kind in "biuf":
            take_value(model, node.output[0], value)
            _inherit(model, node, number_in(value))
        elif (
            node.input
            and all(name in model.weights for name in reads(node))
            and all(name in model.tensors for name in node.output if name)
        ):
            model.weights.update(filter(None, node.output))
            _inherit(model, node, _filled(model, node))
        else:
            kept.append(node)
    return kept


def _filled(model: OnnxModel, node: onnx.NodeProto) -> float | None:
    """The number that a node fills a large constant with."""
    if node.op_type == "ConstantOfShape":
        return float(numpy_helper.to_array(node.attribute[0].t).flat[0]) if node.attribute else 0.0
    return model.literals.get(node.input[0]) if node.op_type in {"Expand", "Reshape", "Identity"} else None


def _inherit(model: OnnxModel, node: onnx.NodeProto, number: float | None) -> None:
    """Give the outputs of a node all parts of parameters of its inputs; a literal, if all inputs are literals."""
    if node.op_type in _OF_SHAPES or all(name in model.literals for name in node.input if name):
        model.literals.update({name: number for name in node.output if name})
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


def _inferable(model: OnnxModel, node: onnx.NodeProto) -> onnx.NodeProto:
    """The node, or one that this opset of onnx knows and whose output has the same shape."""
    if is_joined(node):
        return helper.make_node("Identity", node.input[1:2], node.output[:1])
    newer = node.op_type in _LIKE_INPUT and node.domain in STANDARD
    if newer and not onnx.defs.has(node.op_type, max_inclusive_version=model.opset):
        return helper.make_node("Identity", node.input[:1], node.output[:1])
    return node


def _misfit(model: OnnxModel, node: onnx.NodeProto) -> str:
    """The reason why a node cannot have the inputs that it gets; nothing if none is known."""
    names = [name for name in node.input if name]
    if any(name not in model.tensors for name in names):
        return ""
    inputs = [helper.make_tensor_value_info(name, model.tensors[name][1], model.tensors[name][0]) for name in {*names}]
    graph = helper.make_graph([node], "node", inputs, [])
    single = helper.make_model(graph, opset_imports=model.proto.opset_import, ir_version=model.proto.ir_version)
    try:
        onnx.shape_inference.infer_shapes(single, strict_mode=True)
    except Exception as error:  # onnx has several classes
        shapes = ", ".join(str(list(model.tensors[name][0])) for name in names)
        return f"its inputs are {shapes}, and onnx {onnx.__version__} finds: {_last(error)}"
    return ""


def _last(error: Exception) -> str:
    """What an error of onnx says, without its place in onnx."""
    lines = str(error).strip().splitlines()
    return lines[-1].rpartition(") ")[2].rpartition("] ")[2].rstrip(".") if lines else type(error).__name__


def _check_side(model: OnnxModel, node: onnx.NodeProto, misfit: str) -> None:
    """Report a node in a branch that can therefore not be the one that runs."""
    within = [prefix for prefix in model.sides if node.output[0].startswith(prefix)]
    if within:
        condition, value = model.sides[max(within, key=len)]
        raise ImpossibleBranchError(condition, model.conditions[condition], value, f"{title(node)}: {misfit}")


def _check_joined(model: OnnxModel, node: onnx.NodeProto) -> None:
    """Refuse an `If` on an unknown condition that decides a shape."""
    shapes = [list(model.tensors[name][0]) for name in node.input[1:] if name in model.tensors]
    if len(shapes) == 2 and shapes[0] != shapes[1]:
        raise GraphError(
            f"Expected both branches of {node.name} in {model.name} to give tensors of one shape, but they give "
            f"{shapes[0]} and {shapes[1]}, and the condition depends on the values of an input."
        )


def _infer(model: OnnxModel) -> None:
    """Infer shapes by onnx, on a copy without weights."""

    def info(name: str) -> onnx.ValueInfoProto:
        shape, kind = model.tensors[name]
        known = len(shape) != 1 or shape[0] <= _MAX_SIZES or kind in _NEVER_SIZES
        return helper.make_tensor_value_info(name, kind, shape if known else [None])

    try:
        large = sorted(model.weights - model.constants.keys())
        inputs = [info(name) for name in (*model.inputs, *large)]
        graph = helper.make_graph(
            [], "shapes", inputs, [helper.make_empty_tensor_value_info(name) for name in model.outputs],
            [numpy_helper.from_array(value, name) for name, value in model.constants.items()],
        )  # fmt: skip
        graph.node.extend(_inferable(model, node) for node in model.nodes)
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
