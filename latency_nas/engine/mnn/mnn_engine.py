"""MNN on this machine: conversion in-process, sessions, and the time of each op that a session executes."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import importlib
import importlib.metadata
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latency_nas.engine.mnn import device_side as device_runner
from latency_nas.engine.mnn.device_side import POWER_MODES, PRECISIONS
from latency_nas.errors import MeasureError, MissingExtraError
from latency_nas.graph import OpGraph
from latency_nas.graph.onnx.writer import save_onnx
from latency_nas.kernel import Shape
from latency_nas.kernel.kernel_call import KernelCall

__all__ = [
    "POWER_MODES",
    "PRECISIONS",
    "ExecutedOp",
    "MNNNetwork",
    "agree",
    "check_ops",
    "convert",
    "described_ops",
    "engine_version",
    "expected_ops",
    "runner_errors",
]

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # glibc's malloc.h
_ALLOCATOR = {_TRIM_THRESHOLD: 128 * 1024, _MMAP_MAX: 65536}  # as glibc starts

# kernel family -> the type of the op that MNN executes
_EXECUTED_AS = {
    "conv2d": "Convolution",
    "depthwise_conv2d": "ConvolutionDepthwise",
    "pool2d": "Pooling",
    "batch_norm": "Scale",
    "reduce_mean": "Reduction",
    "raster": "Raster",
    "relu": "ReLU",
    "relu6": "ReLU6",
    "leaky_relu": "ReLU",
    "conv_transpose2d": "Deconvolution",
    "resize": "Interp",
    "layer_norm": "LayerNorm",
    "softmax": "Softmax",
    "matmul": "While",
    **dict.fromkeys(("add", "sub", "mul", "div"), "BinaryOp"),
    **dict.fromkeys(("hard_swish", "sigmoid", "swish", "tanh", "gelu"), "UnaryOp"),
}


@dataclass(frozen=True, slots=True)
class ExecutedOp:
    """An op that MNN ran: its type, the shapes it read (scalar operands left out) and wrote."""

    type: str
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]


def expected_ops(calls: Sequence[KernelCall]) -> list[ExecutedOp]:
    """What MNN should execute for these kernels, in order."""
    kernels = [call.kernel for call in calls]
    return [ExecutedOp(_EXECUTED_AS.get(k.family, k.op), k.inputs, k.outputs) for k in kernels]


def agree(executed: Sequence[ExecutedOp], expected: Sequence[ExecutedOp]) -> bool:
    """Whether MNN ran what was expected; an operand that is a constant is read besides, and repeated in a loop."""
    return len(executed) == len(expected) and all(map(_agrees, executed, expected))


def _agrees(ran: ExecutedOp | None, wanted: ExecutedOp | None) -> bool:
    if ran is None or wanted is None:
        return False
    with_constant = (
        wanted.type == "BinaryOp"
        and ran.type in {"BinaryOp", "While"}
        and len(ran.inputs) == len(wanted.inputs) + 1 == 2
        and wanted.inputs[0] in ran.inputs
    )
    return ran == wanted or (with_constant and ran.outputs == wanted.outputs)


def check_ops(executed: Sequence[ExecutedOp], expected: Sequence[ExecutedOp], path: Path) -> None:
    """Hold the ops that MNN ran for a file against those that the fusion rules give.

    Raises:
        MeasureError: if they differ; the message names the first that does.
    """
    if agree(executed, expected):
        return
    pairs = zip([*executed, None], [*expected, None], strict=False)
    position, (ran, wanted) = next((i, pair) for i, pair in enumerate(pairs) if not _agrees(*pair))
    raise MeasureError(
        f"Expected MNN to run the kernels that the fusion rules give for {path.stem}, "
        f"but op {position} is {ran} and not {wanted}. "
        f"The rules in latency_nas/engine/mnn/fusion.py do not cover this network."
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """MNN prints banners from C++ on standard output; inside, they go nowhere."""
    sys.stdout.flush()
    saved, sink = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 1)
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(sink)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Wait for other processes that convert in this working folder.

    MNN keeps weights in a file of one name there meanwhile: two at once mix them up, without an error.
    """
    folder = os.open(".", os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


@contextlib.contextmanager
def _one_heap() -> Iterator[None]:
    """Have glibc take large blocks from one heap, and give it back at the end.

    It maps each anew otherwise, and the kernel clears its pages: three quarters of the time of converting 50 MB.
    """
    libc = ctypes.CDLL(None)
    if not (hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim")):
        yield
        return
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        for option, value in _ALLOCATOR.items():
            libc.mallopt(option, value)
        libc.malloc_trim(0)


def _import(name: str) -> Any:
    try:
        with _quiet():
            return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError("Measuring needs MNN and onnx: pip install 'latency-nas[mnn]'") from error


def engine_version() -> str:
    """The version of MNN that is installed."""
    _import("MNN")
    return importlib.metadata.version("MNN")


def convert(network: OpGraph | Path, target: Path, *, seed: int = 0) -> Path:
    """Convert a graph, with random weights, or an ONNX file to MNN, inside this process.

    The console script ``mnnconvert`` is never used: it installs packages and reports usage over the network.

    Raises:
        MeasureError: if the graph has an op that cannot be written, or MNN cannot convert the file.
    """
    tools = _import("_tools")
    with tempfile.TemporaryDirectory() as folder:
        source = network
        if not isinstance(source, Path):
            source = save_onnx(source, Path(folder, "model.onnx"), seed=seed)
        argv = ["", "-f", "ONNX", "--modelFile", str(source), "--MNNModel", str(target), "--bizCode", "x"]
        with _quiet(), _alone(), _one_heap():
            tools.mnnconvert(argv)
    if not target.is_file() or target.stat().st_size == 0:
        raise MeasureError(f"MNN {engine_version()} could not convert {source}.")
    return target


class MNNNetwork:
    """A network in one MNN session in this process, ready to run.

    Args:
        path: the ``.mnn`` file.
        threads: of the session.
        precision: one of `PRECISIONS`.
        power_mode: one of `POWER_MODES`: which cores its threads prefer.
        seed: of the random input.

    Raises:
        MeasureError: if an option is out of range, the chip lacks the precision or the file is no MNN model.
    """

    def __init__(
        self, path: Path, *, threads: int = 1, precision: str = "fp32", power_mode: str = "normal", seed: int = 0
    ) -> None:
        _import("MNN")
        with runner_errors():
            self._network = device_runner.Network(str(path), threads, precision, power_mode, seed)

    @property
    def memory_mb(self) -> float:
        """Memory of the session at its peak, weights and activations, as MNN counts it."""
        return self._network.memory_mb

    def executed_ops(self) -> list[ExecutedOp]:
        """Every op of one run, in order."""
        return described_ops(self._network.executed())

    def run_ms(self, n_runs: int) -> list[float]:
        """Milliseconds of whole runs; copies to and from the host are not in them."""
        with runner_errors():
            return self._network.run_ms(n_runs)

    def profile_ms(self, n_runs: int) -> list[list[float]]:
        """Milliseconds of each op in each run, calling back included, of shape ``(n_runs, n_ops)``."""
        return self._network.profile_ms(n_runs)


@contextlib.contextmanager
def runner_errors() -> Iterator[None]:
    """What the device side says is wrong, as an error of this library."""
    try:
        yield
    except device_runner.RunnerError as error:
        raise MeasureError(str(error)) from error


def described_ops(ops: Sequence[Sequence[Any]]) -> list[ExecutedOp]:
    """The device side's description of the executed ops; scalar operands are left out."""
    shapes = [[tuple(map(tuple, side)) for side in op[2:4]] for op in ops]
    return [
        ExecutedOp(op[1], tuple(shape for shape in inputs if shape), outputs)
        for op, (inputs, outputs) in zip(ops, shapes, strict=True)
    ]
