"""Replaces ONNX's `If`, `Loop` and `Scan` by the nodes that run.

An `If` with a known condition is its branch. With an unknown one, both branches are kept, and each of its outputs is
one of two tensors (`BRANCH`). A `Loop` or `Scan` with a known trip count is that many copies of its body. With an
unknown one it stays: the model says neither how often the body runs, nor what that costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any

import numpy as np
import onnx
from onnx import helper

from latency_nas.errors import GraphError
from latency_nas.graph.onnx.composites import is_composite, rewritten
from latency_nas.graph.onnx.model import STANDARD, OnnxModel, python_value, take_value, title
from latency_nas.graph.onnx.scopes import Body, subgraphs

__all__ = ["CONTROL", "body_ops", "expand", "is_control", "is_joined"]

CONTROL = frozenset({"If", "Loop", "Scan"})
_DOMAIN = "latency_nas"  # of the nodes that join two branches: ``Branch(condition, if false, if true)``
_NEW_UNSQUEEZE = 13  # opset in which its axes became an input

Fold = Callable[[OnnxModel, list[onnx.NodeProto]], list[onnx.NodeProto]]


def is_control(node: onnx.NodeProto) -> bool:
    """Whether a node runs one of its subgraphs, or one several times."""
    return node.op_type in CONTROL and node.domain in STANDARD


def is_joined(node: onnx.NodeProto) -> bool:
    """Whether a node joins the branches of an `If`: it reads the condition and the two tensors that it decides between.

    Its name is that of the condition, in messages.
    """
    return node.domain == _DOMAIN and node.op_type == "Branch"


def body_ops(node: onnx.NodeProto) -> str:
    """The types of all ops in the subgraphs of a node, joined by ``+``."""
    return "+".join(sorted(set(_types(node)))) or "nothing"


def _types(node: onnx.NodeProto) -> Iterator[str]:
    for graph in subgraphs(node):
        for inner in graph.node:
            if inner.op_type != "Constant":
                yield inner.op_type
            yield from _types(inner)


def expand(model: OnnxModel, nodes: list[onnx.NodeProto], fold: Fold, *, undecided: bool) -> list[onnx.NodeProto]:
    """The nodes, with those of control flow and composites replaced where this is possible.

    Args:
        model: Model that records the tensors of the new nodes.
        nodes: Nodes in order.
        fold: Function that removes the nodes whose outputs are known.
        undecided: Whether to keep both branches of an `If` with an unknown condition, too.
    """
    if not any(is_control(node) or is_composite(node) for node in nodes):
        return nodes
    result: list[onnx.NodeProto] = []
    for node in nodes:
        made = _run(model, node, fold, undecided=undecided) if is_control(node) else rewritten(model, node)
        result += [node] if made is None else expand(model, fold(model, made), fold, undecided=False)
    return result


def _run(model: OnnxModel, node: onnx.NodeProto, fold: Fold, *, undecided: bool) -> list[onnx.NodeProto] | None:
    """The nodes that run in the place of one; None if it stays."""
    try:
        if node.op_type == "If":
            return _expand_if(model, node, undecided=undecided)
        return _UNROLL[node.op_type](model, node, fold)
    except GraphError:
        raise
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise GraphError(
            f"Expected {title(node)} of {model.name} to be a valid {node.op_type}, but {error or type(error).__name__}."
        ) from error


def _prefix(node: onnx.NodeProto) -> str:
    return next(filter(None, node.output), node.name) + "/"


def _graph(node: onnx.NodeProto, name: str) -> onnx.GraphProto:
    for attribute in node.attribute:
        if attribute.name == name:
            graph: onnx.GraphProto = attribute.g
            return graph
    raise GraphError(f"Expected {title(node)} to be a valid {node.op_type}, but it has no `{name}`.")


def _owner(node: onnx.NodeProto) -> str:
    return node.name or next(filter(None, node.output), node.op_type)


def _known(model: OnnxModel, name: str) -> Any:
    """The single number that a tensor is known to hold, otherwise None."""
    value = model.constants.get(name)
    return value.reshape(-1)[0] if value is not None and value.size == 1 else None


def _aliases(sources: list[str], targets: list[str], node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Nodes that give tensors a second name."""
    if len(sources) < len(targets):
        raise GraphError(
            f"Expected the body of {title(node)} to give {len(targets)} outputs, but it gives {len(sources)}."
        )
    pairs = zip(sources, targets, strict=False)
    return [helper.make_node("Identity", [source], [target]) for source, target in pairs if target]


def _expand_if(model: OnnxModel, node: onnx.NodeProto, *, undecided: bool) -> list[onnx.NodeProto] | None:
    """The branch that runs; both if the condition is unknown and `undecided` says so."""
    if not node.input:
        return None
    origin = model.origins.get(node.input[0], node.input[0])
    condition = _known(model, node.input[0])
    condition = model.decisions.get(origin) if condition is None else condition
    if condition is not None:
        return _branch(model, node, _SIDES[bool(condition)], list(node.output))
    if not undecided:
        return None
    names = [[f"{_prefix(node)}{side}/{name}" if name else "" for name in node.output] for side in ("false", "true")]
    nodes = [made for side, outputs in zip(_SIDES, names, strict=True) for made in _branch(model, node, side, outputs)]
    model.sides |= {f"{_prefix(node)}{side}/": (origin, bool(value)) for value, side in enumerate(_SIDES)}
    label = model.conditions.setdefault(origin, f"{title(node)} on `{origin}`")
    for output, *sides in zip(node.output, *names, strict=True):
        if output:
            joined = helper.make_node("Branch", [node.input[0], *sides], [output], name=label, domain=_DOMAIN)
            nodes.append(joined)
    return nodes


_SIDES = ("else_branch", "then_branch")


def _branch(model: OnnxModel, node: onnx.NodeProto, side: str, outputs: list[str]) -> list[onnx.NodeProto]:
    prefix = f"{_prefix(node)}{side}/"
    body = Body(model, _graph(node, side), prefix, _owner(node))
    nodes, made = body.copy({}, prefix)
    return [*nodes, *_aliases(made, outputs, node)]


class _Unrolled:
    """The copies of a loop's body."""

    def __init__(self, model: OnnxModel, node: onnx.NodeProto) -> None:
        self.model, self.node, self.prefix = model, node, _prefix(node)
        self.body = Body(model, _graph(node, "body"), self.prefix, _owner(node))
        self.nodes: list[onnx.NodeProto] = []

    def run(self, iteration: int, given: Mapping[str, str], fold: Fold) -> list[str]:
        """Append a copy; returns the names of its outputs."""
        nodes, outputs = self.body.copy(given, f"{self.prefix}{iteration}/")
        self.nodes += expand(self.model, fold(self.model, nodes), fold, undecided=False)
        return outputs

    def constant(self, name: str, value: Any) -> str:
        full = f"{self.prefix}:{name}"
        take_value(self.model, full, value)
        return full

    def stack(self, parts: list[str], output: str, axis: int) -> None:
        """Append nodes that stack the parts of an output that each iteration adds to."""
        rows = []
        for number, part in enumerate(parts):
            rows.append(f"{output}/{number}")
            if self.model.opset < _NEW_UNSQUEEZE:
                self.nodes.append(helper.make_node("Unsqueeze", [part], rows[-1:], axes=[axis]))
            else:
                axes = self.constant(f"axis {axis}", np.array([axis], np.int64))
                self.nodes.append(helper.make_node("Unsqueeze", [part, axes], rows[-1:]))
        self.nodes.append(helper.make_node("Concat", rows, [output], axis=axis, name=f"{_owner(self.node)}/outputs"))


def _unroll_loop(model: OnnxModel, node: onnx.NodeProto, fold: Fold) -> list[onnx.NodeProto] | None:
    """The copies of a loop's body; None if the trip count is unknown."""
    given = [*node.input, "", ""]
    trip_count = _known(model, given[0]) if given[0] else np.inf
    goes_on = _known(model, given[1]) if given[1] else True
    if trip_count is None or goes_on is None:
        return None
    unrolled, states = _Unrolled(model, node), list(node.input[2:])
    if goes_on and not unrolled.body.depends_on(0, (0, *range(2, len(given)))):
        unrolled.body.check_copies(trip_count)  # only the trip count can end it
    condition = given[1] or unrolled.constant("condition", np.array(True))
    parts: list[list[str]] = [[] for _ in node.output[len(states) :]]
    for iteration in count():
        if not goes_on or iteration >= trip_count:
            break
        number = unrolled.constant(f"i={iteration}", np.array(iteration, np.int64))
        inputs = dict(zip(unrolled.body.inputs, [number, condition, *states], strict=False))
        condition, *made = unrolled.run(iteration, inputs, fold) or [""]
        if (goes_on := _known(model, condition)) is None:
            return None
        states = made[: len(states)]
        for rows, part in zip(parts, made[len(states) :], strict=False):
            rows.append(part)
    return _ended(unrolled, states, parts, [0] * len(parts))


def _unroll_scan(model: OnnxModel, node: onnx.NodeProto, fold: Fold) -> list[onnx.NodeProto] | None:
    """A copy of the body for each slice of the inputs that are scanned; None if their number is unknown."""
    attrs = {item.name: python_value(item) for item in node.attribute}
    n_scanned = int(attrs.get("num_scan_inputs", 0))
    n_states = len(node.input) - n_scanned
    if not 0 < n_scanned <= len(node.input):
        raise ValueError(f"`num_scan_inputs` is {n_scanned} of {len(node.input)} inputs")
    states, scanned = list(node.input[:n_states]), list(node.input[n_states:])
    n_parts = len(node.output) - n_states
    shapes = [model.tensors[name][0] if name in model.tensors else None for name in scanned]
    axes, backwards = (attrs.get(f"scan_input_{what}", (0,) * n_scanned) for what in ("axes", "directions"))
    if None in shapes or len(axes) != n_scanned or len(backwards) != n_scanned or n_parts < 0:
        return None
    sizes = zip(shapes, axes, strict=True)
    lengths = {shape[axis] for shape, axis in sizes if shape and -len(shape) <= axis < len(shape)}
    if len(lengths) != 1:
        raise GraphError(f"Expected {title(node)} of {model.name} to scan inputs of one length, but got {lengths}.")
    (length,) = lengths
    unrolled = _Unrolled(model, node)
    unrolled.body.check_copies(length)
    parts: list[list[str]] = [[] for _ in range(n_parts)]
    for iteration in range(length):
        rows = []
        for name, axis, backward in zip(scanned, axes, backwards, strict=True):
            at = length - 1 - iteration if backward else iteration
            index = unrolled.constant(f"i={at}", np.array(at, np.int64))
            rows.append(f"{unrolled.prefix}{iteration}/of {name}")
            unrolled.nodes.append(helper.make_node("Gather", [name, index], rows[-1:], axis=axis, name=_owner(node)))
        made = unrolled.run(iteration, dict(zip(unrolled.body.inputs, [*states, *rows], strict=False)), fold)
        states = made[:n_states]
        for part, name in zip(parts, made[n_states:], strict=False):
            part.append(name)
    turned = attrs.get("scan_output_directions", (0,) * n_parts)
    parts = [part[::-1] if turn else part for part, turn in zip(parts, turned, strict=False)]
    return _ended(unrolled, states, parts, list(attrs.get("scan_output_axes", (0,) * n_parts)))


def _ended(
    unrolled: _Unrolled, states: list[str], parts: list[list[str]], axes: list[int]
) -> list[onnx.NodeProto] | None:
    """The nodes of a loop that ended; None if it made none of an output that each iteration adds to."""
    node, n_states = unrolled.node, len(states)
    outputs = list(node.output)
    for rows, output, axis in zip(parts, outputs[n_states:], axes, strict=False):
        if output and not rows:
            return None
        if output:
            unrolled.stack(rows, output, axis)
    return [*unrolled.nodes, *_aliases(states, outputs[:n_states], node)]


_UNROLL = {"Loop": _unroll_loop, "Scan": _unroll_scan}
