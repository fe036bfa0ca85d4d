"""MNN's ops of a network, and how its converter folds and sorts them.

References:
    MNN 3.6, ``tools/converter/source/optimizer``: ``MoveUnaryOpBeforeReshape``,
    ``FuseDupOp``, ``MergeToConvolution``, ``ConvBiasAdd``; ``express/Expr.cpp``, ``getExecuteOrder``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from math import prod

from latency_nas.graph.op_graph import Node, OpGraph, Value
from latency_nas.kernel import AttrValue, Shape

__all__ = ["BINARY", "Program", "Step", "fold"]

BINARY = frozenset({
    "add", "sub", "mul", "div", "pow", "mod", "maximum", "minimum", "equal", "not_equal", "greater", "greater_equal",
    "less", "less_equal", "logical_and", "logical_or", "logical_xor",
})  # fmt: skip
# unary ops that the converter moves before a reshape
_MOVED = frozenset({
    "relu", "relu6", "clip", "leaky_relu", "hard_swish", "sigmoid", "swish", "gelu", "tanh", "abs", "neg", "exp", "log",
    "sqrt",
    "rsqrt", "reciprocal", "erf", "sin", "cos", "tan", "floor", "ceil", "round", "sign", "square", "mish",
})  # fmt: skip
_SAME_DATA = frozenset({"reshape", "unpack"})
# ops of one operand of which two with the same input are equal
_MERGED = frozenset({
    "reshape", "relu", "relu6", "hard_swish", "sigmoid", "swish", "tanh", "gelu", "abs", "neg",
    "exp", "log", "sqrt", "rsqrt", "square", "reciprocal", "erf",
})  # fmt: skip
_CONVS = frozenset({"conv2d", "conv_transpose2d"})

# (op, the op that follows it) -> attributes of the merged op; ops that have an activation take no other
_FOLDS: dict[tuple[str, str], dict[str, AttrValue]] = {
    **{(op, "batch_norm"): {"bias": 1} for op in _CONVS},
    **{(op, act): {"act": act} for op in _CONVS for act in ("relu", "relu6")},
    **{(op, "relu"): {"act": "relu"} for op in BINARY},  # MNN does not merge relu6 here
}


@dataclass(slots=True)
class Step:
    """An op of MNN.

    Args:
        op: Name in the vocabulary; ``"unpack"`` for a conversion of layout that the converter itself writes.
        inputs: Indices of values.
        outputs: Indices of values.
        attrs: Attributes, as in `Kernel`.
        node: Node of the graph that it belongs to.
        names: Names of all nodes that it computes.
    """

    op: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    attrs: Mapping[str, AttrValue]
    node: Node
    names: tuple[str, ...] = ()


class Program:
    """MNN's ops of a network, in the order in which they run.

    Args:
        graph: Graph of one architecture.
    """

    def __init__(self, graph: OpGraph) -> None:
        self.graph = graph
        self.values: list[Value] = list(graph.values)
        self.steps: list[Step] = []

    def shape(self, index: int) -> Shape:
        """The shape of a value."""
        return self.values[index].shape

    def new(self, shape: Shape, like: int) -> int:
        """Add a value."""
        self.values.append(Value(shape=shape, dtype=self.values[like].dtype))
        return len(self.values) - 1

    def users(self) -> Counter[int]:
        """Number of readers of each value. Each place among the network's outputs counts as one."""
        return Counter(chain(self.graph.outputs, *[step.inputs for step in self.steps]))


def fold(program: Program) -> None:
    """Merge and sort the steps as the converter does."""
    _merge_equal(program)
    _move_before_reshapes(program)
    _fold(program)
    _sort(program)


def _merge_equal(program: Program) -> None:
    """Let ops that do the same to the same inputs run once."""
    first: dict[tuple[object, ...], Step] = {}
    renamed: dict[int, int] = {}
    outputs = set(program.graph.outputs)
    for step in program.steps:
        step.inputs = tuple([renamed.get(index, index) for index in step.inputs])
        comparable = step.op in _MERGED or (
            step.op in BINARY and len(step.inputs) == 2 and any(program.values[index].constant for index in step.inputs)
        )
        if not comparable or not outputs.isdisjoint(step.outputs):
            continue
        shapes = tuple([program.shape(index) for index in step.outputs])
        same = first.setdefault((step.op, step.inputs, tuple(sorted(step.attrs.items())), shapes), step)
        if same is not step:
            renamed.update(zip(step.outputs, same.outputs, strict=True))
            step.op = ""
    program.steps = [step for step in program.steps if step.op]


def _move_before_reshapes(program: Program) -> None:
    """Move each elementwise op before the reshape whose output only it reads."""
    makers = {index: step for step in program.steps for index in step.outputs}
    users = program.users()
    for step in program.steps:
        while step.op in _MOVED:
            (index,) = step.inputs
            before = makers.get(index)
            if before is None or before.op not in _SAME_DATA or users[index] > 1:
                break
            (source,), (middle,), (output,) = before.inputs, before.outputs, step.outputs
            program.values[middle] = Value(shape=program.shape(source), dtype=program.values[middle].dtype)
            step.inputs, step.outputs, before.inputs, before.outputs = (source,), (middle,), (middle,), (output,)
            makers[middle], makers[output] = step, before


def _fold(program: Program) -> None:
    """Merge normalisations, biases and activations into the ops before them."""
    users = program.users()
    makers: dict[int, Step] = {}
    for step in _ordered(program.steps):
        before = makers.get(step.inputs[0]) if step.inputs else None
        attrs = _merged(program, before, step) if before and users[step.inputs[0]] == 1 else None
        if before is None or attrs is None:
            makers.update(dict.fromkeys(step.outputs, step))
            continue
        before.attrs, before.outputs = {**before.attrs, **attrs}, step.outputs
        before.names += tuple(name for name in step.names if name not in before.names)
        makers[step.outputs[0]] = before
        step.op = ""
    program.steps = [step for step in program.steps if step.op]


def _merged(program: Program, before: Step, step: Step) -> Mapping[str, AttrValue] | None:
    """The attributes that a step adds to the one before it, if MNN merges it."""
    if "act" in before.attrs:
        return None
    if step.op == "add" and before.op in _CONVS and len(step.inputs) == 2:
        added = program.values[step.inputs[1]]
        is_bias = added.constant and prod(added.shape) == program.shape(before.outputs[0])[1]
        return {"bias": 1} if is_bias else None
    if len(step.inputs) - sum(program.values[index].constant for index in step.inputs) != 1:
        return None
    return _FOLDS.get((before.op, step.op))


def _ordered(steps: list[Step]) -> list[Step]:
    """The steps, each after those that it reads from; moving ops before reshapes changes the order."""
    makers = {index: step for step in steps for index in step.outputs}
    done, ordered = set[int](), list[Step]()
    for last in steps:
        _visit(last, makers, done, ordered)
    return ordered


def _sort(program: Program) -> None:
    """Sort the steps as MNN runs them: from the output with the last name back to what it needs, operand by operand."""
    makers = {index: step for step in program.steps for index in step.outputs}
    done, ordered = set[int](), list[Step]()
    outputs = program.graph.outputs
    names = program.graph.output_names or [f"output_{position}" for position in range(len(outputs))]
    for _, index in sorted(zip(names, outputs, strict=True), reverse=True):
        if index in makers:
            _visit(makers[index], makers, done, ordered)
            ordered.append(Step("output", (index,), (), {}, makers[index].node))
    program.steps = ordered


def _visit(last: Step, makers: Mapping[int, Step], done: set[int], ordered: list[Step]) -> None:
    """Append a step after all that it needs, without recursion: networks are deep."""
    stack = [last]
    while stack:
        step = stack[-1]
        if id(step) in done:
            stack.pop()
            continue
        waits = next(
            (makers[index] for index in step.inputs if index in makers and id(makers[index]) not in done), None
        )
        if waits is not None:
            stack.append(waits)
            continue
        done.add(id(step))
        ordered.append(stack.pop())
