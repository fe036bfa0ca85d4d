"""`MNN`: Alibaba's engine for phones and servers, on the CPU."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from latency_nas.engine.engine import Engine, ExecutedOp
from latency_nas.engine.mnn.converter import convert
from latency_nas.engine.mnn.fusion import fuse_mnn
from latency_nas.engine.mnn.layouts import UNARY
from latency_nas.engine.mnn.programs import PROGRAMS
from latency_nas.engine.mnn.steps import BINARY
from latency_nas.engine.target import Target
from latency_nas.graph import OpGraph
from latency_nas.graph.input_shapes import InputShape
from latency_nas.kernel import Kernel, shared_kernel
from latency_nas.kernel.kernel_call import KernelCall

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["MNN"]

# kernel family -> the type of the op that MNN executes
_EXECUTED_AS = {
    "conv2d": "Convolution",
    "depthwise_conv2d": "ConvolutionDepthwise",
    "conv_transpose2d": "Deconvolution",
    **dict.fromkeys(("pool1d", "pool2d"), "Pooling"),
    "batch_norm": "Scale",
    "raster": "Raster",
    **dict.fromkeys(("relu", "leaky_relu"), "ReLU"),
    **dict.fromkeys(("relu6", "clip"), "ReLU6"),
    "resize": "Interp",
    **dict.fromkeys(("layer_norm", "rms_norm", "instance_norm"), "LayerNorm"),
    "prelu": "PReLU",
    "softmax": "Softmax",
    "cast": "Cast",
    "where": "Select",
    "topk": "TopKV2",
    "argmax": "ArgMax",
    **dict.fromkeys(("matmul", "gather", "embedding"), "While"),
    **dict.fromkeys(BINARY, "BinaryOp"),
    **dict.fromkeys(UNARY, "UnaryOp"),
}

_WITH_BIAS = frozenset(f"conv{kind}{axes}d" for kind in ("", "_transpose") for axes in (1, 2, 3))


def _type_of(kernel: Kernel) -> str:
    """The type of the op. A loop expands the smaller of two operands; matrices are multiplied without a loop."""
    if kernel.op.startswith("reduce_"):
        return "Reduction"
    if kernel.op == "conv_transpose2d" and dict(kernel.attrs)["group"] == kernel.inputs[0][1] > 1:
        return "DeconvolutionDepthwise"
    if kernel.op == "matmul" and len(kernel.outputs[0]) == 2:
        return "MatMul"
    sizes = {prod(shape) for shape in kernel.inputs}
    if kernel.op in BINARY and len(sizes) > 1 and 1 not in sizes:
        return "While"
    return _EXECUTED_AS.get(kernel.family, kernel.op)


class MNN(Engine):
    """MNN on the CPU. It is converted to inside this process, and times each op of a session."""

    name = "mnn"
    title = "MNN"
    install = "pip install MNN"
    suffixes = (".mnn", ".onnx")
    precisions = ("fp32", "fp16", "int8")
    power_modes = ("normal", "high", "low")
    layout_ops = frozenset({"raster"})
    keeps_weights = True
    programs = PROGRAMS
    refused_precisions = {  # noqa: RUF012 - typed by the base class
        "int8": "networks of random weights cannot be quantised as a trained one would be, and MNN's int8 kernels "
        "depend on that. Quantise your network with MNN's own tool and measure the file as a whole network."
    }
    timed_whole = frozenset({"lstm", "gru", "rnn", "index", "cumsum", "topk"})  # MNN runs each as several ops
    device_side = Path(__file__).with_name("device_side.py")
    device_side_parts = {  # noqa: RUF012 - typed by the base class
        "latency_nas.engine.mnn.module_side": Path(__file__).with_name("module_side.py")
    }

    def fuse(self, graph: OpGraph, target: Target) -> tuple[KernelCall, ...]:
        """As `latency_nas.engine.mnn.fusion`. The rules are the same for every target."""
        del target
        return fuse_mnn(graph)

    def same_work(self, kernel: Kernel) -> tuple[Kernel, ...]:
        """The convolution with a bias for one without, and the reverse: MNN adds one of zeros where there is none."""
        attrs = dict(kernel.attrs)
        if kernel.op not in _WITH_BIAS or "bias" not in attrs:
            return ()
        other = tuple((attrs | {"bias": 1 - int(bool(attrs["bias"]))}).items())
        return (shared_kernel(kernel.op, kernel.inputs, kernel.outputs, other, kernel.dtype),)

    def fuse_branches(self, branches: Sequence[OpGraph], target: Target) -> tuple[KernelCall, ...]:
        """MNN runs branches from the last output to the first."""
        return tuple(call for branch in reversed(branches) for call in self.fuse(branch, target))

    def lower(self, file: Path, target: Target, *, input_shape: InputShape | None = None) -> tuple[KernelCall, ...]:
        """As `latency_nas.engine.mnn.lowering`, in fp32 whatever the target: the ops are the same."""
        from latency_nas.engine.mnn.lowering import lower_mnn

        return lower_mnn(file, replace(target, precision="fp32"), input_shape)

    def installed_version(self) -> str:
        """The version of the MNN of this Python."""
        names = ("MNN", "_tools")  # the engine and its converter, of one package
        return importlib.metadata.version("MNN") if all(map(importlib.util.find_spec, names)) else ""

    def executed_ops(self, calls: Sequence[KernelCall]) -> list[ExecutedOp]:
        """One op for each kernel."""
        kernels = [call.kernel for call in calls]
        return [ExecutedOp(_type_of(k), k.inputs, k.outputs) for k in kernels]

    def agrees(self, ran: ExecutedOp, wanted: ExecutedOp) -> bool:
        """Whether the ops are the same. MNN also reports a constant operand, which it may repeat in a loop."""
        with_constant = (
            wanted.type in {"BinaryOp", "While"}
            and ran.type in {"BinaryOp", "While"}
            and len(ran.inputs) == len(wanted.inputs) + 1 == 2
            and wanted.inputs[0] in ran.inputs
        )
        selects = ran.type == wanted.type == "Select" and not Counter(wanted.inputs) - Counter(ran.inputs)
        return ran == wanted or ((with_constant or selects) and ran.outputs == wanted.outputs)

    def write(self, network: OpGraph | Path, path: Path, *, seed: int = 0) -> Path:
        """Link to a ``.mnn`` file; convert an ONNX file or a graph."""
        if isinstance(network, Path):
            self.check_file(network)
            if network.suffix == ".mnn":
                path.symlink_to(network.resolve())
                return path
        return convert(network, path, seed=seed)

    def export(self, model: nn.Module, example_input: Tensor | tuple[Tensor, ...], path: Path) -> Path:
        """Export through torch's own ONNX exporter, as a user would deploy the module."""
        from latency_nas.graph.torch.onnx_export import export_onnx

        with tempfile.TemporaryDirectory() as folder:
            source = export_onnx(model, example_input, Path(folder, "model.onnx"))
            path.parent.mkdir(parents=True, exist_ok=True)
            return convert(source, path)
