"""`PaddleLite`: Paddle's engine for phones. It is measured here with its x86 build, in a Python that has it.

Its Python does not time single ops, so each kernel is timed as a program of its own. There its weights are warm in the
cache, so a kernel with many weights takes longer in a network than alone (measured: ResNet18 at 64x64 takes 2.2 times
the sum of its kernels, MobileNetV2 1.1 to 1.2 times). Calibrate an estimator on whole networks where that matters.

Limitations:
1. Measurements are on x86-64 Linux in fp32 with one thread, all that the build supports.
2. Networks that are read from a graph, and all kernels, are measured with random weights.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from latency_nas.engine.engine import Engine
from latency_nas.engine.paddle_lite.environment import find_lite_python, lite_version
from latency_nas.engine.paddle_lite.fusion import fuse_lite, fuse_lite_2_11
from latency_nas.engine.paddle_lite.lowering import lower_lite
from latency_nas.engine.paddle_lite.program import rewrite_for_lite
from latency_nas.engine.paddle_lite.programs import PROGRAMS
from latency_nas.engine.target import Target
from latency_nas.errors import GraphError, MeasureError
from latency_nas.graph import OpGraph
from latency_nas.graph.input_shapes import InputShape
from latency_nas.graph.paddle.reader import read_paddle
from latency_nas.graph.paddle.writer import write_paddle
from latency_nas.kernel.kernel_call import KernelCall

__all__ = ["PaddleLite"]


class PaddleLite(Engine):
    """Paddle-Lite. The rules are those of ARM; measurements are on x86-64."""

    name = "paddle-lite"
    title = "Paddle-Lite"
    install = "pip install paddlelite==2.13rc0 'numpy<2'"
    suffixes = (".zip", ".pdmodel", ".json")
    versions = ("", "2.11")
    times_ops = False
    programs = PROGRAMS
    device_side = Path(__file__).with_name("device_side.py")

    def fuse(self, graph: OpGraph, target: Target) -> tuple[KernelCall, ...]:
        """As `latency_nas.engine.paddle_lite.fusion`: by the rules of 2.13 or of 2.11."""
        return fuse_lite_2_11(graph) if target.version == "2.11" else fuse_lite(graph)

    def lower(self, file: Path, target: Target, *, input_shape: InputShape | None = None) -> tuple[KernelCall, ...]:
        """As `latency_nas.engine.paddle_lite.lowering`, for ARM whatever the target."""
        del target
        return lower_lite(file, input_shape)

    def installed_version(self) -> str:
        """The version of the paddlelite that `python` would give."""
        return lite_version()

    def python(self) -> str:
        """The Python that has paddlelite. There are no wheels for CPython above 3.10."""
        return str(find_lite_python())

    def write(self, network: OpGraph | Path, path: Path, *, seed: int = 0) -> Path:
        """Write an archive of the program, its weights, and the shapes of its inputs, for the device side.

        Args:
            network: Graph, or model file. A ``.pdmodel`` keeps the weights of the ``.pdiparams`` beside it. A PIR
                ``.json``, which Paddle-Lite cannot read, is rewritten like a graph: with random weights.
            path: File to write.
            seed: Seed of the random weights.

        Raises:
            GraphError: if a file cannot be read.
            MeasureError: if a graph cannot be written as a program, or an input is not of floats.
        """
        if isinstance(network, Path) and network.suffix == ".zip":
            path.symlink_to(network.resolve())
            return path
        graph = read_paddle(network) if isinstance(network, Path) else network
        other_dtypes = sorted({graph.values[index].dtype for index in graph.inputs} - {"fp32"})
        if other_dtypes:
            raise MeasureError(f"Expected inputs of {path.stem} in fp32, but got {', '.join(other_dtypes)}.")
        if isinstance(network, Path) and network.suffix == ".pdmodel":
            beside = network.with_suffix(".pdiparams")
            if not beside.is_file():
                raise GraphError(f"Expected the weights of {network} at {beside}, but they are not there.")
            program, weights = rewrite_for_lite(network.read_bytes()), beside.read_bytes()
        else:
            program, weights = write_paddle(graph, seed=seed)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("model.pdmodel", program)
            archive.writestr("model.pdiparams", weights)
            archive.writestr("inputs.json", json.dumps([list(graph.values[index].shape) for index in graph.inputs]))
        return path
