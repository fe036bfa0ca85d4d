"""Operator graphs of models, and the readers that make them."""

from latency_nas.graph.op_graph import BRANCH, CHOICE, Node, OpGraph, Value

__all__ = ["BRANCH", "CHOICE", "Node", "OpGraph", "Value"]
