"""The final check: the network that was found, exported and measured, against its prediction and its target."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from latency_nas.engine.fusion import fuse
from latency_nas.engine.mnn.export import export_mnn
from latency_nas.engine.mnn.mnn_engine import MNNNetwork, check_ops, expected_ops
from latency_nas.estimate import Estimate, LatencyEstimator
from latency_nas.estimate.estimator import figure
from latency_nas.graph.torch.reader import read_torch
from latency_nas.measure.meter import Drift, NetworkTimes, measure_networks
from latency_nas.table import LatencyTable

__all__ = ["Verdict", "judge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A final network's latency: wanted, predicted, measured.

    Args:
        target_ms: what was asked for.
        estimate: the prediction.
        measured: the exported network on this machine.
        drift: of the session that measured it.
    """

    target_ms: float
    estimate: Estimate
    measured: NetworkTimes
    drift: Drift

    @property
    def off_target(self) -> float:
        """Measured over target, less one (0.02: 2 % too slow)."""
        return self.measured.latency_ms / self.target_ms - 1

    def __str__(self) -> str:
        return (
            f"target {self.target_ms:.3f} ms, "
            f"predicted {self.estimate.figure()}, "
            f"measured {figure(self.measured.latency_ms, self.measured.std_ms)} "
            f"({self.off_target:+.1%} of the target)"
        )


def judge(
    model: nn.Module, example_input: Tensor, table: LatencyTable, *, target_ms: float, mnn_file: Path, rounds: int = 16
) -> Verdict:
    """Export a final network, check that MNN runs the kernels that were priced, and measure it on this machine.

    The measurement is expressed at the machine speed at which the table was measured; `NetworkTimes.raw_ms` is what
    the clock said.

    Args:
        model: the network; in evaluation mode for the export, and unchanged afterwards.
        example_input: what its forward takes.
        table: measured on this machine.
        target_ms: what was asked for.
        mnn_file: where the exported network goes.
        rounds: visits.

    Raises:
        MeasureError: if it cannot be exported, or MNN runs other kernels than those that were priced.
    """
    sheet = table.datasheet
    graph = read_torch(model, example_input)
    estimate = LatencyEstimator(table).predict_graph(graph)
    export_mnn(model, example_input, mnn_file)
    threads = sheet.threads or 1
    executed = MNNNetwork(mnn_file, threads=threads, precision=sheet.precision).executed_ops()
    check_ops(executed, expected_ops(fuse(graph, sheet.engine_and_dialect)), mnn_file)
    (measured,), drift = measure_networks(
        [mnn_file], threads=threads, precision=sheet.precision, rounds=rounds, yardstick_ms=sheet.yardstick_ms
    )
    return Verdict(target_ms=target_ms, estimate=estimate, measured=measured, drift=drift)
