"""Shared part of the importers of block tables: rows that are used, or skipped with a reason."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from latency_nas.errors import TableError, TableFileError, short_repr
from latency_nas.table.block_table import BlockTable
from latency_nas.table.datasheet import Datasheet, finite
from latency_nas.table.formats.format import NOT_STATED, ImportReport

__all__ = ["block_table", "foreign_sheet"]

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_MIN_MS, _MAX_MS = 1e-7, 1e5  # from a cycle to minutes, on any device; 0 is a block that runs nothing
_SPREAD = "It does not state the error of its latencies, so that the ± of a plan of its blocks is unknown."


def foreign_sheet(source: Path, title: str) -> Datasheet:
    """The datasheet of a file that states no conditions."""
    return Datasheet(
        device=f"not stated ({source.name})", engine=NOT_STATED,
        backend="a processor that is not stated", precision="precision not stated",
        method="imported", sources=(f"{title}, {source.name}",),
    )  # fmt: skip


def block_table(
    source: Path, rows: Iterable[tuple[str, object]], sheet: Datasheet, to_ms: float
) -> tuple[BlockTable, ImportReport]:
    """A table of rows, each with the key of a block and its latency: a number, or a text of one.

    Raises:
        TableFileError: if a key has two latencies, or no row can be used.
    """
    latencies_ms: dict[str, float] = {}
    skipped: dict[str, str] = {}
    n_rows = 0
    for key, value in rows:
        n_rows += 1
        try:
            latency_ms = _possible(finite("latency", _number(value)) * to_ms)
        except TableError as error:
            skipped[key] = str(error)
            continue
        if latencies_ms.setdefault(key, latency_ms) != latency_ms:
            raise TableFileError(f"Expected one latency of each block in {source}, but {key!r} has several.")
    if not latencies_ms:
        first = next((f" ({key}: {reason.rstrip('.')})" for key, reason in skipped.items()), "")
        raise TableFileError(f"Expected blocks and latencies in {source}, but none of {n_rows} can be used{first}.")
    report = ImportReport(n_keys=n_rows, n_used=n_rows - len(skipped), skipped=skipped, remarks=(_SPREAD,))
    return BlockTable(latencies_ms, sheet, name=str(source)), report


def _possible(latency_ms: float) -> float:
    if latency_ms and not _MIN_MS <= latency_ms <= _MAX_MS:
        raise TableError(f"{latency_ms:.4g} ms is no time of a block: it is of another unit")
    return latency_ms


def _number(value: object) -> object:
    if isinstance(value, str):
        if not _NUMBER.fullmatch(value.strip()):
            raise TableError(f"Expected a number, but got {short_repr(value)}.")
        return float(value)
    return value
