"""A network in MNN inside this process, by the engine's own device side."""

from __future__ import annotations

from pathlib import Path

from latency_nas.engine.engine import ExecutedOp, described_ops
from latency_nas.engine.mnn.device_side import Network
from latency_nas.engine.mnn.lowering import kernels_of
from latency_nas.engine.mnn.session import traced
from latency_nas.graph.mnn.model_file import read_mnn_file
from latency_nas.kernel import Kernel


def executed_ops(path: Path, precision: str = "fp32") -> list[ExecutedOp]:
    """Every op of one run, in order."""
    return described_ops(Network(str(path), precision=precision).executed())


def lowered(path: Path) -> list[Kernel]:
    """The kernels in MNN's own word, as `lower_mnn` has them, but in this process."""
    network = Network(str(path))
    ops = traced(network.tensors(), network.input_addresses)
    return [call.kernel for call in kernels_of(read_mnn_file(path), ops)]
