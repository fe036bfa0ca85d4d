"""MNN on this machine: conversion in-process, sessions, and the time of each op that a session executes."""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.metadata
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latency_nas.errors import MeasureError, MissingExtraError
from latency_nas.graph.kernel_call import KernelCall
from latency_nas.kernel import Shape

if TYPE_CHECKING:
    import onnx

__all__ = ["PRECISIONS", "ExecutedOp", "MNNNetwork", "check_ops", "convert", "engine_version", "expected_ops"]

# MNN's name of a precision, by ours. Its "low" is fp16 on some chips and fp32 on others, and it does not say which:
# a datasheet could not be true, so that it is left out.
PRECISIONS = {"fp32": "high"}

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
    **dict.fromkeys(("add", "sub", "mul", "div"), "BinaryOp"),
    **dict.fromkeys(("hard_swish", "sigmoid", "swish", "tanh"), "UnaryOp"),
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


def check_ops(executed: Sequence[ExecutedOp], expected: Sequence[ExecutedOp], path: Path) -> None:
    """Hold the ops that MNN ran for a file against those that the fusion rules give.

    Raises:
        MeasureError: if they differ; the message names the first that does.
    """
    if executed == expected:
        return
    pairs = zip([*executed, None], [*expected, None], strict=False)
    position, (ran, wanted) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
    raise MeasureError(
        f"Expected MNN to run the kernels that the fusion rules give for {path.stem}, "
        f"but op {position} is {ran} and not {wanted}. "
        f"The rules in latency_nas/graph/fusion_mnn.py do not cover this network."
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


def convert(model: onnx.ModelProto | Path, target: Path) -> Path:
    """Convert an ONNX model, or the file of one, to MNN, inside this process.

    The console script ``mnnconvert`` is never used: it installs packages and reports usage over the network.

    Raises:
        MeasureError: if MNN cannot convert it.
    """
    tools, onnx_package = _import("_tools"), _import("onnx")
    with tempfile.TemporaryDirectory() as folder:
        source = model if isinstance(model, Path) else Path(folder, "model.onnx")
        if not isinstance(model, Path):
            onnx_package.save(model, source)
        argv = ["", "-f", "ONNX", "--modelFile", str(source), "--MNNModel", str(target), "--bizCode", "x"]
        with _quiet():
            tools.mnnconvert(argv)
    if not target.is_file() or target.stat().st_size == 0:
        raise MeasureError(f"MNN {engine_version()} could not convert {source}.")
    return target


class MNNNetwork:
    """A network in one MNN session, ready to run.

    Args:
        path: the ``.mnn`` file.
        threads: of the session.
        precision: one of `PRECISIONS`.
        seed: of the random input.

    Raises:
        MeasureError: if an option is out of range or the file is no MNN model.
    """

    def __init__(self, path: Path, *, threads: int = 1, precision: str = "fp32", seed: int = 0) -> None:
        if precision not in PRECISIONS:
            raise MeasureError(f"Expected `precision` to be one of {', '.join(PRECISIONS)}, but got {precision!r}.")
        if threads < 1:
            raise MeasureError(f"Expected `threads` to be a positive integer, but got {threads}.")
        self._mnn = _import("MNN")
        config = {"backend": "CPU", "numThread": threads, "precision": PRECISIONS[precision]}
        with _quiet():
            self._interpreter = self._open(path)
            self._interpreter.setSessionMode(0)  # the mode in which ops can be timed; as fast as the default
            self._session = self._interpreter.createSession(config)
        random = np.random.default_rng(seed)
        self._inputs = []
        for tensor in self._interpreter.getSessionInputAll(self._session).values():
            shape = tensor.getShape()
            data = random.standard_normal(shape, dtype=np.float32)
            host = self._mnn.Tensor(shape, self._mnn.Halide_Type_Float, data, self._mnn.Tensor_DimensionType_Caffe)
            self._inputs.append((tensor, host))

    def _open(self, path: Path) -> Any:
        try:
            return self._mnn.Interpreter(str(path))
        except Exception as error:  # MNN raises nothing more specific
            raise MeasureError(
                f"MNN {engine_version()} could not open {path}: it is missing, truncated or no MNN model."
            ) from error

    def _fill(self) -> None:
        """A session computes in its input's memory, so that each run needs the input again."""
        for tensor, host in self._inputs:
            tensor.copyFrom(host)

    def executed_ops(self) -> list[ExecutedOp]:
        """Every op of one run, in order."""
        inputs: list[tuple[Shape, ...]] = []
        ops: list[ExecutedOp] = []

        def before(tensors: Any, _: Any) -> bool:
            inputs.append(tuple(tuple(tensor.getShape()) for tensor in tensors))
            return True

        def after(tensors: Any, info: Any) -> bool:
            outputs = tuple(tuple(tensor.getShape()) for tensor in tensors)
            ops.append(ExecutedOp(info.getType(), tuple(shape for shape in inputs[-1] if shape), outputs))
            return True

        self._fill()
        self._interpreter.runSessionWithCallBackInfo(self._session, before, after)
        return ops

    def run_ms(self, n_runs: int) -> list[float]:
        """Milliseconds of whole runs; copies to and from the host are not in them."""
        times = []
        with _no_garbage_collection():
            for _ in range(n_runs):
                self._fill()
                start = time.perf_counter_ns()
                self._interpreter.runSession(self._session)
                times.append((time.perf_counter_ns() - start) / 1e6)
        if min(times) < 1e-4:
            raise MeasureError(f"MNN ran a network in {min(times)} ms, which is impossible: it did not run.")
        return times

    def profile_ms(self, n_runs: int) -> list[list[float]]:
        """Milliseconds of each op in each run, calling back included, of shape ``(n_runs, n_ops)``."""
        now = time.perf_counter_ns
        starts: list[int] = []
        ends: list[int] = []

        def before(_tensors: Any, _info: Any) -> bool:
            starts.append(now())
            return True

        def after(_tensors: Any, _info: Any) -> bool:
            ends.append(now())
            return True

        runs = []
        with _no_garbage_collection():
            for _ in range(n_runs):
                self._fill()
                starts.clear()
                ends.clear()
                self._interpreter.runSessionWithCallBackInfo(self._session, before, after)
                runs.append([(end - start) / 1e6 for start, end in zip(starts, ends, strict=True)])
        return runs


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
