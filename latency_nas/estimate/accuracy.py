"""Accuracy of predictions, compared with measurements of the same networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from latency_nas.errors import TableError
from latency_nas.estimate.conformal import error_bound
from latency_nas.estimate.estimator import LatencyEstimator
from latency_nas.graph import OpGraph
from latency_nas.measure.device.confirm import confirm_device
from latency_nas.measure.device.runner import Runner, given_or_local
from latency_nas.measure.meter import measure_networks
from latency_nas.measure.repetition import Progress
from latency_nas.table import LatencyTable

__all__ = ["Accuracy", "check_table"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Predictions and measurements of the same networks.

    Args:
        predicted_ms: Prediction of each network.
        measured_ms: Measurement of each network, the mean of repeated ones.
        repeat_error: Mean absolute relative difference between two measurements of the same network; None if each was
            measured once.

    Example:
        >>> accuracy = Accuracy(predicted_ms=(1.0, 2.2, 3.0), measured_ms=(1.0, 2.0, 3.0))
        >>> print(accuracy)
        3.33% mean, 10.00% worst, +3.33% bias, Spearman 1.000 over 3 networks
    """

    predicted_ms: tuple[float, ...]
    measured_ms: tuple[float, ...]
    repeat_error: float | None = None

    def __post_init__(self) -> None:
        if len(self.predicted_ms) != len(self.measured_ms) or not self.predicted_ms:
            n_predicted, n_measured = len(self.predicted_ms), len(self.measured_ms)
            raise TableError(f"Expected a measurement for each of {n_predicted} predictions, but got {n_measured}.")

    def _relative(self) -> NDArray[np.float64]:
        return np.divide(self.predicted_ms, self.measured_ms, dtype=np.float64) - 1

    @property
    def mean_error(self) -> float:
        """Mean absolute error, relative to the measurement (0.02 is 2 %)."""
        return float(np.abs(self._relative()).mean())

    @property
    def worst_error(self) -> float:
        """Largest absolute error, relative to the measurement."""
        return float(np.abs(self._relative()).max())

    @property
    def bias(self) -> float:
        """Mean signed error, relative to the measurement."""
        return float(self._relative().mean())

    @property
    def spearman(self) -> float:
        """Spearman's rank correlation; NaN for fewer than three networks."""
        return (
            float(spearmanr(self.predicted_ms, self.measured_ms).statistic)
            if len(self.predicted_ms) > 2
            else float("nan")
        )

    def __str__(self) -> str:
        repeat = "" if self.repeat_error is None else f"; measuring again differs by {self.repeat_error:.2%}"
        return (
            f"{self.mean_error:.2%} mean, {self.worst_error:.2%} worst, {self.bias:+.2%} bias, "
            f"Spearman {self.spearman:.3f} over {len(self.predicted_ms)} networks{repeat}"
        )


def check_table(
    table: LatencyTable,
    networks: Sequence[OpGraph],
    *,
    rounds: int = 8,
    seed: int = 1,
    runner: Runner | None = None,
    other_device: bool = False,
    on_progress: Progress | None = None,
) -> tuple[LatencyTable, Accuracy]:
    """Compare a table with networks that were not metered for it, each measured twice on the table's device.

    Args:
        table: Table of the device at hand.
        networks: Graphs without open choices.
        rounds: Number of repetitions of each network in each of the two measurements.
        seed: Seed of the order.
        runner: Runner of the device at hand, with the table's engine; this machine by default.
        other_device: Whether the table may be of another device or engine; the datasheet then lists what differs.
        on_progress: Called after each repetition of both measurements.

    Returns:
        The same table with its expected error filled in, and the comparison.

    Raises:
        TableError: if the device or the engine at hand is not the table's, unless `other_device`.
        MissingKernelError: if the table does not cover the networks.
        MeasureError: as `measure_networks`.
    """
    sheet = table.datasheet
    halves: list[NDArray[np.float64]] = []
    with given_or_local(runner, sheet.engine) as device:
        deviations = confirm_device(table, device, doing="check", other_device=other_device)
        estimator = LatencyEstimator(table)
        predicted = tuple(estimator.predict(network).latency_ms for network in networks)
        for half in range(2):

            def progress(done: int, total: int, half: int = half) -> None:
                if on_progress:
                    on_progress(half * total + done, 2 * total)

            times, _ = measure_networks(
                networks, engine=sheet.engine, threads=sheet.threads or 1, precision=sheet.precision, rounds=rounds,
                seed=seed + half, yardstick_ms=sheet.yardstick_ms, runner=device, on_progress=progress,
            )  # fmt: skip
            halves.append(np.array([item.latency_ms for item in times]))
    measured = (halves[0] + halves[1]) / 2
    repeat = float(np.abs(halves[0] / halves[1] - 1).mean())
    accuracy = Accuracy(predicted_ms=predicted, measured_ms=tuple(measured.tolist()), repeat_error=repeat)
    checked = replace(
        sheet,
        expected_error=accuracy.mean_error,
        error_90=error_bound(np.array(predicted), measured),
        expected_error_method="; ".join((f"{len(networks)} networks that were not metered", *deviations)),
    )
    return LatencyTable(table.entries, checked, table.name), accuracy
