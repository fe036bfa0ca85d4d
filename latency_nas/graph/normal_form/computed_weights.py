"""Names convolutions whose weights or bias are computed as the network runs: an engine packs them anew in each run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from latency_nas.graph.op_graph import Node, OpGraph, Value
from latency_nas.kernel.vocabulary import SPATIAL_AXES

__all__ = ["by_weights", "with_computed_weights"]

_CONVS = frozenset(op for op in SPATIAL_AXES if op.startswith("conv"))


def by_weights(node: Node, values: Sequence[Value]) -> Node:
    """The node; one of op ``conv2d.computed_weights`` for a convolution that reads more than one activation.

    The vocabulary lacks this op, so it has a price only in a table that has rows of it.
    """
    if node.op in _CONVS and not all(values[index].constant for index in node.inputs[1:]):
        return replace(node, op=f"{node.op}.computed_weights")
    return node


def with_computed_weights(graph: OpGraph) -> OpGraph:
    """The graph with such names."""
    return replace(graph, nodes=tuple([by_weights(node, graph.values) for node in graph.nodes]))
