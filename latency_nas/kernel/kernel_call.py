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
        layer: Name of the module that the kernel belongs to; for a copy between layouts, of the module that needs it.
        nodes: Names of the graph's nodes that the kernel computes; empty for a copy.
        reader: Name of the node that the kernel runs for. It distinguishes the copies of one layer.
        n_params: Number of parameters that this kernel is the first in the network to read; None where the graph
            does not record parameters.
    """

    kernel: Kernel
    layer: str
    nodes: tuple[str, ...]
    reader: str = field(default="", compare=False)
    n_params: int | None = field(default=None, compare=False)
