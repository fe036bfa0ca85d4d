"""`Simulated`: what `latency_nas` needs to know of the simulated device."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import prod
from pathlib import Path

from latency_nas.engine import Engine, ExecutedOp, Target
from latency_nas.engine.mnn.fusion import fuse_mnn
from latency_nas.graph import OpGraph
from latency_nas.kernel import Kernel
from latency_nas.kernel.cost import n_flops, n_params
from latency_nas.kernel.kernel_call import KernelCall
from simulated_device.costs import Op, true_ms

__all__ = ["Simulated", "op_of", "true_kernel_ms"]

_KINDS = {
    **dict.fromkeys(("linear", "matmul"), "product"),
    **dict.fromkeys(("pool2d", "reduce_mean"), "pooling"),
    **dict.fromkeys(("sigmoid", "swish", "tanh", "gelu", "softmax", "layer_norm"), "exponential"),
    "raster": "copy",
    "depthwise_conv2d": "depthwise",
}

_FUSED: dict[tuple[str, ...], list[tuple[OpGraph, tuple[KernelCall, ...]]]] = {}  # by the names of nodes


def _kind(kernel: Kernel) -> str:
    if kernel.family != "conv2d":
        return _KINDS.get(kernel.family, "elementwise")
    window, stride = (kernel.attributes[name] for name in ("kernel", "stride"))
    return {((1, 1), (1, 1)): "pointwise", ((3, 3), (1, 1)): "winograd"}.get((window, stride), "dense")


def op_of(kernel: Kernel, name: str = "") -> Op:
    """A kernel as the device knows it: its work, by closed formulas."""
    written = 4 * sum(map(prod, kernel.outputs))
    n_channels = kernel.outputs[0][1] if kernel.outputs and len(kernel.outputs[0]) == 4 else 4
    return Op(
        name=name, type=kernel.op, kind=_kind(kernel), key=kernel.key, inputs=kernel.inputs, outputs=kernel.outputs,
        n_flops=n_flops(kernel), read_bytes=4 * sum(map(prod, kernel.inputs)), written_bytes=written,
        weight_bytes=4 * n_params(kernel), n_channels=n_channels,
    )  # fmt: skip


def true_kernel_ms(kernel: Kernel) -> float:
    """The true cost of a kernel, without context and noise."""
    return true_ms(op_of(kernel))


def _fused(graph: OpGraph) -> tuple[KernelCall, ...]:
    """The kernels of a graph, found once: trials meter and price the same networks again and again."""
    known = _FUSED.setdefault(tuple(node.name for node in graph.nodes), [])
    for other, calls in known:
        if other == graph:
            return calls
    known.append((graph, fuse_mnn(graph)))
    return known[-1][1]


class Simulated(Engine):
    """A device of one thread and fp32 that runs the kernels of MNN's rules."""

    name = "simulated"
    title = "Simulated Device"
    install = "nothing to install"
    suffixes = (".simulated",)
    layout_ops = frozenset({"raster"})
    device_side = Path(__file__).with_name("device_side.py")

    def fuse(self, graph: OpGraph, target: Target) -> tuple[KernelCall, ...]:
        """Real rules, so that regressors, plans and estimates work on its tables."""
        del target
        return _fused(graph)

    def executed_ops(self, calls: Sequence[KernelCall]) -> list[ExecutedOp]:
        """One op for each kernel."""
        return [ExecutedOp(call.kernel.op, call.kernel.inputs, call.kernel.outputs) for call in calls]

    def write(self, network: OpGraph | Path, path: Path, *, seed: int = 0) -> Path:
        """A file holds the ops of a network and their work; weights take no time."""
        del seed
        if isinstance(network, Path):
            path.symlink_to(network.resolve())
            return path
        ops = [op_of(call.kernel, f"op {number}") for number, call in enumerate(_fused(network))]
        path.write_text(json.dumps({"input_shape": network.values[network.inputs[0]].shape, "ops": ops}))
        return path
