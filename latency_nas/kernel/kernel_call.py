"""`KernelCall`: one run of a kernel in a network, whichever engine's fusion rules made it."""

from __future__ import annotations

from dataclasses import dataclass, field

from latency_nas.kernel.kernel import Kernel

__all__ = ["KernelCall"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelCall:
    """One run of a kernel in a network.

    Args:
        kernel: Kernel that runs.
        layer: Module that it belongs to (for a copy: the module that needs it).
        nodes: Names of the graph's nodes that it carries out; empty for a copy.
        reader: Name of the node that it is run for; tells the copies of a layer apart.
        n_params: Elements of the model's parameters that it is the first in the network to read; None where the graph
            does not know its parameters.
    """

    kernel: Kernel
    layer: str
    nodes: tuple[str, ...]
    reader: str = field(default="", compare=False)
    n_params: int | None = field(default=None, compare=False)
