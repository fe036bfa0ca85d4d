"""`KernelCall`: one run of a kernel in a network, whichever engine's fusion rules made it."""

from __future__ import annotations

from dataclasses import dataclass, field

from latency_nas.kernel import Kernel

__all__ = ["KernelCall"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelCall:
    """One run of a kernel in a network.

    Args:
        kernel: what runs.
        layer: the module that it belongs to (for a copy: the module that needs it).
        nodes: the names of the graph's nodes that it carries out; empty for a copy.
        reader: the name of the node that it is run for; tells the copies of a layer apart.
    """

    kernel: Kernel
    layer: str
    nodes: tuple[str, ...]
    reader: str = field(default="", compare=False)
