"""Calibration: from a handful of whole networks, a table for another device, thread count or engine version.

The fit itself is in `latency_nas.estimate.class_scales`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from latency_nas.engine import title_of
from latency_nas.errors import TableError
from latency_nas.estimate.class_scales import CLASSES, choose_strength, fit_scales, kernel_class, leave_one_out
from latency_nas.estimate.conformal import error_bound
from latency_nas.estimate.estimate import Estimate
from latency_nas.estimate.estimator import LatencyEstimator
from latency_nas.kernel import Kernel
from latency_nas.kernel.kernel_call import KernelCall
from latency_nas.table import Datasheet, Entry, LatencyTable

__all__ = ["Calibration", "NetworkTime", "calibrate", "class_parts"]

_Array = NDArray[np.float64]
_IDENTITY = ("device", "soc", "architecture", "engine")  # fields of a datasheet that identify the device and the engine


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkTime:
    """A network and its time on the device for which a table is wanted.

    Args:
        name: Name in reports.
        kernels: Kernels that the source table's engine runs for it.
        latency_ms: Time of the whole network.
    """

    name: str
    kernels: tuple[KernelCall, ...]
    latency_ms: float

    def __post_init__(self) -> None:
        if not self.kernels:
            raise TableError(f"Expected the network `{self.name}` to have kernels, but it has none.")
        if not 0 < self.latency_ms < float("inf"):
            raise TableError(
                f"Expected the time of `{self.name}` to be a positive number of milliseconds, "
                f"but got {self.latency_ms}."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The result of a calibration.

    Args:
        names: Names of the networks.
        measured_ms: Time of each network.
        left_out_ms: Prediction of each network when it was left out of the fit; empty for a single network.
        scales: Class of kernels -> factor of the source's prices, for classes that the networks have.
        strength: Standard deviation of the logarithm of the classes' scales: how freely classes deviate.
    """

    names: tuple[str, ...]
    measured_ms: tuple[float, ...]
    left_out_ms: tuple[float, ...]
    scales: dict[str, float]
    strength: float

    @property
    def errors(self) -> dict[str, float]:
        """Each left-out network's relative error."""
        pairs = zip(self.names, self.left_out_ms, self.measured_ms, strict=False)
        return {name: predicted / measured - 1 for name, predicted, measured in pairs}

    @property
    def mean_error(self) -> float | None:
        """Mean absolute relative error of networks that were left out; None for a single network."""
        return float(np.mean(np.abs(list(self.errors.values())))) if self.left_out_ms else None

    def __str__(self) -> str:
        scales = ", ".join(f"{name} x {scale:.3g}" for name, scale in self.scales.items())
        if self.mean_error is None:
            return f"one network; its error elsewhere is not known. {scales}"
        worst = max(self.errors, key=lambda name: abs(self.errors[name]))
        return (
            f"{self.mean_error:.1%} mean error of {len(self.names)} networks, each left out; worst "
            f"{self.errors[worst]:+.1%} ({worst}). {scales}"
        )


def class_parts(estimator: LatencyEstimator, kernels: Sequence[KernelCall]) -> _Array:
    """The price of each class of kernels in a network, in milliseconds, of shape ``(classes,)``."""
    return _by_class(estimator.price(kernels))


def _by_class(estimate: Estimate) -> _Array:
    parts = np.zeros(len(CLASSES))
    for item in estimate.kernels:
        parts[CLASSES.index(kernel_class(item.kernel))] += item.latency_ms
    return parts


def calibrate(
    source: LatencyTable | LatencyEstimator,
    measurements: Sequence[NetworkTime],
    *,
    other_device: bool = False,
    **datasheet: object,
) -> tuple[LatencyTable, Calibration]:
    """A table for the conditions under which `measurements` were taken, from a table of other conditions.

    Args:
        source: Table, or an estimator with one; kernels that the table lacks are regressed.
        measurements: One network or more; five to ten let classes of kernels have scales of their own.
        other_device: Whether the networks may have run on another device or engine than the table is of. The kernels
            of the result stay those of the table's engine, and its notes list what differs.
        datasheet: Fields of the result's datasheet that differ from the source's: ``device``, ``threads``, ...

    Returns:
        A table marked as derived, with the kernels of the source and of the networks and with its expected error; and
        the result of the calibration. If the source carries fitted forms, the table does too, scaled class by class.

    Raises:
        TableError: if there is no measurement, two share a name, a field of the datasheet is wrong, or the device or
            the engine is another one, unless `other_device`.
        MissingKernelError: if a kernel cannot be priced.

    Example:
        >>> from latency_nas.table import Datasheet
        >>> relu = Kernel.of("relu", [(1, 8, 4, 4)], [(1, 8, 4, 4)])
        >>> sheet = Datasheet(device="Example board", engine="MNN", method="measured")
        >>> table = LatencyTable.of({relu: Entry(latency_ms=0.5)}, sheet)
        >>> run = NetworkTime(name="one", kernels=(KernelCall(kernel=relu, layer="", nodes=()),), latency_ms=2.0)
        >>> calibrate(table, [run], device="Slow board", other_device=True)[0][relu].latency_ms
        2.0
    """
    names = tuple(item.name for item in measurements)
    if not names or len(set(names)) < len(names):
        raise TableError(
            f"Expected measurements of one network or more, each once, but got {', '.join(names) or 'none'}."
        )
    estimator = source if isinstance(source, LatencyEstimator) else LatencyEstimator(source, on_missing="regress")
    fields = _fields(estimator.table, datasheet, other_device=other_device)
    estimates = [estimator.price(item.kernels) for item in measurements]
    parts_ms = np.array([_by_class(estimate) for estimate in estimates])
    prices = {item.kernel: item.latency_ms for estimate in estimates for item in estimate.kernels}
    measured_ms = np.array([item.latency_ms for item in measurements])
    strength = choose_strength(parts_ms, measured_ms)
    logs = fit_scales(parts_ms, measured_ms, strength)
    left_out = leave_one_out(parts_ms, measured_ms) if len(names) > 1 else np.empty(0)
    factors = dict(zip(CLASSES, np.exp(logs[0] + logs[1:]).tolist(), strict=True))
    result = Calibration(
        names=names, measured_ms=tuple(measured_ms.tolist()), left_out_ms=tuple(left_out.tolist()), strength=strength,
        scales={name: factors[name] for name, ms in zip(CLASSES, parts_ms.sum(axis=0).tolist(), strict=True) if ms},
    )  # fmt: skip
    table = _scaled(estimator.table, prices, factors, _datasheet(estimator.table, result, fields))
    if estimator.regressor.is_stored:  # the source's forms, scaled like its rows, instead of a new fit
        table = replace(table, fitted=estimator.regressor.to_bytes(table.fingerprint(), factors))
    return table, result


def _fields(source: LatencyTable, given: dict[str, object], *, other_device: bool) -> dict[str, object]:
    """The fields of the result's datasheet; those that describe the source's device are dropped if it is another.

    Raises:
        TableError: if another device or engine is given, and `other_device` is False.
    """
    sheet = source.datasheet
    if given.get("engine"):
        given = {**given, "engine": title_of(str(given["engine"]))}
    differ = {
        name: (getattr(sheet, name), given[name])
        for name in _IDENTITY
        if given.get(name) and str(given[name]).casefold() != str(getattr(sheet, name)).casefold()
    }
    differences = "; ".join(f"{name}: {mine or 'not known'} in the datasheet, {other} at hand"
                     for name, (mine, other) in differ.items())  # fmt: skip
    if differ and not other_device:
        raise TableError(
            f"Expected times of the device and the engine that the datasheet of {source.name} names, but they differ: "
            f"{differences}. Start from a table of that device, or pass other_device=True (--other-device at the "
            f"command line), and the result will say what differs."
        )
    if not differ:
        return given
    unknown = {"soc": "", "architecture": "", "power_mode": ""} if "device" in differ else {}
    notes = f"calibrated from another device or engine: {differences}"
    return {**unknown, "notes": notes, **given, "engine": sheet.engine}


def _datasheet(source: LatencyTable, result: Calibration, fields: dict[str, object]) -> Datasheet:
    sheet = source.datasheet
    known: dict[str, object] = {
        "method": "derived",
        "statistic": "",
        "yardstick_ms": None,
        "sources": (*sheet.sources, f"{sheet.device} ({sheet.method})", f"whole networks: {', '.join(result.names)}"),
        "expected_error": result.mean_error,
        "error_90": error_bound(np.array(result.left_out_ms), np.array(result.measured_ms[: len(result.left_out_ms)])),
        "expected_error_method": (
            f"{len(result.names)} networks, each left out" if result.left_out_ms else "not known: one network"
        ),
    }
    return Datasheet.from_dict({**sheet.to_dict(), **known, **fields})


def _scaled(
    source: LatencyTable, prices: dict[Kernel, float], factors: dict[str, float], sheet: Datasheet
) -> LatencyTable:
    """The source's rows and the networks' kernels, each times the scale of its class, without samples."""
    rows: dict[str, Entry] = {}
    for kernel, entry in source.items():
        factor = factors[kernel_class(kernel)]
        std_ms = None if entry.std_ms is None else entry.std_ms * factor
        rows[kernel.key] = Entry(latency_ms=entry.latency_ms * factor, std_ms=std_ms)
    for kernel, price_ms in prices.items():
        if kernel not in source and price_ms > 0:
            rows[source.stored(kernel).key] = Entry(latency_ms=price_ms * factors[kernel_class(kernel)])
    return LatencyTable(rows, sheet, f"{source.name}, calibrated")
