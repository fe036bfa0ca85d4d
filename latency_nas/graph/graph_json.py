"""An `OpGraph` as JSON text, for a session's file. Formatting and parsing are inverse."""

from __future__ import annotations

import json

from latency_nas.graph import Node, OpGraph, Value
from latency_nas.kernel import AttrValue

__all__ = ["format_graph", "parse_graph"]


def format_graph(graph: OpGraph) -> str:
    """The graph as one line of JSON, without the names of parameters."""
    values = [[value.shape, value.dtype, int(value.constant)] for value in graph.values]
    nodes = [
        [node.name, node.op, node.inputs, node.outputs, dict(node.attrs), node.modules[-1:]] for node in graph.nodes
    ]
    return json.dumps([values, nodes, graph.inputs, graph.outputs], separators=(",", ":"))


def parse_graph(text: str) -> OpGraph:
    """The inverse of `format_graph`."""
    values, nodes, inputs, outputs = json.loads(text)
    return OpGraph(
        values=tuple(Value(shape=tuple(shape), dtype=dtype, constant=bool(c)) for shape, dtype, c in values),
        nodes=tuple(_node(*fields) for fields in nodes),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
    )


def _node(
    name: str, op: str, inputs: list[int], outputs: list[int], attrs: dict[str, AttrValue], modules: list[str]
) -> Node:
    frozen: dict[str, AttrValue] = {key: tuple(v) if isinstance(v, list) else v for key, v in attrs.items()}
    return Node(
        name=name, op=op, inputs=tuple(inputs), outputs=tuple(outputs), attrs=frozen, modules=tuple(modules)
    )  # fmt: skip
