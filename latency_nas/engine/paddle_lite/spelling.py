"""Joins chains of nodes that are one operator in a Paddle program, or that Paddle-Lite's optimiser joins.

ONNX lacks operators that Paddle has, and takes numbers as operands. Where its file spells out a hard swish or a swish,
Paddle has one operator. Frameworks cut a slice and then drop its axis, where a slice of Paddle drops it itself. The
optimiser joins a swish that a Paddle program spells out, and a softmax between two transpositions. It leaves other ops
as the program spells them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from latency_nas.graph.normal_form.patterns import Patterns
from latency_nas.graph.normal_form.spellings import spelled_out
from latency_nas.graph.op_graph import Node, OpGraph

__all__ = ["join_chains"]


_JOINED = frozenset({"swish", "softmax", "split"})  # ops that the optimiser joins where a program spells them out
_LACKING = frozenset({"rms_norm"})  # ops that Paddle-Lite lacks, so that every program spells them out


def _is_one(node: Node) -> bool:
    """Whether a merged node is one operator in the Paddle program: not where the program spells it out."""
    if node.op in _LACKING:
        return False
    return node.op in _JOINED or any(part.attrs.get("scalar") and len(part.inputs) == 2 for part in node.spelled)


def _scaled_swish(found: Patterns, position: int) -> None:
    """Join x * sigmoid(x * number)."""
    sigmoid = found.nodes[position]
    product, scaled = found.reader(sigmoid.outputs[0], "mul"), found.made_by(sigmoid.inputs[0], "mul")
    if product is None or scaled is None or not scaled.attrs.get("scalar") or len(scaled.inputs) != 2:
        return
    x = found.activations(scaled)
    if {*product.inputs} == {sigmoid.outputs[0], *x}:
        found.remove(scaled, sigmoid)
        found.nodes[found.maker[product.outputs[0]]] = replace(product, op="swish", inputs=tuple(x), attrs={})


def _cut_axis(found: Patterns, position: int) -> None:
    """Join a slice and a reshape that drops axes of one cut each."""
    cut = found.nodes[position]
    dropped = found.reader(cut.outputs[0], "reshape")
    if dropped is None:
        return
    axes = cut.attrs["axes"]
    shape, wanted = found.values[cut.outputs[0]].shape, found.values[dropped.outputs[0]].shape
    n_ones = sum(shape[axis] == 1 for axis in axes) if isinstance(axes, tuple) else 0
    same = [size for size in shape if size != 1] == [size for size in wanted if size != 1]
    if same and 0 < len(shape) - len(wanted) <= n_ones:
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
    "sigmoid": _scaled_swish,
    "slice": _cut_axis,
    "softmax": _softmax,
}


def join_chains(graph: OpGraph) -> OpGraph:
    """The graph with one node in place of each chain."""
    found = Patterns(spelled_out(graph, _is_one))
    for position, node in enumerate(found.nodes):
        if node.op in _CHAINS and position not in found.gone:
            _CHAINS[node.op](found, position)
    return found.graph()
