"""Leaves out the outputs that engines compute only on demand: the indices of a pooling, the statistics of a norm."""

from __future__ import annotations

from dataclasses import replace

from latency_nas.graph.op_graph import Node, OpGraph
from latency_nas.kernel import WITH_SIDE_OUTPUTS

__all__ = ["without_unread_outputs"]


def without_unread_outputs(graph: OpGraph) -> OpGraph:
    """The graph whose poolings and norms have only their first output, and those of the others that are read.

    A node keeps its first output, whichever one is read: engines compute it in any case.
    """
    read = {*graph.outputs}.union(*[node.inputs for node in graph.nodes])

    def kept(node: Node) -> Node:
        first, *others = node.outputs
        return replace(node, outputs=(first, *[index for index in others if index in read]))

    nodes = [kept(node) if len(node.outputs) > 1 and node.op in WITH_SIDE_OUTPUTS else node for node in graph.nodes]
    return replace(graph, nodes=tuple(nodes))
