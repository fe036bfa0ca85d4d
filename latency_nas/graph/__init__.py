"""Operator graphs of models, and the readers that make them."""

from latency_nas.graph.op_graph import CHOICE, Node, OpGraph, Value

__all__ = ["CHOICE", "Node", "OpGraph", "Value"]
