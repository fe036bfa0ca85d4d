"""From the nodes that a reader made to the normal form, the same for each of them."""

from __future__ import annotations

from latency_nas.graph.int8 import in_int8
from latency_nas.graph.normal_form.computed_weights import with_computed_weights
from latency_nas.graph.normal_form.side_outputs import without_unread_outputs
from latency_nas.graph.normal_form.spellings import normalized
from latency_nas.graph.op_graph import OpGraph

__all__ = ["in_normal_form"]


def in_normal_form(graph: OpGraph) -> OpGraph:
    """The graph of what outputs depend on, with what is spelled out joined, and what is quantised in int8."""
    return in_int8(normalized(with_computed_weights(without_unread_outputs(graph.without_dead_nodes()))))
