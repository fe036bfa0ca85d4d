"""Models as operator graphs, and the kernels that an engine makes of them."""

from latency_nas.graph.fusion import fuse
from latency_nas.graph.kernel_call import KernelCall
from latency_nas.graph.op_graph import CHOICE, Node, OpGraph, Value

__all__ = ["CHOICE", "KernelCall", "Node", "OpGraph", "Value", "fuse"]
