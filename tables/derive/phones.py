"""The named tables: the source and the times that each is calibrated with, and its errors on left-out networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from derive.networks import NETWORKS, kernels
from derive.page import Scores
from derive.published import clas_times, joined, lite_times
from derive.source import source_table
from latency_nas.estimate import LatencyEstimator
from latency_nas.estimate.calibration import NetworkTime, calibrate, class_parts
from latency_nas.estimate.class_scales import CLASSES, choose_strength, fit_scales
from latency_nas.estimate.conformal import error_bound
from latency_nas.kernel import Kernel
from latency_nas.table import Entry, LatencyTable

__all__ = ["PHONES", "Phone", "Times", "build", "left_out_ms", "own_source", "parts_of"]

_Array = NDArray[np.float64]
Times = dict[str, float]
_THIN = 4  # a calibrated table has one of this many sampled convolutions, so that loading and fitting it takes seconds
_DIGITS = 4  # significant digits of a latency
_LITE = "Paddle-Lite (30fe065b to develop), docs/benchmark, docs/performance, docs/demo_guides: times of networks"
_CLAS = "PaddleClas (d178931f), docs/zh_CN/models/ImageNet1k: times of networks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Phone:
    """A table to derive.

    Args:
        source: Name of the table that is calibrated; None for that of the SD710.
        times: Function of the folder with the data that gives the published times.
        device, version, power_mode: Fields of the datasheet.
        origin: Sources of the times.
    """

    source: str | None
    times: Callable[[Path], Times]
    device: str
    version: str
    power_mode: str
    origin: tuple[str, ...] = (_LITE,)


def _lite(soc: str, threads: int, *versions: str) -> Callable[[Path], Times]:
    return partial(lite_times, soc=soc, threads=threads, versions=versions)


def _clas_first(threads: int, *versions: str) -> Callable[[Path], Times]:
    """PaddleClas's times, completed by those of Paddle-Lite's documents for other networks."""
    return lambda folder: joined(clas_times(folder, threads), _lite("SD855", threads, *versions)(folder))


# Phones with the same kind of cores form a chain, each the source of the next: an SD865's cores are faster SD835's.
PHONES: dict[str, Phone] = {
    "SD835/threads=1": Phone(
        source=None, times=_lite("SD835", 1, "2.13-rc", "2.9", "2.11"), device="Snapdragon 835 phone",
        version="2.13-rc", power_mode="big core bound",
    ),
    "SD865/threads=1": Phone(
        source="SD835/threads=1", times=_lite("SD865", 1, "2.13-rc", "2.11"), device="Xiaomi MI10 (Snapdragon 865)",
        version="2.13-rc", power_mode="big core bound",
    ),
    "SD625/threads=1": Phone(
        source=None, times=_lite("SD625", 1, "2.13-rc", "2.11"), device="Snapdragon 625 phone", version="2.13-rc",
        power_mode="big core bound",
    ),
    "SD855/threads=1": Phone(
        source="SD835/threads=1", times=_clas_first(1, "2.9", "2.11"), device="Snapdragon 855 phone",
        version="about 2.9", power_mode="HIGH", origin=(_CLAS, _LITE),
    ),
    **{
        f"SD855/threads={n}": Phone(
            source=f"SD855/threads={n // 2}", times=_clas_first(n, "2.9"), device="Snapdragon 855 phone",
            version="about 2.9", power_mode="NO_BIND", origin=(_CLAS, _LITE),
        )
        for n in (2, 4)
    },
    "SD845/threads=1": Phone(
        source="SD855/threads=1", times=_lite("SD845", 1, "2.11", "2.9"), device="Snapdragon 845 phone", version="2.11",
        power_mode="HIGH",
    ),
    **{
        f"SD845/threads={n}": Phone(
            source=f"SD855/threads={n}", times=_lite("SD845", n, "2.9"), device="Snapdragon 845 phone", version="2.9",
            power_mode="NO_BIND",
        )
        for n in (2, 4)
    },
}  # fmt: skip


def own_source(folder: Path) -> LatencyTable:
    """The SD710's table: `source_table`, with regressed rows for the published networks' other kernels."""
    calls = [call for name in NETWORKS for call in kernels(name)]
    source = source_table(folder, {call.kernel for call in calls})
    prices = LatencyEstimator(source, on_missing="regress").price(calls).kernels
    rows = {source.stored(item.kernel): item.latency_ms for item in prices}
    rows |= {kernel: entry.latency_ms for kernel, entry in source.items()}
    return _table(rows, replace(source, name="SD710/threads=4"))


def _table(rows: dict[Kernel, float], like: LatencyTable) -> LatencyTable:
    entries = {k: Entry(latency_ms=float(f"{rows[k]:.{_DIGITS}g}")) for k in sorted(rows, key=lambda k: k.key)}
    return LatencyTable.of(entries, like.datasheet, name=like.name)


def parts_of(source: LatencyTable) -> dict[str, _Array]:
    """The latency of each class of kernels in each published network, by the source table."""
    estimator = LatencyEstimator(source, on_missing="regress")
    return {name: class_parts(estimator, kernels(name)) for name in NETWORKS}


def _scales(phone: str | None, times: dict[str, Times], parts: dict[str, _Array], without: str) -> _Array:
    """The logarithm of each class's scale from the SD710 to a phone, by all networks except one: ``(classes,)``."""
    if phone is None:
        return np.zeros(len(CLASSES))
    before = _scales(PHONES[phone].source, times, parts, without)
    names = [name for name in times[phone] if name != without]
    x, y = np.array([parts[name] for name in names]) * np.exp(before), np.array([times[phone][name] for name in names])
    logs = fit_scales(x, y, choose_strength(x, y))
    return before + logs[0] + logs[1:]


def left_out_ms(phone: str, times: dict[str, Times], parts: dict[str, _Array]) -> Times:
    """The predicted time of each network of a phone, without any time of this network on the phone or its sources."""
    return {name: float(parts[name] @ np.exp(_scales(phone, times, parts, name))) for name in times[phone]}


def _thinned(table: LatencyTable) -> LatencyTable:
    """A table with every `_THIN`-th convolution, all kernels of the published networks, and all other rows."""
    wanted = {table.stored(call.kernel).key for name in NETWORKS for call in kernels(name)}
    of_samples = [key for key in table.entries if key.startswith("conv2d ") and key not in wanted]
    dropped = set(of_samples) - set(of_samples[::_THIN])
    rows = {key: entry for key, entry in table.entries.items() if key not in dropped}
    return LatencyTable(rows, table.datasheet, table.name)


def one_scale_ms(times: Times, parts: dict[str, _Array]) -> Times:
    """As `left_out_ms`, but with a single scale for the SD710's table."""
    ratios = {name: time_ms / parts[name].sum() for name, time_ms in times.items()}
    return {
        name: float(parts[name].sum() * np.median([ratio for other, ratio in ratios.items() if other != name]))
        for name in times
    }


def build(folder: Path) -> tuple[dict[str, LatencyTable], Scores]:
    """All tables by name, and the scores for `write_page`."""
    source = own_source(folder)
    parts, times = parts_of(source), {name: phone.times(folder) for name, phone in PHONES.items()}
    predicted = {name: left_out_ms(name, times, parts) for name in PHONES}
    tables = {"SD710/threads=4": _named_sd710(source)}
    thin = _thinned(source)
    for name, phone in PHONES.items():
        runs = [NetworkTime(name=n, kernels=kernels(n), latency_ms=t) for n, t in times[name].items()]
        errors = [abs(predicted[name][n] / t - 1) for n, t in times[name].items()]
        table, _ = calibrate(
            tables[phone.source] if phone.source else thin, runs, other_device=True, device=phone.device,
            soc=name.partition("/")[0],
            threads=int(name.partition("=")[2]), engine_version=phone.version, power_mode=phone.power_mode,
            expected_error=round(float(np.mean(errors)), 6),
            expected_error_method=f"{len(runs)} published networks, each left out",
            error_90=round(error_bound(*np.array([(predicted[name][n], t) for n, t in times[name].items()]).T), 6),
            sources=(*source.datasheet.sources, *phone.origin), notes=_NOTES,
        )  # fmt: skip
        tables[name] = _table({k: e.latency_ms for k, e in table.items()}, replace(table, name=name))
    scores = {}
    for name, runs in times.items():
        one = one_scale_ms(runs, parts)
        scores[name] = {n: (t, predicted[name][n], one[n]) for n, t in runs.items()}
    return tables, scores


def _named_sd710(source: LatencyTable) -> LatencyTable:
    sheet = replace(source.datasheet, method="derived", statistic="", notes=_NOTES)
    return LatencyTable(source.entries, sheet, source.name)


_NOTES = (
    "Kernels are as opt of Paddle-Lite 2.11 names them. Convolutions and pools are samples of an SD710 with 4 threads "
    "(which phone is inferred, not stated), other operators laws of an RK3288, both scaled by the class of kernel to "
    "the published times of networks. No kernel was measured on this device."
)
