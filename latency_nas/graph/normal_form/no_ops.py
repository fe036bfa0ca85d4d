"""Leaves out what no deployed network runs: ops that change nothing, and additions of zeros.

Identities by their arguments are ``y + 0``, ``y - 0``, ``y * 1`` and ``y / 1``, with a number, or with a tensor of
such numbers that is no parameter. So is the addition of ``x * 0``: an edge of a supernet whose zero is chosen is
absent, and a node with one edge left has no addition. Networks that are derived from such supernets are written so; a
file that keeps such an addition is priced as if it did not.

Where all edges of a node are zero, one of its products with 0 remains, and so do the operators that read it.

Limitation: a zero of a file's own weights is no zero here, since training may change it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from latency_nas.graph.node import Node, Value
from latency_nas.kernel import AttrValue

__all__ = ["MOVES", "NEUTRAL", "is_idle_move", "is_zero", "neutral_input", "number_in", "number_of", "without_no_ops"]

# op -> the number that changes nothing, and the places where the op may read it
NEUTRAL: dict[str, tuple[float, tuple[int, ...]]] = {
    "add": (0.0, (0, 1)), "sub": (0.0, (1,)), "mul": (1.0, (0, 1)), "div": (1.0, (1,)),
}  # fmt: skip
_COMPUTED: dict[str, Callable[[float, float], float]] = {
    "add": lambda x, y: x + y, "sub": lambda x, y: x - y, "mul": lambda x, y: x * y, "div": lambda x, y: x / y,
    "maximum": max, "minimum": min,
}  # fmt: skip
_JOINS = frozenset({"concat", "stack"})
# ops that only move data
MOVES = _JOINS | {
    "reshape", "transpose", "slice", "split", "chunk", "expand", "tile", "gather", "index", "roll", "flip",
    "shuffle_channel",
}  # fmt: skip
_KEEP_NUMBERS = (MOVES - _JOINS) | {"resize", "cast"}
_IDLE_IF_SAME_SHAPE = frozenset({"reshape", "expand", "tile", "slice"})


def is_idle_move(op: str, attrs: Mapping[str, AttrValue], source: Value, target: Value) -> bool:
    """Whether an op that moves data or converts its type gives its input itself.

    Args:
        op: Op of the vocabulary.
        attrs: Its attributes.
        source: Its input.
        target: Its output.
    """
    if op == "pad":
        return not any(attrs["pads"])  # type: ignore[arg-type]
    if op == "cast":
        return source.dtype == target.dtype
    return op in _IDLE_IF_SAME_SHAPE and source.shape == target.shape and "steps" not in attrs


def number_in(known: NDArray[Any] | None) -> float | None:
    """The number that all elements of a constant are, if its values are known."""
    if known is None or not known.size or known.dtype.kind not in "biuf":
        return None
    first = known.item(0)
    return float(first) if known.size == 1 or (known == first).all() else None


def number_of(op: str, attrs: Mapping[str, AttrValue], numbers: Sequence[float | None]) -> float | None:
    """The number that all elements of a constant are, which an op computes of others; None if it is not known.

    Args:
        op: Op of the vocabulary.
        attrs: Its attributes.
        numbers: The number that all elements of each input are; None for inputs of other values.
    """
    first = numbers[0] if numbers else None
    known = [number for number in numbers if number is not None]
    if op in _COMPUTED and len(known) == 2 and not (op == "div" and known[1] == 0):
        return _COMPUTED[op](*known)
    if op in _KEEP_NUMBERS or (op == "pad" and attrs["mode"] != "constant"):
        return first
    return first if op in _JOINS and len(set(numbers)) == 1 else None


def is_zero(value: Value) -> bool:
    """Whether all elements are zero, whatever the model's input and weights are."""
    return value.literal and value.number == 0


def neutral_input(node: Node, read: Sequence[int], values: Sequence[Value]) -> int | None:
    """Position of the input that a node gives unchanged; None if it runs. Of two zeros, the earlier one is kept.

    Args:
        node: Node of a graph.
        read: Indices of what its inputs are.
        values: Tensors of the graph.
    """
    number, places = NEUTRAL.get(node.op, (None, ()))
    target = values[node.outputs[0]]
    for place in sorted(places, key=lambda place: -read[place]) if len(read) == 2 else ():
        operand, other = values[read[place]], values[read[1 - place]]
        same = (other.shape, other.dtype) == (target.shape, target.dtype)
        if operand.literal and operand.number == number and same and (operand.constant or not other.constant):
            return 1 - place
    return None


def without_no_ops(
    values: Sequence[Value], nodes: Sequence[Node], outputs: Sequence[int]
) -> tuple[tuple[Value, ...], tuple[Node, ...], tuple[int, ...]]:
    """The parts of a graph without the nodes that change nothing; see above.

    Args:
        values: Tensors of the graph.
        nodes: Its nodes, in the order in which they run.
        outputs: Indices of its outputs.

    Returns:
        The values, of which products with 0 are known to be zeros, the nodes that are left, and the outputs.
    """
    known, kept = list(values), []
    alias: dict[int, int] = {}
    for node in nodes:
        read = node.reading(alias) if alias else node
        made = read.outputs[0]
        if read.op == "mul" and any(known[index].constant and is_zero(known[index]) for index in read.inputs):
            known[made] = replace(known[made], number=0.0, literal=True)
        place = neutral_input(read, read.inputs, known)
        if place is None:
            kept.append(read)
        else:
            alias[made] = read.inputs[place]
    return tuple(known), tuple(kept), tuple([alias.get(index, index) for index in outputs])
