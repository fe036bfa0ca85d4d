"""`Toy`: what `latency_nas` needs to know of the toy engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from latency_nas.engine import Engine, ExecutedOp, Target
from latency_nas.graph import OpGraph
from latency_nas.kernel.kernel_call import KernelCall
from toy_engine.rules import fuse_toy
from toy_engine.writer import write_toy

__all__ = ["Toy"]

# op of a kernel -> the type that the interpreter reports
_TYPES = {"conv2d": "Convolution", "linear": "Dense", "raster": "Layout", "pool2d": "Pooling", "batch_norm": "Scale"}


class Toy(Engine):
    """An interpreter over NumPy. It has one thread, fp32, and times each op."""

    name = "toy"
    title = "Toy Engine"
    install = "pip install numpy"
    suffixes = (".toy",)
    layout_ops = frozenset({"raster"})
    device_side = Path(__file__).with_name("device_side.py")

    def fuse(self, graph: OpGraph, target: Target) -> tuple[KernelCall, ...]:
        """The same kernels for every target."""
        del target
        return fuse_toy(graph)

    def executed_ops(self, calls: Sequence[KernelCall]) -> list[ExecutedOp]:
        """One op for each kernel."""
        kernels = [call.kernel for call in calls]
        return [ExecutedOp(_TYPES.get(kernel.op, kernel.op), kernel.inputs, kernel.outputs) for kernel in kernels]

    def write(self, network: OpGraph | Path, path: Path, *, seed: int = 0) -> Path:
        """A ``.toy`` file is linked to; a graph is written with random weights."""
        if isinstance(network, Path):
            path.symlink_to(network.resolve())
            return path
        return write_toy(network, path, seed=seed)
