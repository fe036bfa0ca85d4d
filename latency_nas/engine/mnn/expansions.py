"""The ops that MNN's converter makes of each op of a graph.

References:
    MNN 3.6, ``tools/converter/source/optimizer``: ``OnnxExtraManager``, ``ConvertMatMulToConv2D``, ``FuseTemplateOp``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod

from latency_nas.engine.mnn.steps import BINARY, Program, Step
from latency_nas.errors import GraphError
from latency_nas.graph.normal_form.spellings import spelled_out
from latency_nas.graph.op_graph import CHOICE, Node, OpGraph, Value
from latency_nas.kernel import OPS, AttrValue, Shape

__all__ = ["expanded"]

# op -> the ops in order by which a source may spell it so that MNN joins them. Their numbers have no axes: it neither
# joins x * relu6(x + [3.0]) / [6.0], nor a softmax between reshapes, nor x * hard_sigmoid(x).
_SPELLINGS: dict[str, frozenset[tuple[str, ...]]] = {
    "hard_swish": frozenset(
        {("add", "relu6", "mul", last) for last in ("mul", "div")} | {("add", "relu6", "div", "mul")}
    ),
    "swish": frozenset({("sigmoid", "mul")}),
    "gelu": frozenset({(first, "erf", "add", "mul", "mul") for first in ("mul", "div")}),
    "rms_norm": frozenset(
        (square, "reduce_mean", "add", *roots, *weights)
        for square in ("pow", "mul", "square")
        for roots in (("rsqrt", "mul"), ("sqrt", "reciprocal", "mul"), ("sqrt", "div", "mul"), ("sqrt", "div"))
        for weights in ((), ("mul",))
    ),
}

# operands that decide where data lies are kept; weights that belong to their op are not
_WITH_CONSTANTS = BINARY | {"concat", "split", "gather", "embedding", "where", "matmul"}


def _joins(graph: OpGraph, node: Node) -> bool:
    """Whether MNN joins the ops by which a source spells one; it compares them with templates of its own."""
    if tuple(part.op for part in node.spelled) not in _SPELLINGS.get(node.op, ()):
        return False
    parts = [part for part in node.spelled if part.attrs.get("scalar")]
    numbers = [graph.values[index] for part in parts for index in part.inputs if graph.values[index].constant]
    return all(number.shape == () for number in numbers)


def expanded(graph: OpGraph) -> Program:
    """MNN's ops of a graph, in the order of its nodes.

    Raises:
        GraphError: if a choice is open.
    """
    graph = _without_known(spelled_out(graph, lambda node: _joins(graph, node)))
    program = Program(graph)
    for node in graph.nodes:
        if node.op == CHOICE:
            raise GraphError(f"Expected a graph of one architecture, but the choice `{node.attrs['name']}` is open.")
        _expand(program, node)
    return program


def _without_known(graph: OpGraph) -> OpGraph:
    """The graph without the nodes that read only constants: the converter computes these, their outputs are known.

    An op outside the vocabulary may draw random numbers, so it stays.
    """
    values, nodes = list(graph.values), []
    for node in graph.nodes:
        if node.op in OPS and node.inputs and all(values[index].constant for index in node.inputs):
            for index in node.outputs:
                values[index] = replace(values[index], constant=True)
        else:
            nodes.append(node)
    return graph if len(nodes) == len(graph.nodes) else replace(graph, values=tuple(values), nodes=tuple(nodes))


def _expand(program: Program, node: Node) -> None:
    """Append the steps of a node."""
    expand = _EXPAND.get(node.op)
    if expand is not None and expand(program, node):
        return
    inputs = node.inputs if node.op in _WITH_CONSTANTS else program.graph.activations(node)
    program.steps.append(Step(node.op, inputs, node.outputs, node.attrs, node, (node.name,)))


def _linear(program: Program, node: Node) -> bool:
    """A product with weights is a 1 x 1 convolution of its rows, between two reshapes."""
    index, output = program.graph.activations(node)[0], node.outputs[0]
    shape = program.shape(index)
    if len(shape) < 2:
        return False
    sizes = [(prod(shape[:-1]), program.shape(value)[-1], 1, 1) for value in (index, output)]
    rows, made, plain = program.new(sizes[0], index), program.new(sizes[1], output), program.new(sizes[1], output)
    attrs: dict[str, AttrValue] = {
        "kernel": (1, 1), "stride": (1, 1), "pad": (0,) * 4, "dilation": (1, 1), "group": 1, "bias": 0,
    }  # fmt: skip
    program.steps += [
        Step("reshape", (index,), (rows,), {}, node),
        Step("conv2d", (rows,), (made,), attrs | dict(node.attrs), node, (node.name,)),
        Step("unpack", (made,), (plain,), {}, node),
        Step("reshape", (plain,), (output,), {}, node),
    ]
    return True


def _hard_sigmoid(program: Program, node: Node) -> bool:
    """MNN computes x * 1/6 + 1/2 and clamps it."""
    (index,), output = program.graph.activations(node), node.outputs[0]
    scaled, shifted = (program.new(program.shape(index), index) for _ in range(2))
    program.steps += [
        Step("mul", (index,), (scaled,), {"scalar": 1}, node, (node.name,)),
        Step("add", (scaled,), (shifted,), {"scalar": 1}, node, (node.name,)),
        Step("relu6", (shifted,), (output,), {}, node, (node.name,)),
    ]
    return True


def _conv1d(program: Program, node: Node) -> bool:
    """A convolution over one axis is one over two, the second of size 1."""
    index, output = program.graph.activations(node)[0], node.outputs[0]
    wide, made = (program.new((*program.shape(value), 1), value) for value in (index, output))
    ones: dict[str, AttrValue] = {name: (*_ints(node, name), 1) for name in ("kernel", "stride", "dilation")}
    before, after = _ints(node, "pad")
    attrs = dict(node.attrs) | ones | {"pad": (before, 0, after, 0)}
    program.steps += [
        Step("reshape", (index,), (wide,), {}, node),
        Step("conv2d", (wide,), (made,), attrs, node, (node.name,)),
        Step("reshape", (made,), (output,), {}, node),
    ]
    return True


def _ints(node: Node, name: str) -> tuple[int, ...]:
    value = node.attrs[name]
    return value if isinstance(value, tuple) else ()


def _mish(program: Program, node: Node) -> bool:
    """MNN cannot convert Mish; exporters that it understands write x * tanh(softplus(x))."""
    (index,), output = program.graph.activations(node), node.outputs[0]
    soft, gate = (program.new(program.shape(index), index) for _ in range(2))
    _log_of_power(program, node, soft)
    program.steps += [
        Step("tanh", (soft,), (gate,), {}, node, (node.name,)),
        Step("mul", (index, gate), (output,), {}, node, (node.name,)),
    ]
    return True


def _softplus(program: Program, node: Node) -> bool:
    _log_of_power(program, node, node.outputs[0])
    return True


def _log_of_power(program: Program, node: Node, output: int) -> None:
    """Append log(exp(x) + 1), by which MNN computes a softplus."""
    (index,) = program.graph.activations(node)
    power, shifted = (program.new(program.shape(index), index) for _ in range(2))
    program.steps += [
        Step("exp", (index,), (power,), {}, node, (node.name,)),
        Step("add", (power,), (shifted,), {"scalar": 1}, node, (node.name,)),
        Step("log", (shifted,), (output,), {}, node, (node.name,)),
    ]


def _small_groups(program: Program, node: Node) -> bool:
    """Groups of few channels become depthwise convolutions: one for each pair of a group's input and output channel."""
    index, output = program.graph.activations(node)[0], node.outputs[0]
    (n, c_in, *spatial), (_, c_out, *made) = program.shape(index), program.shape(output)
    groups = int(str(node.attrs["group"]))
    n_in, n_out = c_in // groups, c_out // groups
    if groups == 1 or n_in == n_out == 1 or n_out >= min(4, groups) or n_in >= groups:
        return False

    def new(shape: Shape) -> int:
        return program.new(shape, output)

    steps = program.steps
    split, moved = new((n, groups, n_in, *spatial)), new((n_in, n, groups, *spatial))
    steps.append(Step("reshape", (index,), (split,), {}, node))
    steps.append(Step("transpose", (split,), (moved,), {"perm": (2, 0, 1, 3, 4)}, node))
    parts, results = [new((n, groups, *spatial)) for _ in range(n_in)], list[int]()
    steps.append(Step("unstack", (moved,), tuple(parts), {"axis": 0}, node))
    for _ in range(n_out):
        total = -1
        for position, part in enumerate(parts):
            one = new((n, groups, *made))
            attrs = dict(node.attrs) | {"bias": int(position == 0) and node.attrs["bias"]}
            steps.append(Step("conv2d", (part,), (one,), attrs, node, (node.name,)))
            if position:
                steps.append(Step("add", (total, one), (sum_ := new((n, groups, *made)),), {}, node, (node.name,)))
                one = sum_
            total = one
        results.append(total)
    stacked, back = new((n_out, n, groups, *made)), new((n, groups, n_out, *made))
    steps.append(Step("stack", tuple(results), (stacked,), {"axis": 0}, node))
    steps.append(Step("transpose", (stacked,), (back,), {"perm": (1, 2, 0, 3, 4)}, node))
    steps.append(Step("reshape", (back,), (output,), {}, node))
    return True


def _instance_norm(program: Program, node: Node) -> bool:
    """MNN normalises the last of three axes, and scales by weights unless they change nothing."""
    index, output = program.graph.activations(node)[0], node.outputs[0]
    n, channels, *spatial = program.shape(index)
    weights = [program.values[position].number for position in node.inputs if program.values[position].constant]
    made = output if weights in ([], [1.0, 0.0]) else program.new(program.shape(index), index)
    _norm(program, node, (index, made), (n, channels, prod(spatial)))
    if made != output:
        program.steps.append(Step("batch_norm", (made,), (output,), {}, node, (node.name,)))
    return True


def _group_norm(program: Program, node: Node) -> bool:
    """Exporters write the norm of a row for each group, then a product and a sum for each channel."""
    index, output = program.graph.activations(node)[0], node.outputs[0]
    shape, groups = program.shape(index), int(str(node.attrs["group"]))
    affine = len(node.inputs) > 1
    made = program.new(shape, index) if affine else output
    _norm(program, node, (index, made), (shape[0], groups, prod(shape[1:]) // groups))
    if affine:
        values = program.values
        weights = len(values)
        values.append(Value(shape=(shape[1], *(1,) * (len(shape) - 2)), dtype=values[index].dtype, constant=True))
        scaled = program.new(shape, index)
        program.steps.append(Step("mul", (made, weights), (scaled,), {}, node, (node.name,)))
        program.steps.append(Step("add", (scaled, weights), (output,), {}, node, (node.name,)))
    return True


def _norm(program: Program, node: Node, ends: tuple[int, int], rows: Shape) -> None:
    """Append a norm of rows between two reshapes."""
    index, output = ends
    flat, made = program.new(rows, index), program.new(rows, index)
    program.steps += [
        Step("reshape", (index,), (flat,), {}, node),
        Step("instance_norm", (flat,), (made, *node.outputs[1:]), {}, node, (node.name,)),
        Step("reshape", (made,), (output,), {}, node),
    ]


# op -> function that appends its steps, and says whether it did
_EXPAND: dict[str, Callable[[Program, Node], bool]] = {
    "linear": _linear,
    "hard_sigmoid": _hard_sigmoid,
    "conv1d": _conv1d,
    "conv2d": _small_groups,
    "softplus": _softplus,
    "mish": _mish,
    "instance_norm": _instance_norm,
    "group_norm": _group_norm,
}
