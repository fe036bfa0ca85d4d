"""Edges of a supernet whose zero may be chosen: absent from its networks, unless they are too many."""

from __future__ import annotations

import logging
from dataclasses import replace

from latency_nas.graph import OpGraph
from latency_nas.graph.normal_form.no_ops import is_zero
from latency_nas.graph.op_graph import CHOICE

__all__ = ["with_additions_of_zeros"]

logger = logging.getLogger(__name__)

_MAX_EDGES = 12  # with more of them, who reads what takes too many cases


def with_additions_of_zeros(graph: OpGraph, choices: dict[str, str]) -> tuple[OpGraph, frozenset[str]]:
    """The graph in which additions of zeros run, and the names of the products with 0, which cost nothing.

    An edge that is zero leaves its node with fewer additions. Where one edge is left, the node is that edge's output,
    and whoever reads it reads this. Which operators join then depends on all edges of a cell together. Where few edges
    may be zero, the graph is thus left as it is, and nothing is named.

    Args:
        graph: Graph of a supernet.
        choices: Choice that each place of the graph belongs to.
    """
    edges = {
        choices[str(node.attrs["name"])]
        for node in graph.nodes
        if node.op == CHOICE and any(is_zero(graph.values[index]) for index in node.inputs)
    }
    if len(edges) <= _MAX_EDGES:
        return graph, frozenset()
    logger.warning(
        "Each of %d edges may be zero, `%s` and others: a zero costs nothing, but its addition is priced, which the "
        "network that is derived does not have.",
        len(edges),
        min(edges),
    )
    values = tuple([replace(value, literal=False) if is_zero(value) else value for value in graph.values])
    products = frozenset(node.name for node in graph.nodes if is_zero(graph.values[node.outputs[0]]))
    return replace(graph, values=values), products
