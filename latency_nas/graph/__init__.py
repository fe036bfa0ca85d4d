"""Models as operator graphs, and the kernels that an engine makes of them."""

from latency_nas.graph.op_graph import CHOICE, Node, OpGraph, Value

__all__ = ["CHOICE", "Node", "OpGraph", "Value"]
