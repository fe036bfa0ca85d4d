"""Reads Paddle's operators that are several nodes: recurrent layers, sums, indices, and products with vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

from latency_nas.graph.op_graph import OpGraph, Value
from latency_nas.graph.paddle.ops import Attrs, read_op
from latency_nas.graph.paddle.program import PaddleOp
from latency_nas.graph.paddle.shapes import infer_shapes, why_not_inferred
from latency_nas.kernel import Shape

__all__ = ["SUM", "Emit", "read_steps", "with_additions"]

SUM = "paddle.sum"  # op of a sum of any number of tensors, before `with_additions`

# function that adds a node and gives the index of its value, of (op, attributes, inputs, shape of the output)
Emit = Callable[[str, Attrs, Sequence[int], Shape], int]

_RECURRENT = {"LSTM": "lstm", "GRU": "gru", "RNN_TANH": "rnn", "RNN_RELU": "rnn"}


def read_steps(
    op: PaddleOp, inputs: Sequence[int], values: Sequence[Value], targets: Sequence[Shape], emit: Emit
) -> Sequence[int] | None:
    """Emit the nodes of an operator that is several; None where it is one node.

    Args:
        op: Operator.
        inputs: Indices of its operands' values, in the order of `latency_nas.graph.paddle.ops.operands`.
        values: All values so far.
        targets: Shapes of its results.
        emit: Function that adds a node.

    Returns:
        The indices of the results.
    """
    if op.type == "rnn":
        return _recurrent(op, inputs, values[inputs[0]].shape, len(targets), emit)
    if op.type in ("matmul", "matmul_v2"):
        return _product(op, inputs, [values[index] for index in inputs], targets[0], emit)
    if op.type in ("slice", "strided_slice") and op.attrs.get("decrease_axis"):
        return _indexed(op, inputs, values[inputs[0]].shape, targets[0], emit)
    return None


def _indexed(op: PaddleOp, inputs: Sequence[int], source: Shape, target: Shape, emit: Emit) -> list[int] | None:
    """Emit a slice at an index as a slice of size 1, then a reshape that drops this axis."""
    whole = replace(op, attrs={**op.attrs, "decrease_axis": ()})
    kind, attrs = read_op(whole, [source], target)
    if kind != "slice" or why_not_inferred(whole):
        return None
    cuts = dict.fromkeys(map(int, op.attrs["decrease_axis"]), (0, 1))  # also those of size 1, which no cut changes
    steps = attrs.get("steps", (1,) * len(cast(Shape, attrs["axes"])))
    listed = zip(*(cast(Shape, item) for item in (attrs["axes"], attrs["starts"], steps)), strict=True)
    axes, ends = zip(*sorted((cuts | {axis: (start, step) for axis, start, step in listed}).items()), strict=True)
    attrs |= {"axes": axes, "starts": tuple(start for start, _ in ends)}
    attrs |= {"steps": tuple(step for _, step in ends)} if "steps" in attrs else {}
    cut = emit(kind, attrs, inputs[:1], infer_shapes(whole, [source])[0])
    return [emit("reshape", {}, [cut], target)]


def _recurrent(op: PaddleOp, inputs: Sequence[int], source: Shape, n_results: int, emit: Emit) -> list[int] | None:
    """Emit one node a layer, over the whole sequence and in both directions.

    Sequences that differ in length are of no known form. The last states are parts of the layers' outputs, which costs
    what an engine pays for them: a copy.
    """
    hidden, n_directions = int(op.attrs["hidden_size"]), 1 + bool(op.attrs.get("is_bidirec"))
    n_layers, mode = int(op.attrs["num_layers"]), _RECURRENT.get(op.attrs["mode"])
    weights = _weights(op, inputs, n_layers * n_directions)
    if mode is None or op.inputs.get("SequenceLength") or not weights:
        return None
    attrs: Attrs = {"hidden": hidden, **({"directions": 2} if n_directions > 1 else {})}
    steps, batch, _ = source
    width, states, output = n_directions * hidden, [], inputs[0]
    for layer in range(n_layers):
        own = [index for cell in weights[layer * n_directions : (layer + 1) * n_directions] for index in cell]
        output = emit(mode, attrs, [output, *own], (steps, batch, width))
        end = emit("slice", {"axes": (0,), "starts": (steps - 1,)}, [output], (1, batch, width))
        states.append(emit("reshape", {}, [end], (2, batch, hidden)) if n_directions > 1 else end)
    if len(states) > 1:
        states = [emit("concat", {"axis": 0}, states, (n_layers * n_directions, batch, hidden))]
    return [output, *states * (n_results - 1)]


def _weights(op: PaddleOp, inputs: Sequence[int], n_cells: int) -> list[list[int]]:
    """The weights of each layer and direction: the file lists two matrices of each, then the biases of each."""
    n_weights = len(op.inputs.get("WeightList", ()))
    start = len(op.inputs["Input"]) + len(op.inputs.get("PreState", ()))
    listed = inputs[start : start + n_weights]
    n_biases, rest = divmod(n_weights - 2 * n_cells, n_cells) if n_cells > 0 else (-1, 0)
    if rest or n_biases < 0:
        return []
    biases = listed[2 * n_cells :]
    return [
        [*listed[2 * cell : 2 * cell + 2], *biases[cell * n_biases : (cell + 1) * n_biases]] for cell in range(n_cells)
    ]


def _product(
    op: PaddleOp, inputs: Sequence[int], values: Sequence[Value], target: Shape, emit: Emit
) -> list[int] | None:
    """Emit a product with a vector as one with a matrix of one row or column, or one after a transposition."""
    (x, y), ranks = inputs, [len(value.shape) for value in values]
    is_row, is_column = ranks[0] == 1, ranks[1] == 1
    transposed = not is_row and bool(op.attrs.get("trans_x", op.attrs.get("transpose_X")))
    if not (is_row or is_column or transposed) or all(value.constant for value in values):
        return None
    left, right = (value.shape for value in values)
    if transposed:
        left = (*left[:-2], left[-1], left[-2])
        x = emit("transpose", {"perm": (*range(ranks[0] - 2), ranks[0] - 1, ranks[0] - 2)}, [x], left)
    if is_row:
        x = emit("reshape", {}, [x], (1, *left))
    if is_column:
        y = emit("reshape", {}, [y], (*right, 1))
    columns = () if is_column else target[-1:]
    whole = (*target[: len(target) - len(columns)], *(1,) * is_row, *(columns or (1,)))
    weights = values[1].constant and ranks[1] <= 2
    made = emit("linear" if weights else "matmul", {"bias": 0} if weights else {}, [x, y], whole)
    return [emit("reshape", {}, [made], target) if whole != target else made]


def with_additions(graph: OpGraph) -> OpGraph:
    """The graph with n - 1 additions in place of each sum of n tensors."""
    values, nodes = list(graph.values), []
    for node in graph.nodes:
        if node.op != SUM:
            nodes.append(node)
            continue
        total = node.inputs[0]
        for number, index in enumerate(node.inputs[1:-1], 1):
            values.append(replace(values[node.outputs[0]]))
            made = len(values) - 1
            nodes.append(replace(node, name=f"{node.name}.{number}", op="add", inputs=(total, index), outputs=(made,)))
            total = made
        nodes.append(replace(node, op="add", inputs=(total, node.inputs[-1])))
    return replace(graph, values=tuple(values), nodes=tuple(nodes))
