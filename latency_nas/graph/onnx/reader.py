"""Reads an ONNX model into an `OpGraph`.

Limitations:
1. Weights are never read, only their shapes. A file whose external data is missing can be read.
2. A `Loop` or `Scan` whose number of iterations depends on values becomes ``onnx.Loop`` or ``onnx.Scan``, with the ops
   of its body as an attribute; other ops outside of the vocabulary become ``onnx.Name``. They have no price, in any
   mode. An `If` whose condition depends on values is a branch of the graph (`latency_nas.graph.branches`).
3. Groups of nodes by which older exporters write one op are merged only where `latency_nas.graph.normal_form` has a
   pattern for them.
4. Sequences of a recurrent layer that may differ in length are counted as long as the longest can be. First states are
   not inputs of its kernel, as in a torch module.
5. Parameters are recognised by their readers: see `latency_nas.graph.onnx.parameters`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import onnx

from latency_nas.errors import GraphError, InputMismatchError, KernelError, short_repr
from latency_nas.graph.input_shapes import InputShape
from latency_nas.graph.normal_form.no_ops import is_idle_move, number_in
from latency_nas.graph.normal_form.reading import in_normal_form
from latency_nas.graph.normal_form.spellings import into_parts
from latency_nas.graph.onnx.call import Call, Step
from latency_nas.graph.onnx.control import CONTROL, body_ops, is_joined
from latency_nas.graph.onnx.model import STANDARD, OnnxModel, load, title
from latency_nas.graph.onnx.ops import IDENTITY, read_call
from latency_nas.graph.onnx.recurrent import RECURRENT, Recurrent, read_recurrent
from latency_nas.graph.onnx.scopes import reads
from latency_nas.graph.onnx.shapes import ImpossibleBranchError, complete
from latency_nas.graph.onnx.value_types import DTYPES, type_name
from latency_nas.graph.op_graph import BRANCH, Node, OpGraph, Value
from latency_nas.kernel import Shape

__all__ = ["read_onnx"]

logger = logging.getLogger(__name__)

_MAX_DECISIONS = 32  # each needs another reading of the file
_IN_INT8 = frozenset({"ConvInteger", "MatMulInteger"})  # only their sums are wider


class _Builder:
    """Makes the nodes of the graph, one after another."""

    def __init__(self, model: OnnxModel) -> None:
        self.model = model
        self.values: list[Value] = []
        self.nodes: list[Node] = []
        self.index: dict[str, int] = {}
        self._used: dict[str, int] = {}  # name of a node -> number of nodes with it
        for name in model.inputs:
            self.add(name)

    def add(self, name: str) -> int:
        """The index of a tensor's value, which is made on first use."""
        index = self.index.get(name)
        if index is None:
            constant = name in self.model.weights
            shape, kind = self.model.tensors[name]
            if constant:
                literals, known = self.model.literals, self.model.constants.get(name)
                number = literals.get(name) if known is None else number_in(known)
                index = self._new(
                    shape,
                    kind,
                    constant=True,
                    parameter=name,
                    parts=self.model.parts.get(name, ()),
                    number=number,
                    literal=number is not None and name in literals,
                )
            else:
                index = self._new(shape, kind)
            self.index[name] = index
        return index

    def _new(self, shape: Shape, kind: int, **fields: Any) -> int:
        """Index of a new value of a shape and of ONNX's number of a type; others of its fields by name."""
        if kind not in DTYPES and kind != 0:
            known, name = ", ".join(map(type_name, DTYPES)), type_name(kind)
            raise GraphError(f"Expected tensors of {self.model.name} to be of types {known}, but got {name}.")
        self.values.append(Value(shape=shape, dtype=DTYPES.get(kind, "fp32"), **fields))  # 0: not a tensor
        return len(self.values) - 1

    def call(self, node: onnx.NodeProto, inputs: Sequence[str], outputs: Sequence[str]) -> Call:
        tensors = self.model.tensors
        return Call(
            op=node.op_type,
            attrs=self.model.attributes(node),
            shapes=tuple([tensors[name][0] if name else None for name in inputs]),
            outputs=tuple([tensors[name][0] for name in outputs]),
            inputs=inputs,
            weights=self.model.weights,
            constants=self.model.constants,
            opset=self.model.opset,
        )

    def place(self, node: onnx.NodeProto) -> None:
        """Append the nodes that an ONNX node is read as; none if it changes nothing."""
        domain, op, sources = node.domain, node.op_type, node.input[:]
        outputs = [name for name in node.output[:] if name]
        steps: Sequence[Step]
        if domain in STANDARD:
            if op in IDENTITY and sources:
                self.index[outputs[0]] = self.add(sources[0])
                self.model.weights.update(outputs[1:])  # the mask of a dropout, which drops nothing
                return
            call = self.call(node, sources, outputs)
            if op in RECURRENT:
                self._place_recurrent(node, read_recurrent(call))
                return
            if op in _IN_INT8:
                self.model.tensors[outputs[0]] = self.model.tensors[outputs[0]][0], onnx.TensorProto.INT8
            if op in CONTROL:
                sources, steps = reads(node), (Step(f"onnx.{op}", {"body": body_ops(node)}),)
            else:
                steps = read_call(call)
        elif is_joined(node):
            self._place_joined(node)
            return
        else:
            steps = (Step(f"onnx.{domain}.{op}", {}),)
        known = [self.add(name) for name in sources if name]
        inputs = tuple(known)
        for step in steps[:-1]:
            made = self._new(step.shape, self.model.tensors[outputs[0]][1])
            self.append(node, step, _taken(step, inputs, known), (made,))
            known.append(made)
            inputs = (made,)
        last = steps[-1]
        inputs = _taken(last, inputs, known)
        shape, kind = self.model.tensors[outputs[0]]
        source = self.values[inputs[0]] if inputs else None
        if last.op == "reshape" and source is not None and prod(source.shape) != prod(shape):
            raise InputMismatchError(
                f"it makes {list(shape)} of {list(source.shape)}, which has another number of elements: it is fixed "
                f"for another input shape"
            )
        target = Value(shape=shape, dtype=DTYPES.get(kind, ""))
        if (
            source is not None
            and not source.constant
            and len(steps) == 1
            and is_idle_move(last.op, last.attrs, source, target)
        ):
            self.index[outputs[0]] = inputs[0]
            return
        self.append(node, last, inputs, tuple([self.add(name) for name in outputs]))
        if last.op == "split" and len(sources) == 1:
            self.nodes[-1] = into_parts(self.nodes[-1])

    def _place_joined(self, node: onnx.NodeProto) -> None:
        """Append a branch, unless both sides are the same tensor."""
        condition, *sides = (self.add(name) for name in node.input)
        if len(set(sides)) == 1:
            self.index[node.output[0]] = sides[0]
            return
        self.append(node, Step(BRANCH, {"name": node.name}), (condition, *sides), (self.add(node.output[0]),))

    def _place_recurrent(self, node: onnx.NodeProto, layer: Recurrent) -> None:
        """Append a recurrent layer, and the copies of its output by which the file names sequences and last states."""
        tensors = self.model.tensors
        source, kind = self.add(node.input[0]), tensors[node.input[0]][1]
        for step in layer.before:
            made = self._new(step.shape, kind)
            self.append(node, step, (source,), (made,))
            source = made
        weights = tuple([self.add(name) for name in node.input[1:4] if name])
        in_int8 = DTYPES.get(tensors[node.input[1]][1]) == "int8"
        sequence = self._new(layer.shape, onnx.TensorProto.INT8 if in_int8 else kind)
        self.append(node, layer.step, (source, *weights), (sequence,))
        for position, name in enumerate(node.output):
            source = sequence
            for step in layer.outputs[position] if name else ():
                is_last = step is layer.outputs[position][-1]
                made = self.add(name) if is_last else self._new(step.shape, self.model.tensors[name][1])
                self.append(node, step, (source,), (made,))
                source = made

    def append(self, node: onnx.NodeProto, step: Step, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> None:
        layer = node.name or node.output[0]
        name = f"{layer}/{step.op}"
        number = self._used[name] = self._used.get(name, 0) + 1
        if number > 1:
            name = f"{name}_{number}"
        self.nodes.append(
            Node(name=name, op=step.op, attrs=step.attrs, inputs=inputs, outputs=outputs, modules=(layer,))
        )


def _taken(step: Step, inputs: tuple[int, ...], known: Sequence[int]) -> tuple[int, ...]:
    return inputs if step.inputs is None else tuple(known[position] for position in step.inputs)


def read_onnx(source: str | Path | bytes | onnx.ModelProto, *, input_shape: InputShape | None = None) -> OpGraph:
    """Read an ONNX model of opset 9 to 22.

    Args:
        source: File, its bytes, or model in memory.
        input_shape: Shape of the only input, or of the only one whose sizes the file leaves open; or a mapping
            input -> shape. A shape may replace that of the file.

    Returns:
        The graph. The module of each op is the ONNX node that it comes from.

    Raises:
        GraphError: if the model cannot be read. The message names the file and what it lacks.
        InputMismatchError: if the input does not fit the model, or its shape is neither in the file nor given.

    Example:
        >>> from onnx import TensorProto, helper
        >>> x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8]) for name in "xy")
        >>> graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], name="act")], "g", [x], [y])
        >>> [node.name for node in read_onnx(helper.make_model(graph)).nodes]
        ['act/relu']
    """
    model = _complete(source, input_shape)
    builder = _Builder(model)
    for node in model.nodes:
        _at(model, node, builder.place)
    read = OpGraph(
        values=tuple(builder.values),
        nodes=tuple(builder.nodes),
        inputs=tuple(builder.index[name] for name in model.inputs),
        outputs=tuple(builder.add(name) for name in model.outputs),
        output_names=tuple(model.outputs),
    )
    graph = in_normal_form(read)
    for made in graph.nodes:
        if made.op != BRANCH:
            _check(model, graph, made)
    return graph


def _complete(source: str | Path | bytes | onnx.ModelProto, input_shape: InputShape | None) -> OnnxModel:
    """The model with all shapes, without the branches that cannot run with the given inputs."""
    decisions: dict[str, bool] = {}
    while True:
        try:
            model = load(source, input_shape)
            model.decisions = decisions
            complete(model)
        except UnicodeDecodeError as error:  # protobuf decodes a name when it is first read
            name = source if isinstance(source, str | Path) else "the given ONNX model"
            raise GraphError(f"Expected names in {name} to be of UTF-8, but got {short_repr(error.object)}.") from error
        except ImpossibleBranchError as error:
            reason = f"the {'first' if error.value else 'second'} branch of {error.name} cannot run ({error.reason})"
            if len(decisions) == _MAX_DECISIONS:
                raise GraphError(
                    f"Expected at most {_MAX_DECISIONS} branches of {model.name} that cannot run, but {reason}."
                ) from error
            logger.warning("%s: %s; the other one is read.", model.name, reason)
            decisions[error.condition] = not error.value
        else:
            return model


def _at(model: OnnxModel, node: onnx.NodeProto, place: Any) -> None:
    """Place a node. Errors get the names of the file and the node here."""
    try:
        place(node)
    except (ArithmeticError, IndexError, KeyError, TypeError, ValueError) as error:
        reason = f"`{error.args[0]}` is missing" if isinstance(error, KeyError) else error
        kind = InputMismatchError if isinstance(error, InputMismatchError) else GraphError
        if str(error).startswith("Expected "):  # it is whole but for its place
            raise kind(f"{str(error).removesuffix('.')}, at {title(node)}.") from error
        raise kind(f"Expected {title(node)} of {model.name} to be a valid {node.op_type}, but {reason}.") from error


def _check(model: OnnxModel, graph: OpGraph, node: Node) -> None:
    try:
        graph.kernel(node)
    except KernelError as error:
        raise GraphError(f"Expected `{node.name}` of {model.name} to be a valid kernel: {error}") from error
