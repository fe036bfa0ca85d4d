"""A network in MNN inside this process, by the engine's own device side."""

from __future__ import annotations

from pathlib import Path

from latency_nas.engine.engine import ExecutedOp, described_ops
from latency_nas.engine.mnn.device_side import Network


def executed_ops(path: Path, precision: str = "fp32") -> list[ExecutedOp]:
    """Every op of one run, in order."""
    return described_ops(Network(str(path), precision=precision).executed())
