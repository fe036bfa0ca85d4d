"""The normal form of a graph: a group of nodes by which a source spells a single op of the vocabulary is that op.

It is the same from every reader. Engines join some spellings and run others as they are, so a merged node keeps the
nodes that it replaces (`Node.spelled`) where an engine may do so, and `spelled_out` puts these back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod

from latency_nas.graph.normal_form.patterns import Patterns
from latency_nas.graph.op_graph import Node, OpGraph

__all__ = ["into_parts", "normalized", "spelled_out"]


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
                _merge(found, whole, x, (sigmoid, node))
                return


def _hard_swish(found: Patterns, position: int) -> None:
    """Merge x * relu6(x + 3) / 6, with the division after either factor."""
    last = found.nodes[position]
    if len(found.activations(last)) == 1:  # (x * relu6(x + 3)) / 6
        product = found.made_by(found.activations(last)[0], "mul")
        for x, gate in _operands(found, product):
            parts = _shifted_relu6(found, x, gate)
            if product is not None and parts and _is_number(found, last, 6.0, 1 / 6):
                _merge(found, "hard_swish", x, (*parts, product, last))
                return
    elif last.op == "mul":  # x * (relu6(x + 3) / 6)
        for x, factor in _operands(found, last):
            scaled = found.made_by(factor, "mul") or found.made_by(factor, "div")
            gates = found.activations(scaled) if scaled else []
            parts = _shifted_relu6(found, x, gates[0]) if len(gates) == 1 else None
            if scaled is not None and parts and _is_number(found, scaled, 6.0, 1 / 6):
                _merge(found, "hard_swish", x, (*parts, scaled, last))
                return


def _shifted_relu6(found: Patterns, x: int, gate: int) -> tuple[Node, Node] | None:
    """The nodes of relu6(x + 3), if `gate` is that."""
    clipped = found.made_by(gate, "relu6")
    shifted = found.made_by(clipped.inputs[0], "add") if clipped else None
    if clipped is None or shifted is None or found.activations(shifted) != [x] or not _is_number(found, shifted, 3.0):
        return None
    return shifted, clipped


def _operands(found: Patterns, node: Node | None) -> tuple[tuple[int, int], ...]:
    """Both orders of the operands of a node that has two."""
    inputs = found.activations(node) if node else []
    return ((inputs[0], inputs[1]), (inputs[1], inputs[0])) if len(inputs) == 2 else ()


def _is_number(found: Patterns, node: Node, *numbers: float) -> bool:
    """Whether the other operand of a node is one of these numbers, as far as its source states it."""
    stated = [found.values[index].number for index in node.inputs if found.values[index].constant]
    return node.attrs.get("scalar") == 1 and all(
        number is None or any(abs(number - one) < 1e-5 for one in numbers) for number in stated
    )


def _softmax(found: Patterns, position: int) -> None:
    """Merge a softmax over the last axis between reshapes to a matrix and back, as ONNX defined it before opset 13."""
    node = found.nodes[position]
    middle = found.made_by(node.inputs[0], "softmax")
    flat = found.made_by(middle.inputs[0], "reshape") if middle else None
    if middle is None or flat is None or not found.activations(flat):
        return
    shape, rows = found.values[flat.inputs[0]].shape, found.values[flat.outputs[0]].shape
    if (
        found.values[node.outputs[0]].shape == shape
        and rows[-1:] == shape[-1:]
        and middle.attrs["axis"] == len(rows) - 1
    ):
        _merge(found, "softmax", flat.inputs[0], (flat, middle, node), axis=len(shape) - 1)


def _merge(
    found: Patterns, op: str, x: int, parts: tuple[Node, ...], *, weights: tuple[int, ...] = (), **attrs: int
) -> None:
    """Replace nodes, the last of which makes the result, by one op of `x` and of weights."""
    last = parts[-1]
    whole = replace(last, op=op, inputs=(x, *weights), attrs=dict(attrs), spelled=parts)
    found.remove(*parts[:-1])
    found.nodes[found.maker[last.outputs[0]]] = whole


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


def _rms_norm(found: Patterns, position: int) -> None:
    """Merge x * rsqrt(mean(x^2) + eps), or x / sqrt(...), and a product with weights: an RMS norm before opset 23."""
    node = found.nodes[position]
    x, inverse = node.inputs if len(found.activations(node)) == 2 else (-1, -1)
    roots = _roots(found, node.op, inverse)
    shifted = found.made_by(roots[0].inputs[0], "add") if roots else None
    mean = found.made_by(found.activations(shifted)[0], "reduce_mean") if shifted else None
    square = _square(found, mean.inputs[0], x) if mean else None
    if shifted is None or mean is None or square is None or not shifted.attrs.get("scalar"):
        return
    axes, rank = mean.attrs["axes"], len(found.values[x].shape)
    axis = rank - len(axes) if isinstance(axes, tuple) else rank
    if axes != tuple(range(axis, rank)) or not mean.attrs.get("keepdim"):
        return
    parts = [square, mean, shifted, *roots, node]
    scale = found.reader(node.outputs[0], "mul")
    weights = [index for index in scale.inputs if found.values[index].constant] if scale else []
    if scale is not None and weights:
        parts.append(scale)
    attrs: dict[str, int] = {} if axis == rank - 1 else {"axis": axis}
    _merge(found, "rms_norm", x, tuple(parts), weights=tuple(weights), **attrs)


def _roots(found: Patterns, op: str, index: int) -> tuple[Node, ...]:
    """The nodes of 1 / sqrt(...) that a product reads, or of the sqrt(...) by which it divides; otherwise nothing."""
    whole = found.made_by(index, "sqrt" if op == "div" else "rsqrt")
    inverse = found.made_by(index, "reciprocal") or found.made_by(index, "div") if op == "mul" else None
    if whole is not None or inverse is None:
        return () if whole is None else (whole,)
    read = found.activations(inverse)
    root = found.made_by(read[0], "sqrt") if len(read) == 1 and inverse.inputs[-1] == read[0] else None
    is_one = inverse.op == "reciprocal" or _is_number(found, inverse, 1.0)
    return (root, inverse) if root is not None and is_one else ()


def _square(found: Patterns, index: int, x: int) -> Node | None:
    """The node that makes a value, if it is x * x or x ** 2."""
    node = found.made_by(index, "mul") or found.made_by(index, "square") or found.made_by(index, "pow")
    if node is None or node.inputs[0] != x:
        return None
    others = [found.values[other].number if found.values[other].constant else other for other in node.inputs[1:]]
    return node if others == {"mul": [x], "square": [], "pow": [2.0]}[node.op] else None


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
    steps = sorted([*parts, *(found.nodes[half] for half in halves)], key=lambda part: found.maker[part.outputs[0]])
    _merge(found, "gelu", x, tuple(steps))


def _bias(found: Patterns, position: int) -> None:
    """Merge a product with weights and the addition of a bias for each column."""
    node = found.nodes[position]
    activations = found.activations(node)
    constants = [found.values[index] for index in node.inputs if found.values[index].constant]
    if len(activations) != 1 or len(constants) != 1:
        return
    linear = found.made_by(activations[0], "linear")
    if linear is None or linear.attrs["bias"]:
        return
    columns, added_shape = found.values[activations[0]].shape[-1], constants[0].shape
    if prod(added_shape) != columns or added_shape[-1:] != (columns,):
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
    "mul": (_swish, _hard_swish, _rms_norm),
    "div": (_layer_norm, _hard_swish, _rms_norm),
    "add": (_gelu, _bias),
    "reshape": (_swapped, _softmax),
}


def into_parts(split: Node) -> Node:
    """A split that its source gives by a number of equal parts: engines may tell it from one with sizes."""
    return replace(split, spelled=(replace(split, op="chunk"),))


def normalized(graph: OpGraph) -> OpGraph:
    """The graph without ops that change nothing, and with each group of nodes that spells one op merged into one."""
    graph = graph.without_no_ops()
    found = Patterns(graph)
    for position, node in enumerate(graph.nodes):
        for pattern in _PATTERNS.get(node.op, ()):
            if position not in found.gone:
                pattern(found, position)
    return found.graph()


def spelled_out(graph: OpGraph, keep: Callable[[Node], bool] = lambda _: False) -> OpGraph:
    """The graph with merged nodes replaced by those of its source.

    Args:
        graph: Graph in normal form.
        keep: Function that says whether a merged node stays.
    """
    if not any(node.spelled for node in graph.nodes):
        return graph
    nodes = [one for node in graph.nodes for one in (node.spelled if node.spelled and not keep(node) else (node,))]
    return replace(graph, nodes=tuple(nodes))
