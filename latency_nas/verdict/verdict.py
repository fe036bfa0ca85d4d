"""`verify`: exports and measures the final network, and compares it with its prediction and its target."""

from __future__ import annotations

import os
from dataclasses import dataclass
from numbers import Real
from pathlib import Path

from torch import Tensor, nn

from latency_nas.engine import get_engine
from latency_nas.errors import SearchError
from latency_nas.estimate import Estimate, LatencyEstimator
from latency_nas.graph.torch.reader import read_torch
from latency_nas.kernel import LATENCY
from latency_nas.measure.device.confirm import confirm_device
from latency_nas.measure.device.runner import RepetitionOptions, Runner, given_or_local
from latency_nas.measure.meter import measure_networks
from latency_nas.measure.times import Drift, NetworkTimes
from latency_nas.table import LatencyTable, load_table

__all__ = ["Verdict", "verify"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A final network's latency: the target, the prediction, the measurement.

    Args:
        target_ms: Target of the search.
        estimate: Prediction by the table.
        measured: Times of the exported network.
        drift: Drift of the session that measured it.
        keeps_weights: Whether the exported network has the model's weights; if not, it has random ones.
        deviations: Differences between the device or engine at hand and the table's datasheet, as texts.
    """

    target_ms: float
    estimate: Estimate
    measured: NetworkTimes
    drift: Drift
    keeps_weights: bool = True
    deviations: tuple[str, ...] = ()

    @property
    def off_target(self) -> float:
        """Measured over target, minus one (0.02: 2 % too slow)."""
        return self.measured.latency_ms / self.target_ms - 1

    def __str__(self) -> str:
        return (
            f"target {self.target_ms:.3f} ms, "
            f"predicted {self.estimate.figure()}, "
            f"measured {LATENCY.figure(self.measured.latency_ms, self.measured.std_ms)} "
            f"({self.off_target:+.1%} of the target)"
            + ("" if self.keeps_weights else ", with random weights")
            + "".join(f"; {deviation}" for deviation in self.deviations)
        )


def verify(
    model: nn.Module,
    example_input: Tensor,
    table: LatencyTable | str | os.PathLike[str],
    *,
    target_ms: float,
    file: str | os.PathLike[str],
    rounds: int = 16,
    runner: Runner | None = None,
    other_device: bool = False,
) -> Verdict:
    """Export a final network, check that the engine runs the kernels that were priced, and measure it.

    The measurement is expressed at the machine speed at which the table was measured; `NetworkTimes.raw_ms` is the time
    that the clock showed.

    Args:
        model: Network; it is exported in evaluation mode, and unchanged afterwards.
        example_input: Input that its forward takes.
        table: Table of the device at hand, or what `load_table` takes.
        target_ms: Target of the search.
        file: Path of the exported network.
        rounds: Number of repetitions.
        runner: Runner of the device at hand, with the table's engine; this machine by default.
        other_device: Whether the table may be of another device or engine; the verdict then lists what differs.

    Raises:
        SearchError: if the target is not positive.
        TableError: if the device or the engine at hand is not the table's, unless `other_device`.
        MeasureError: if it cannot be exported, or the engine runs other kernels than those that were priced.
    """
    if not (isinstance(target_ms, Real) and target_ms > 0):
        raise SearchError(f"Expected `target_ms` to be a positive number of milliseconds, but got {target_ms!r}.")
    table = table if isinstance(table, LatencyTable) else load_table(table)
    engine, sheet, file = get_engine(table.datasheet.engine), table.datasheet, Path(file)
    with given_or_local(runner, engine) as device:
        deviations = confirm_device(table, device, doing="verify by", other_device=other_device)
        estimator, graph = LatencyEstimator(table), read_torch(model, example_input)
        calls = estimator.fuse(graph)
        engine.export(model, example_input, file)
        repetition = RepetitionOptions(threads=sheet.threads or 1, precision=sheet.precision, n_runs=1, profile=False)
        engine.check_ops(device.repeat(file, file, repetition, describe=True)["ops"], calls, file.stem)
        (measured,), drift = measure_networks(
            [file], engine=engine, threads=repetition.threads, precision=sheet.precision, rounds=rounds,
            yardstick_ms=sheet.yardstick_ms, runner=device,
        )  # fmt: skip
    return Verdict(
        target_ms=target_ms, estimate=estimator.price(calls), measured=measured, drift=drift,
        keeps_weights=engine.keeps_weights, deviations=deviations,
    )  # fmt: skip
