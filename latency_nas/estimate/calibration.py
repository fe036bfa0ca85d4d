"""Calibration: from a handful of whole networks, a table for another device, thread count or engine version.

A network's price is the sum over classes of kernels of what the source table says, each class times its scale:
log T_n = log(sum_c exp(a + d_c) t_nc) + error. The common scale `a` is free; the classes' deviations d_c are drawn to
0, the source, by the penalty (d_c / strength)^2; errors count by Huber's loss, so that one mismeasured network does not
turn the table. The strength is that with the smallest leave-one-network-out error; 0 of fewer than five networks, which
is one scale for all.

References:
    P. J. Huber, "Robust estimation of a location parameter", Annals of Mathematical Statistics 35 (1964), 73-101.
    A. E. Hoerl, R. W. Kennard, "Ridge regression: biased estimation for nonorthogonal problems", Technometrics 12
    (1970), 55-67, eq. 2.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latency_nas.errors import TableError
from latency_nas.estimate.conformal import error_bound
from latency_nas.estimate.estimator import Estimate, LatencyEstimator
from latency_nas.kernel import Kernel
from latency_nas.kernel.kernel_call import KernelCall
from latency_nas.table import Datasheet, Entry, LatencyTable

__all__ = [
    "CLASSES",
    "Calibration",
    "NetworkTime",
    "calibrate",
    "choose_strength",
    "class_parts",
    "fit_scales",
    "kernel_class",
    "leave_one_out",
]

CLASSES = ("pointwise", "3x3", "convolution", "depthwise", "product", "exponential", "memory")
_PRODUCTS = frozenset({"linear", "matmul"})
_EXPONENTIALS = frozenset(
    {"swish", "sigmoid", "softmax", "log_softmax", "gelu", "tanh", "mish", "softplus", "exp", "erf"}
)
_STRENGTHS = (0.0, 0.05, 0.1, 0.2, 0.4)
_LEAST_NETWORKS = 5  # for scales of their own
_NOISE = 0.04  # relative standard deviation of a published or well-measured time
_HUBER = 1.345 * _NOISE  # 95 % efficient under normal errors
_STEPS = 12

_Array = NDArray[np.float64]


def kernel_class(kernel: Kernel) -> str:
    """Which of `CLASSES` a kernel belongs to: the work of a class runs in one piece of an engine's code.

    Example:
        >>> kernel_class(Kernel.of("relu", [(1, 8)], [(1, 8)]))
        'memory'
    """
    if kernel.family == "depthwise_conv2d":
        return "depthwise"
    if kernel.op.startswith("conv"):
        size = kernel.attributes.get("kernel")
        if kernel.op == "conv2d" and size == (1, 1):
            return "pointwise"
        winograd = kernel.op == "conv2d" and size == (3, 3) and kernel.attributes["stride"] == (1, 1)
        return "3x3" if winograd else "convolution"
    if kernel.op in _PRODUCTS:
        return "product"
    return "exponential" if kernel.op in _EXPONENTIALS else "memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkTime:
    """A network, and how long it ran on the device that a table is wanted of.

    Args:
        name: what reports call it.
        kernels: what the source table's engine runs for it.
        latency_ms: the whole network's time.
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
    """How a calibration went.

    Args:
        names: of the networks.
        measured_ms: their times.
        left_out_ms: what was predicted of each when it was left out; empty of a single network.
        scales: class of kernels -> what the source's prices were multiplied by; of classes that were met.
        strength: how freely classes deviate: the standard deviation of the logarithm of their scales.
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
        """Mean absolute relative error of networks left out; None of a single network."""
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


def fit_scales(parts_ms: _Array, measured_ms: _Array, strength: float, start: _Array | None = None) -> _Array:
    """The scale of each class, by Gauss-Newton steps on the penalised Huber loss.

    Args:
        parts_ms: the source's price of each class in each network, of shape ``(networks, classes)``.
        measured_ms: of shape ``(networks,)``.
        strength: standard deviation of the logarithm of the classes' scales about their common one; 0 for one scale.
        start: logarithms to begin at, of shape ``(1 + classes,)``: of the common scale, and of the deviations.

    Returns:
        Logarithms of the common scale and of the deviations, of shape ``(1 + classes,)``.
    """
    n_classes = parts_ms.shape[1]
    logs = np.zeros(1 + n_classes) if start is None else start
    if start is None:
        logs[0] = np.median(np.log(measured_ms / parts_ms.sum(axis=1)))
    free = 1 + n_classes if strength > 0 else 1
    penalty = np.array([0.0, *[(_NOISE / strength) ** 2 if strength > 0 else 0.0] * n_classes])[:free]
    for _ in range(_STEPS):
        scaled = parts_ms * np.exp(logs[0] + logs[1:])
        total = scaled.sum(axis=1)
        residual = np.log(measured_ms / total)
        weight = np.minimum(1.0, _HUBER / np.maximum(np.abs(residual), 1e-12))
        slope = np.column_stack([np.ones_like(total), scaled / total[:, None]])[:, :free]
        gradient = slope.T @ (weight * residual) - penalty * logs[:free]
        step = np.linalg.solve((slope.T * weight) @ slope + np.diag(penalty + 1e-12), gradient)
        logs = logs.copy()
        logs[:free] += step
        if np.abs(step).max() < 1e-9:
            break
    return logs


def _predict(parts_ms: _Array, logs: _Array) -> _Array:
    return np.asarray(parts_ms @ np.exp(logs[0] + logs[1:]))


def _left_out(parts_ms: _Array, measured_ms: _Array, strength: float) -> _Array:
    """Each network's price by scales fitted to the others."""
    start = fit_scales(parts_ms, measured_ms, strength)
    rows = np.arange(len(measured_ms))
    return np.array([
        _predict(parts_ms[row], fit_scales(parts_ms[rows != row], measured_ms[rows != row], strength, start))
        for row in rows
    ])  # fmt: skip


def choose_strength(parts_ms: _Array, measured_ms: _Array) -> float:
    """The strength of the smallest leave-one-network-out error; 0 of fewer than five networks.

    Args:
        parts_ms: the source's price of each class in each network, of shape ``(networks, classes)``.
        measured_ms: of shape ``(networks,)``.
    """
    if len(measured_ms) < _LEAST_NETWORKS:
        return 0.0

    def error(strength: float) -> float:
        return float(np.abs(np.log(_left_out(parts_ms, measured_ms, strength) / measured_ms)).mean())

    return min(_STRENGTHS, key=error)


def leave_one_out(parts_ms: _Array, measured_ms: _Array) -> _Array:
    """Each network's price when nothing of it was used, neither for the scales nor to choose their strength.

    Args:
        parts_ms: the source's price of each class in each network, of shape ``(networks, classes)``.
        measured_ms: of shape ``(networks,)``; two networks or more.

    Returns:
        Milliseconds, of shape ``(networks,)``.
    """
    predicted = []
    for row in range(len(measured_ms)):
        others = np.arange(len(measured_ms)) != row
        strength = choose_strength(parts_ms[others], measured_ms[others])
        predicted.append(_predict(parts_ms[row], fit_scales(parts_ms[others], measured_ms[others], strength)))
    return np.array(predicted)


def class_parts(estimator: LatencyEstimator, kernels: Sequence[KernelCall]) -> _Array:
    """What each class of kernels costs in a network, in milliseconds, of shape ``(classes,)``."""
    return _by_class(estimator.price(kernels))


def _by_class(estimate: Estimate) -> _Array:
    parts = np.zeros(len(CLASSES))
    for item in estimate.kernels:
        parts[CLASSES.index(kernel_class(item.kernel))] += item.latency_ms
    return parts


def calibrate(
    source: LatencyTable | LatencyEstimator, measurements: Sequence[NetworkTime], **datasheet: object
) -> tuple[LatencyTable, Calibration]:
    """A table for the device on which `measurements` were taken, from a table of another.

    Args:
        source: the table, or an estimator of it; kernels that it lacks are regressed.
        measurements: one network or more; five to ten let classes of kernels have scales of their own.
        datasheet: fields of the result's datasheet that differ from the source's: ``device``, ``threads``, ...

    Returns:
        A table marked derived, of the source's kernels and the networks' own, with its expected error; and how the
        calibration went.

    Raises:
        TableError: if there is no measurement, two share a name, or a field of the datasheet is wrong.
        MissingKernelError: if a kernel cannot be priced.

    Example:
        >>> from latency_nas.table import Datasheet
        >>> relu = Kernel.of("relu", [(1, 8, 4, 4)], [(1, 8, 4, 4)])
        >>> sheet = Datasheet(device="Example board", engine="MNN", method="measured")
        >>> table = LatencyTable.of({relu: Entry(latency_ms=0.5)}, sheet)
        >>> run = NetworkTime(name="one", kernels=(KernelCall(kernel=relu, layer="", nodes=()),), latency_ms=2.0)
        >>> calibrate(table, [run], device="Slow board")[0][relu].latency_ms
        2.0
    """
    names = tuple(item.name for item in measurements)
    if not names or len(set(names)) < len(names):
        raise TableError(
            f"Expected measurements of one network or more, each once, but got {', '.join(names) or 'none'}."
        )
    estimator = source if isinstance(source, LatencyEstimator) else LatencyEstimator(source, on_missing="regress")
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
        scales={name: factors[name] for name, met in zip(CLASSES, parts_ms.sum(axis=0).tolist(), strict=True) if met},
    )  # fmt: skip
    return _scaled(estimator.table, prices, factors, _datasheet(estimator.table, result, datasheet)), result


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
    """The source's rows and the networks' kernels, each times the scale of its class; times of no samples."""
    rows: dict[str, Entry] = {}
    for kernel, entry in source.items():
        factor = factors[kernel_class(kernel)]
        std_ms = None if entry.std_ms is None else entry.std_ms * factor
        rows[kernel.key] = Entry(latency_ms=entry.latency_ms * factor, std_ms=std_ms)
    for kernel, price_ms in prices.items():
        if kernel not in source and price_ms > 0:
            rows[source.stored(kernel).key] = Entry(latency_ms=price_ms * factors[kernel_class(kernel)])
    return LatencyTable(rows, sheet, f"{source.name}, calibrated")
