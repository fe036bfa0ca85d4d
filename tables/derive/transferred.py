"""Rows of phones for ops that compute, of which no source has times: derived from what MNN takes on an x86-64.

There, an op's law a + b x bytes has a slope b that is some multiple of an addition's. The same multiple of the phone's
slope for additions, with the phone's own a, gives the op's rows. How wrong this may be is known from ops that both
machines have times of: the RK3288 of `derive.source` takes 1.5 times as long for a hard swish as such a row would say,
and 7 times as long for a sigmoid or a swish, whose exponentials it computes one by one and an x86-64 eight at once.
Most of the ops here are computed one by one on both. The root mean square of these errors' logarithms is the standard
deviation of each row, relative to its latency.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from derive.computing import bounded, looked_up, of_positives
from derive.source import RK3288, Law, fit_law
from latency_nas.kernel import Kernel, n_bytes
from latency_nas.table import Entry, LatencyTable, import_paddleslim

__all__ = ["deviation", "with_computing_ops"]

_BASE = "add"
_KNOWN = ("hard_swish", "sigmoid", "swish")
_OF_LAW = frozenset({"exp", "tanh"})  # phones have rows of these, by the law of exponentials
_DIGITS = 4
_NOTE = (
    "Ops that compute and that no source has (powers, roots, logarithms, sines, selections, lookups, sums, the "
    "largest) are multiples of additions as measured on an x86-64, each uncertain by its own standard deviation."
)


def _laws(table: LatencyTable) -> dict[tuple[str, str], Law]:
    """The law of each op and type of a table's rows."""
    rows: dict[tuple[str, str], list[tuple[Kernel, float]]] = defaultdict(list)
    wanted = {kernel.op for kernel in _kernels()} | {_BASE, *_KNOWN}
    for kernel, entry in table.items():
        if kernel.op in wanted:
            rows[kernel.op, kernel.dtype].append((_touched(kernel), entry.latency_ms))
    return {key: fit_law(*map(list, zip(*found, strict=True))) for key, found in rows.items()}  # type: ignore[arg-type]


def _touched(kernel: Kernel) -> Kernel:
    """A kernel with the bytes that are touched: of what a lookup reads from, only as many elements as it gives."""
    return Kernel.of("index", kernel.outputs, kernel.outputs) if kernel.op == "index" else kernel


def _kernels() -> Iterable[Kernel]:
    return [kernel for kernel in (*bounded(), *of_positives(), *looked_up()) if kernel.op not in _OF_LAW]


def _multiples(laws: Mapping[tuple[str, str], Law]) -> dict[tuple[str, str], float]:
    """The slope of each op, as a multiple of an addition's."""
    return {key: slope / laws[_BASE, "fp32"][1] for key, (_, slope) in laws.items()}


def deviation(folder: Path, measured: LatencyTable) -> float:
    """The relative standard deviation of rows that are derived so, from the ops that both machines have.

    Args:
        folder: Folder with ``paddleslim_optables``.
        measured: Table of the x86-64.
    """
    other, _ = import_paddleslim(folder / RK3288)
    there, here = _multiples(_laws(other)), _multiples(_laws(measured))
    errors = [np.log(there[op, "fp32"] / here[op, "fp32"]) for op in _KNOWN]
    return round(float(np.sqrt(np.mean(np.square(errors)))), 2)


def with_computing_ops(phone: LatencyTable, measured: LatencyTable, relative_std: float) -> LatencyTable:
    """The table of a phone with rows of ops that compute; those that it has by a law of memory are replaced.

    Args:
        phone: Derived table.
        measured: Table of the x86-64.
        relative_std: Standard deviation of a row, relative to its latency.
    """
    multiples, (start, slope) = _multiples(_laws(measured)), _laws(phone)[_BASE, "fp32"]
    more = [phone.stored(kernel) for kernel in _kernels()]
    more += [kernel for kernel in phone if (kernel.op, kernel.dtype) in {(k.op, k.dtype) for k in more}]
    entries = dict(phone.entries)
    for kernel in more:
        latency_ms = start + multiples[kernel.op, kernel.dtype] * slope * n_bytes(_touched(kernel))
        rounded = float(f"{latency_ms:.{_DIGITS}g}")
        entries[kernel.key] = Entry(latency_ms=rounded, std_ms=float(f"{relative_std * rounded:.{_DIGITS}g}"))
    sources = (*phone.datasheet.sources, "x86-mnn: ops that compute, relative to additions")
    sheet = replace(phone.datasheet, sources=sources, notes=f"{phone.datasheet.notes} {_NOTE}")
    return LatencyTable(entries, sheet, phone.name)
