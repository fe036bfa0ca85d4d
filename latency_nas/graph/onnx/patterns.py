"""Replaces groups of nodes, by which an ONNX file writes a single op of the vocabulary, by that op."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from latency_nas.graph.int8 import in_int8
from latency_nas.graph.op_graph import OpGraph
from latency_nas.graph.patterns import Patterns

__all__ = ["canonicalize"]


def _guarded_softmax(found: Patterns, position: int) -> None:
    """Remove Where(IsNaN(s), 0, s), by which torch's exporter protects attention from rows that are fully masked."""
    node = found.nodes[position]
    test, source = found.made_by(node.inputs[0], "is_nan"), node.inputs[-1]
    if test is None or test.inputs[0] != source or found.nodes[found.maker.get(source, position)].op != "softmax":
        return
    found.remove(test, node)
    found.alias[node.outputs[0]] = source


def _swish(found: Patterns, position: int) -> None:
    """Merge x * sigmoid(x), or its hard form."""
    node = found.nodes[position]
    for x, gate in (node.inputs, node.inputs[::-1]) if len(node.inputs) == 2 else ():
        for op, whole in (("sigmoid", "swish"), ("hard_sigmoid", "hard_swish")):
            sigmoid = found.made_by(gate, op)
            if sigmoid is not None and sigmoid.inputs[0] == x:
                found.remove(sigmoid)
                found.nodes[position] = replace(node, op=whole, inputs=(x,), attrs={})
                return


def _layer_norm(found: Patterns, position: int) -> None:
    """Merge (x - mean) / sqrt(mean((x - mean)^2) + eps) * weight + bias, a layer norm before opset 17."""
    node = found.nodes[position]
    centred = found.maker.get(node.inputs[0])
    root = found.made_by(node.inputs[-1], "sqrt")
    shifted = found.made_by(root.inputs[0], "add") if root else None
    mean = found.made_by(found.activations(shifted)[0], "reduce_mean") if shifted else None
    square = (found.made_by(mean.inputs[0], "pow") or found.made_by(mean.inputs[0], "mul")) if mean else None
    if centred is None or not (root and shifted and mean and square) or found.nodes[centred].op != "sub":
        return
    difference = found.nodes[centred]
    x = difference.inputs[0]
    first = found.made_by(difference.inputs[-1], "reduce_mean")
    scale = found.reader(node.outputs[0], "mul")
    shift = found.reader(scale.outputs[0], "add") if scale else None
    rank = len(found.values[x].shape)
    axes = mean.attrs["axes"]
    axis = rank - len(axes) if isinstance(axes, tuple) else rank
    parts = [root, shifted, mean, square, difference]
    if (
        first is None or scale is None or shift is None or first.inputs[0] != x or first.attrs != mean.attrs
        or {*found.activations(square)} != {node.inputs[0]} or axes != tuple(range(axis, rank))
        or any(len(found.activations(part)) != 1 for part in (scale, shift))
    ):  # fmt: skip
        return
    found.remove(*parts, first, node, scale)
    constants = [index for part in (scale, shift) for index in part.inputs if found.values[index].constant]
    attrs = {} if axis == rank - 1 else {"axis": axis}
    found.nodes[found.maker[shift.outputs[0]]] = replace(shift, op="layer_norm", inputs=(x, *constants), attrs=attrs)


def _gelu(found: Patterns, position: int) -> None:
    """Merge x * (1 + erf(x / sqrt 2)) * 0.5, with the products in any order."""
    node = found.nodes[position]
    erf = found.made_by(node.inputs[0], "erf")
    scaled = found.made_by(erf.inputs[0], "div") or found.made_by(erf.inputs[0], "mul") if erf else None
    if erf is None or scaled is None or not scaled.attrs.get("scalar"):
        return
    (x,) = found.activations(scaled)
    parts, last = [erf, scaled, node], node
    for _ in range(2):
        product = found.reader(last.outputs[0], "mul")
        if product is None:
            return
        last = product
        parts.append(last)
    others = {index for part in parts[3:] for index in found.activations(part)} - {part.outputs[0] for part in parts}
    halves = {found.maker[index] for index in others - {x} if found.made_by(index, "mul")}
    if others - {x} and [found.activations(found.nodes[half]) for half in halves] != [[x]]:
        return
    found.remove(*parts[:-1], *(found.nodes[half] for half in halves))
    found.nodes[found.maker[last.outputs[0]]] = replace(last, op="gelu", inputs=(x,), attrs={})


def _bias(found: Patterns, position: int) -> None:
    """Merge a product with weights and the addition of a bias for each column."""
    node = found.nodes[position]
    activations = found.activations(node)
    constants = [found.values[index] for index in node.inputs if found.values[index].constant]
    if len(activations) != 1 or len(constants) != 1:
        return
    linear = found.made_by(activations[0], "linear")
    columns = found.values[activations[0]].shape[-1]
    if linear is None or linear.attrs["bias"] or constants[0].shape != (columns,):
        return
    if found.values[node.outputs[0]].shape != found.values[activations[0]].shape:
        return
    (added,) = (index for index in node.inputs if found.values[index].constant)
    found.nodes[position] = replace(linear, inputs=(*linear.inputs, added), outputs=node.outputs, attrs={"bias": 1})
    found.remove(linear)


def _swapped(found: Patterns, position: int) -> None:
    """Merge a swap of the last two axes between two reshapes, as torch's exporter writes it for attention."""
    node = found.nodes[position]
    swap = found.made_by(node.inputs[0], "transpose")
    flat = found.made_by(swap.inputs[0], "reshape") if swap else None
    if swap is None or flat is None or swap.attrs["perm"] != (0, 2, 1):
        return
    *batch, rows, columns = found.values[flat.inputs[0]].shape
    between = found.values[flat.outputs[0]].shape
    if between[1:] == (rows, columns) and found.values[node.outputs[0]].shape == (*batch, columns, rows):
        rank = len(batch) + 2
        perm = (*range(rank - 2), rank - 1, rank - 2)
        found.remove(flat, swap)
        found.nodes[position] = replace(node, op="transpose", inputs=flat.inputs[:1], attrs={"perm": perm})


# op of a node -> patterns that may begin or end at it
_PATTERNS: dict[str, tuple[Callable[[Patterns, int], None], ...]] = {
    "where": (_guarded_softmax,),
    "mul": (_swish,),
    "div": (_layer_norm,),
    "add": (_gelu, _bias),
    "reshape": (_swapped,),
}


def canonicalize(graph: OpGraph) -> OpGraph:
    """The graph with each group of nodes merged into one node, and with ops between quantisers in int8."""
    found = Patterns(graph)
    for position, node in enumerate(graph.nodes):
        for pattern in _PATTERNS.get(node.op, ()):
            if position not in found.gone:
                pattern(found, position)
    return in_int8(found.graph())
