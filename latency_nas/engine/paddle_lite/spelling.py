"""Joins chains of nodes that are one operator in a Paddle program, or that Paddle-Lite's optimiser joins.

ONNX lacks operators that Paddle has, and takes numbers as operands: a hard swish or a swish that is written so is one
operator in Paddle, where the numbers are attributes. Frameworks cut a slice and then drop its axis, where a slice of
Paddle drops it itself. The optimiser joins a swish that a Paddle program spells out, and a softmax between two
transpositions. It does not join a hard swish that a Paddle program spells out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod

from latency_nas.graph.op_graph import Node, OpGraph
from latency_nas.graph.patterns import Patterns

__all__ = ["join_chains"]


def _by_number(found: Patterns, node: Node) -> bool:
    """Whether a node has a number as an operand, as ONNX writes it, and one tensor."""
    constants = [found.values[index].shape for index in node.inputs if found.values[index].constant]
    return bool(node.attrs.get("scalar")) and len(node.inputs) == 2 and [prod(shape) for shape in constants] == [1]


def _hard_swish(found: Patterns, position: int) -> None:
    """Join x * relu6(x + number) * number, with the products in any order."""
    clamp = found.nodes[position]
    shifted = found.made_by(clamp.inputs[0], "add")
    if shifted is None or not _by_number(found, shifted):
        return
    (x,) = found.activations(shifted)
    parts, gates, index = [shifted, clamp], [], clamp.outputs[0]
    for _ in range(2):
        product = found.reader(index, "mul") or found.reader(index, "div")
        if product is None:
            return
        gates.append(product.op == "mul" and {*product.inputs} == {index, x})
        if not gates[-1] and not _by_number(found, product):
            return
        parts.append(product)
        index = product.outputs[0]
    if sum(gates) == 1:
        _join(found, parts, "hard_swish", x)


def _swish(found: Patterns, position: int) -> None:
    """Join x * sigmoid(x), also with a number that multiplies the sigmoid's input."""
    sigmoid = found.nodes[position]
    product = found.reader(sigmoid.outputs[0], "mul")
    if product is None:
        return
    scaled = found.made_by(sigmoid.inputs[0], "mul")
    parts = [sigmoid, product]
    if scaled is not None and _by_number(found, scaled):
        parts = [scaled, *parts]
    x = found.activations(parts[0])[0]
    if {*product.inputs} == {sigmoid.outputs[0], x}:
        _join(found, parts, "swish", x)


def _join(found: Patterns, parts: list[Node], op: str, x: int) -> None:
    found.remove(*parts[:-1])
    found.nodes[found.maker[parts[-1].outputs[0]]] = replace(parts[-1], op=op, inputs=(x,), attrs={})


def _cut_axis(found: Patterns, position: int) -> None:
    """Join a slice and a reshape that drops an axis of one cut."""
    cut = found.nodes[position]
    dropped = found.reader(cut.outputs[0], "reshape")
    if dropped is None:
        return
    axes = cut.attrs["axes"]
    shape, wanted = found.values[cut.outputs[0]].shape, found.values[dropped.outputs[0]].shape
    kept = tuple(
        size for axis, size in enumerate(shape) if size != 1 or not isinstance(axes, tuple) or axis not in axes
    )
    if kept == wanted != shape:
        found.remove(dropped)
        found.nodes[position] = replace(cut, outputs=dropped.outputs)


def _softmax(found: Patterns, position: int) -> None:
    """Join a softmax over the last axis, a transposition before it and its inverse after it."""
    node = found.nodes[position]
    before = found.made_by(node.inputs[0], "transpose")
    after = found.reader(node.outputs[0], "transpose")
    if before is None or after is None:
        return
    perm, back = before.attrs["perm"], after.attrs["perm"]
    if not isinstance(perm, tuple) or not isinstance(back, tuple):
        return
    axis, rank = node.attrs["axis"], len(perm)
    if axis == rank - 1 and tuple(perm[place] for place in back) == tuple(range(rank)):
        found.remove(before, after)
        found.nodes[position] = replace(
            node, inputs=before.inputs[:1], outputs=after.outputs, attrs={"axis": perm[rank - 1]}
        )


# op of a node -> function that joins the chain that it is part of
_CHAINS: Mapping[str, Callable[[Patterns, int], None]] = {
    "relu6": _hard_swish,
    "sigmoid": _swish,
    "slice": _cut_axis,
    "softmax": _softmax,
}


def join_chains(graph: OpGraph) -> OpGraph:
    """The graph with one node in place of each chain."""
    found = Patterns(graph)
    for position, node in enumerate(graph.nodes):
        if node.op in _CHAINS and position not in found.gone:
            _CHAINS[node.op](found, position)
    return found.graph() if found.gone else graph
