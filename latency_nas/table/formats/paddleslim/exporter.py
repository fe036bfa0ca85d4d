"""Writes a latency table as PaddleSlim's pickle, with every key by which PaddleSlim may look up a kernel."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path

from latency_nas.errors import KernelError, TableError
from latency_nas.table.formats.format import ExportReport
from latency_nas.table.formats.paddleslim.importer import POWER_MODES
from latency_nas.table.formats.paddleslim.spelling import paddleslim_keys
from latency_nas.table.formats.paddleslim.templates import Dialect
from latency_nas.table.latency_table import LatencyTable
from latency_nas.table.whole_file import whole_file

__all__ = ["export_paddleslim"]

_N_LISTED = 5


def export_paddleslim(
    table: LatencyTable, path: str | os.PathLike[str], *, dialect: Dialect = "2022", partial: bool = False
) -> ExportReport:
    """Write a table as PaddleSlim's pickle: a plain dict of keys and milliseconds.

    The format has no datasheet. Device, threads and power mode are only in the file's name. The origin and spread of
    the numbers and the engine's version are lost.

    Args:
        table: Table of Paddle-Lite.
        path: File to write, or a folder. In a folder, the file is named
            ``{device}_threads_{threads}_power_mode_{mode}.pkl``.
        dialect: Dialect of the keys.
        partial: Whether to leave out kernels that have no key, and to give kernels with the same key their mean. If
            False, such tables are refused.

    Returns:
        A report with the path, and with the parts of the table that are lost.

    Raises:
        TableError: if the table is not of Paddle-Lite on a real device, its conditions do not make a file name, or
            kernels cannot be expressed. The message names them.
    """
    target = Path(path)
    if target.is_dir():
        target /= _file_name(table)
    if table.datasheet.engine.casefold() != "paddle-lite" or table.datasheet.emulated:
        raise TableError(
            f"Expected a table of Paddle-Lite on a real device to write as PaddleSlim's, but {table.name} is of "
            f"{table.datasheet}."
        )
    times, refused = _times(table, dialect)
    ambiguous = {
        key: f"kernels of {len(values)} latencies have this key"
        for key, values in times.items()
        if values - {min(values)}
    }
    if (refused or ambiguous) and not partial:
        raise TableError(_refusal(table, refused | ambiguous))
    if not times:
        raise TableError(f"Expected kernels that PaddleSlim has keys for, but {table.name} has none.")
    data = {key: sum(values) / len(values) for key, values in times.items()}
    with whole_file(target) as file:
        file.write_bytes(pickle.dumps(data, protocol=3))
    return ExportReport(path=target, n_rows=len(table) - len(refused), lost=_lost(table, len(refused), len(ambiguous)))


def _times(table: LatencyTable, dialect: Dialect) -> tuple[dict[str, set[float]], dict[str, str]]:
    """The latencies of each key, and the kernels without a key -> the reason."""
    times: dict[str, set[float]] = {}
    refused: dict[str, str] = {}
    for kernel, row in table.items():
        try:
            for key in paddleslim_keys(kernel, dialect=dialect):
                times.setdefault(key, set()).add(row.latency_ms)
        except KernelError as error:
            refused[kernel.key] = str(error)
    return times, refused


def _lost(table: LatencyTable, n_refused: int, n_ambiguous: int) -> tuple[str, ...]:
    lost = ["the datasheet: device, threads and power mode are only in the file's name"]
    if any(row.std_ms is not None or row.n_samples for row in table.entries.values()):
        lost.append("the spread and the number of samples of each row")
    if n_refused:
        lost.append(f"kernels that PaddleSlim has no key for ({n_refused})")
    if n_ambiguous:
        lost.append(f"differences between kernels of the same key ({n_ambiguous} keys): each key has their mean")
    return tuple(lost)


def _refusal(table: LatencyTable, reasons: dict[str, str]) -> str:
    named = "; ".join(f"{key} ({reason})" for key, reason in list(reasons.items())[:_N_LISTED])
    more = f"; and {len(reasons) - _N_LISTED} more" if len(reasons) > _N_LISTED else ""
    return (
        f"Expected kernels that PaddleSlim's format can express, but {len(reasons)} of {table.name} cannot be "
        f"expressed: {named}{more}. Pass partial=True (--partial) to write the others."
    )


def _file_name(table: LatencyTable) -> str:
    sheet = table.datasheet
    if sheet.threads is None or sheet.power_mode not in POWER_MODES or not re.fullmatch(r"[\w.-]+", sheet.device):
        raise TableError(
            f"Expected a device of one word, threads, and a power mode out of {', '.join(POWER_MODES)} to name the "
            f"file by, but got {sheet.device!r}, {sheet.threads} and {sheet.power_mode!r}. "
            f"Give the file's own path instead."
        )
    return f"{sheet.device}_threads_{sheet.threads}_power_mode_{POWER_MODES.index(sheet.power_mode)}.pkl"
