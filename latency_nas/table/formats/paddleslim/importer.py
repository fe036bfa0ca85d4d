"""Imports the latency tables of PaddleSlim's TableLatencyPredictor: pickles of Paddle-Lite op keys and milliseconds.

The report gives a reason for each key that could not be used.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path

import numpy as np

from latency_nas.errors import KernelError, TableError, TableFileError, short_repr
from latency_nas.kernel import Kernel, n_flops, n_macs
from latency_nas.table.datasheet import Datasheet
from latency_nas.table.formats.blocks.tf_nas import recognises_tf_nas
from latency_nas.table.formats.content import is_pickle
from latency_nas.table.formats.format import ImportReport
from latency_nas.table.formats.paddleslim.keys import parse_paddleslim_key
from latency_nas.table.formats.plain_pickle import load_plain_pickle
from latency_nas.table.latency_table import Entry, LatencyTable
from latency_nas.table.plausibility import check_plausible, check_unit

__all__ = ["POWER_MODES", "UNRECORDED", "import_paddleslim", "recognises_paddleslim"]

_FILE_NAME = re.compile(
    r"(?P<hw>.+?)_threads_(?P<threads>\d+)_power_mode_(?P<power>\d+)(?:_batchsize_(?P<batch>\d+))?\.pkl"
)
POWER_MODES = ("HIGH", "LOW", "FULL", "NO_BIND", "RAND_HIGH", "RAND_LOW")  # Paddle-Lite's enum, in its order

_IMPOSSIBLE = 10.0  # bound, as a multiple of the 95 % quantile of the rates of a table's convolutions and products

# Attributes that keys do not have: activation and bias of a convolution, rounding of a pool, axis of a softmax.
UNRECORDED = (
    "conv2d.act", "conv2d.bias", "conv_transpose2d.act", "conv_transpose2d.bias", "conv_transpose2d.output_pad",
    "linear.act", "linear.bias", "pool2d.ceil", "softmax.axis",
)  # fmt: skip
_NOTES = "Paddings that differ by side stand in the source as one number and are taken as equal."


def recognises_paddleslim(head: bytes, path: Path) -> bool:
    """Whether the file is a pickle, except one of MMT's or TF-NAS's. Its content is checked when it is read."""
    return is_pickle(head, path.suffix) and b"ops_meta" not in head and not recognises_tf_nas(head, path)


def import_paddleslim(path: str | os.PathLike[str]) -> tuple[LatencyTable, ImportReport]:
    """Import a table of PaddleSlim's, ``{HW}_threads_{T}_power_mode_{P}.pkl``, without running anything in it.

    Device, threads and power mode are only in the file's name. If the file has another name, they are unstated.

    Args:
        path: Pickle to read.

    Returns:
        The table, marked as imported, and a report on its keys.

    Raises:
        UnsafePickleError: if the pickle holds more than plain data.
        TableFileError: if it is not a dict of texts and positive numbers, or no key can be used.
    """
    source = Path(path)
    data = load_plain_pickle(source)
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise TableFileError(
            f"Expected {source} to hold a dict of op keys and milliseconds, but got {type(data).__name__}."
        )
    try:
        datasheet = _datasheet(source.name)
    except TableError as error:
        raise TableFileError(f"Expected the name of {source} to state how it was measured: {error}") from error
    keys: dict[Kernel, list[str]] = {}
    skipped: dict[str, str] = {}
    rows: dict[str, Entry] = {}
    for key, latency_ms in data.items():
        try:
            rows[key] = Entry(latency_ms=latency_ms)
            keys.setdefault(parse_paddleslim_key(key), []).append(key)
        except KernelError as error:
            skipped[key] = str(error)
        except TableError:
            skipped[key] = f"its latency is {short_repr(latency_ms)}"
    implausible = _implausible(keys, rows, datasheet)
    first = {kernel: implausible[names[0]] for kernel, names in keys.items() if names[0] in implausible}
    check_unit(str(source), keys, first)
    skipped |= implausible | _impossible(keys, rows)
    keys = {
        kernel: sound for kernel, names in keys.items() if (sound := [name for name in names if name not in skipped])
    }
    if not keys:
        raise TableFileError(f"Expected op keys of PaddleSlim in {source}, but none of {len(data)} can be used.")
    entries = {kernel: rows[min(names, key=lambda name: "(-1" in name)] for kernel, names in keys.items()}
    merged = {kernel.key: tuple(names) for kernel, names in keys.items() if len(names) > 1}
    report = ImportReport(n_keys=len(data), n_used=len(data) - len(skipped), merged=merged, skipped=skipped)
    return LatencyTable.of(entries, datasheet, name=str(source)), report


def _implausible(keys: Mapping[Kernel, Sequence[str]], rows: Mapping[str, Entry], sheet: Datasheet) -> dict[str, str]:
    """Keys whose times are impossible for any processor, since they are in another unit."""
    found: dict[str, str] = {}
    for kernel, names in keys.items():
        for name in names:
            try:
                check_plausible(kernel, rows[name].latency_ms, sheet)
            except TableError as error:
                found[name] = str(error)
    return found


def _impossible(keys: Mapping[Kernel, Sequence[str]], rows: Mapping[str, Entry]) -> dict[str, str]:
    """Keys that have another op's time: their arithmetic would be far faster than that of the rest of the table.

    PaddleSlim's builder assigns times from a log by their order. In its own RK3288 table, some networks are misaligned.
    """
    rates = {
        name: n_flops(kernel) / rows[name].latency_ms / 1e6
        for kernel, names in keys.items()
        if n_macs(kernel)
        for name in names
    }
    finite = [rate for rate in rates.values() if isfinite(rate)]
    bound = _IMPOSSIBLE * float(np.quantile(finite, 0.95)) if finite else 0.0
    return {
        name: f"{rows[name].latency_ms:.4g} ms for it would be {rate:.0f} GFLOP/s, which the device cannot reach"
        for name, rate in rates.items()
        if not rate <= bound
    }


def _datasheet(file_name: str) -> Datasheet:
    match = _FILE_NAME.fullmatch(file_name)
    power = int(match["power"]) if match else -1
    return Datasheet(
        device=match["hw"].upper() if match else f"not stated ({file_name})",
        engine="Paddle-Lite",
        dialect="2.11",  # PaddleSlim's keys follow this build
        method="imported",
        threads=int(match["threads"]) if match else None,
        power_mode=POWER_MODES[power] if 0 <= power < len(POWER_MODES) else "",
        batch=int(match["batch"] or 1) if match else 1,
        statistic="mean",
        sources=(f"PaddleSlim TableLatencyPredictor, {file_name}",),
        unrecorded=UNRECORDED,
        notes=_NOTES,
    )
