"""Which fusion rules belong to which engine."""

from __future__ import annotations

from collections.abc import Callable

from latency_nas.engine.mnn.fusion import fuse_mnn
from latency_nas.engine.paddle_lite.fusion import fuse_lite, fuse_lite_2_11
from latency_nas.errors import GraphError
from latency_nas.graph.op_graph import OpGraph
from latency_nas.kernel.kernel_call import KernelCall

__all__ = ["fuse"]

_RULES: dict[str, Callable[[OpGraph], tuple[KernelCall, ...]]] = {
    "MNN": fuse_mnn,
    "Paddle-Lite": fuse_lite,
    "Paddle-Lite 2.11": fuse_lite_2_11,
}


def fuse(graph: OpGraph, engine: str) -> tuple[KernelCall, ...]:
    """The kernels that `engine` runs for `graph`, in order.

    Raises:
        GraphError: if the engine's rules are not known, or a choice of the graph is open.
    """
    if engine not in _RULES:
        raise GraphError(
            f"Expected an engine whose fusion rules are known ({', '.join(_RULES)}), but got {engine!r}: "
            f"its tables can be read, but no model can be priced by them yet."
        )
    return _RULES[engine](graph)
