"""Conversion to MNN's files, inside this process.

The console script ``mnnconvert`` is never used: it installs packages and reports usage over the network.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import importlib
import importlib.metadata
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latency_nas.engine.serving import errors_in, printed
from latency_nas.errors import MeasureError, MissingExtraError

if TYPE_CHECKING:
    from latency_nas.graph import OpGraph

__all__ = ["convert", "engine_version"]

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # glibc's malloc.h
_ALLOCATOR = {_TRIM_THRESHOLD: 128 * 1024, _MMAP_MAX: 65536}  # glibc's defaults


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Let only one process at a time convert in this working folder.

    During a conversion, MNN keeps weights there in a file of a fixed name. Two conversions at once would mix up their
    weights without an error.
    """
    folder = os.open(".", os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


@contextlib.contextmanager
def _one_heap() -> Iterator[None]:
    """Let glibc take large blocks from one heap inside the block, and release it at the end.

    By default glibc maps each large block anew, and the kernel clears its pages. That is three quarters of the time of
    a conversion of 50 MB.
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
        with printed([]):
            return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError("Measuring needs MNN and onnx: pip install 'latency-nas[mnn]'") from error


def engine_version() -> str:
    """The version of the installed MNN."""
    _import("MNN")
    return importlib.metadata.version("MNN")


def convert(network: OpGraph | Path, target: Path, *, seed: int = 0) -> Path:
    """Convert a graph (with random weights) or an ONNX file to MNN, inside this process.

    Raises:
        MeasureError: if the graph has an op that cannot be written, or MNN cannot convert the file.
    """
    tools = _import("_tools")
    with tempfile.TemporaryDirectory() as folder:
        source = network
        if not isinstance(source, Path):
            writer = _import("latency_nas.graph.onnx.writer")
            source = writer.save_onnx(source, Path(folder, "model.onnx"), seed=seed)
        argv = ["", "-f", "ONNX", "--modelFile", str(source), "--MNNModel", str(target), "--bizCode", "x"]
        seen: list[str] = []
        with printed(seen), _alone(), _one_heap():
            tools.mnnconvert(argv)
    if not target.is_file() or target.stat().st_size == 0:
        said = errors_in(seen)
        raise MeasureError(
            f"MNN {engine_version()} could not convert {source}{f', and prints: {said}' if said else ''}."
        )
    return target
