"""Models as operator graphs."""

from latency_nas.graph.op_graph import CHOICE, Node, OpGraph, Value

__all__ = ["CHOICE", "Node", "OpGraph", "Value"]
