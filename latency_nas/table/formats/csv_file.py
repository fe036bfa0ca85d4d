"""A latency table as CSV, for spreadsheets: one row for each kernel, with its work and its latency.

The datasheet is above the rows. It begins with the line ``# latency_nas: 1`` and has a line ``# name: value`` for each
field, with the value in JSON. An unchanged file is read as the same table; its fingerprint confirms this. A changed
file, or one without a datasheet, counts as a foreign table: its ``method`` is ``"imported"``.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from latency_nas.errors import KernelError, TableError, TableFileError, short_repr
from latency_nas.kernel import Kernel, n_bytes, n_flops, n_macs, n_params
from latency_nas.table.datasheet import Datasheet
from latency_nas.table.formats.content import head_lines
from latency_nas.table.formats.format import NOT_STATED, ImportReport
from latency_nas.table.formats.plain_data import read_text
from latency_nas.table.formats.unit import ms_per_unit
from latency_nas.table.latency_table import Entry, LatencyTable
from latency_nas.table.plausibility import check_plausible, check_unit
from latency_nas.table.whole_file import whole_file

__all__ = ["export_csv", "import_csv", "recognises_csv"]

_VERSION = 1
_MARK, _FINGERPRINT = "latency_nas", "fingerprint"
_COLUMNS = ("kernel", "op", "latency_ms", "std_ms", "n_samples", "macs", "flops", "parameters", "bytes")
_KERNEL = "kernel"
_TIMES = ("latency_ms", "latency_us", "latency")  # columns of the time; the unit of the last one is asked for
_CHANGED = "Its rows or its datasheet are not those that were exported, so that it is no longer a measured table."


def export_csv(table: LatencyTable, path: str | os.PathLike[str]) -> Path:
    """Write a table: the datasheet in lines that begin with ``#``, then a header and the rows.

    Returns:
        The path.
    """
    target = Path(path)
    fields = {_MARK: _VERSION, **table.datasheet.to_dict(), _FINGERPRINT: table.fingerprint()}
    with whole_file(target) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        for name, value in fields.items():
            file.write(f"# {name}: {json.dumps(value, ensure_ascii=False)}\n")
        rows = csv.writer(file)
        rows.writerow(_COLUMNS)
        for kernel, row in table.items():
            work = n_macs(kernel), n_flops(kernel), n_params(kernel), n_bytes(kernel)
            rows.writerow([kernel.key, kernel.op, row.latency_ms, row.std_ms, row.n_samples, *work])
    return target


def recognises_csv(head: bytes, _: Path) -> bool:
    """Whether the file begins with this library's datasheet, or its header has the needed columns."""
    lines = head_lines(head)
    names = lines[0].replace('"', "").strip().split(",") if lines else []
    if head.removeprefix(b"\xef\xbb\xbf").startswith(f"# {_MARK}:".encode()):
        return True
    return _KERNEL in names and not set(_TIMES).isdisjoint(names)


def import_csv(
    path: str | os.PathLike[str], *, unit: Literal["ms", "us"] | None = None
) -> tuple[LatencyTable, ImportReport]:
    """Read a table that `export_csv` wrote, or any CSV with the columns kernel and latency_ms.

    Args:
        path: CSV file. The column of the latency may also be ``latency_us``, or ``latency``. The columns ``std_ms`` and
            ``n_samples`` are optional.
        unit: Unit of the column ``latency``, which does not state it; or that of ``latency_ms`` or ``latency_us``, if
            the column's name is wrong.

    Returns:
        The table, and a report on its rows.

    Raises:
        FileNotFoundError: if there is no such file.
        TableFileError: if it is not such a file, no row can be used, most times are impossible, or the unit is needed.
    """
    source = Path(path)
    lines = _lines(source)
    n_comments = next((number for number, line in enumerate(lines) if not line.startswith(("#", '"#'))), len(lines))
    stated = _stated(source, lines[:n_comments])
    fingerprint = stated.pop(_FINGERPRINT, None)
    sheet = _datasheet(source, stated)
    entries, skipped, implausible = _entries(_rows(source, lines[n_comments:], n_comments, unit), sheet)
    n_rows = len(entries) + len(skipped)
    table = _table(source, entries, sheet)
    if fingerprint == table.fingerprint():
        return table, ImportReport(n_keys=n_rows, n_used=n_rows, remarks=tuple(implausible.values()))
    check_unit(str(source), entries, implausible, has_unit=True)
    skipped |= {kernel.key: reason for kernel, reason in implausible.items()}
    sound = {kernel: row for kernel, row in entries.items() if kernel not in implausible}
    if not sound:
        first = next((f" ({text}: {reason.rstrip('.')})" for text, reason in skipped.items()), "")
        raise TableFileError(f"Expected rows of kernels in {source}, but none of {n_rows} can be used{first}.")
    remarks = (_CHANGED,) if stated else ()
    report = ImportReport(n_keys=n_rows, n_used=len(sound), skipped=skipped, remarks=remarks)
    changed = replace(sheet, method="imported", expected_error=None, expected_error_method="", error_90=None)
    return _table(source, sound, changed), report


def _lines(source: Path) -> list[str]:
    return io.StringIO(read_text(source)).readlines()


def _stated(source: Path, comments: Sequence[str]) -> dict[str, Any]:
    """The fields of the datasheet above the rows; none if there is no datasheet."""
    if not comments or _cells(comments[0]).partition(":")[0].strip("# ") != _MARK:
        return {}
    fields: dict[str, Any] = {}
    for number, line in enumerate(comments, start=1):
        try:
            fields |= _field(line)
        except (ValueError, RecursionError) as error:
            raise TableFileError(
                f"Expected line {number} of {source} to be `# name: value` with the value in JSON, but got "
                f"{short_repr(line)}."
            ) from error
    version = fields.pop(_MARK, None)
    if version != _VERSION:
        raise TableFileError(
            f"Expected {source} to have version {_VERSION}, "
            f"but it has {short_repr(version)}: it was written by another version of latency_nas."
        )
    return fields


def _field(line: str) -> dict[str, Any]:
    try:
        return _parsed(line)
    except ValueError:
        return _parsed(_cells(line))


def _parsed(comment: str) -> dict[str, Any]:
    name, _, value = comment.strip().removeprefix("#").partition(":")
    return {name.strip(): json.loads(value)}


def _cells(line: str) -> str:
    """The original text of a comment that a spreadsheet has split into cells."""
    try:
        return ",".join(next(csv.reader([line]), [])).rstrip(",")
    except csv.Error:
        return line


def _datasheet(source: Path, stated: dict[str, Any]) -> Datasheet:
    if not stated:
        return Datasheet(
            device=f"not stated ({source.name})",
            engine=NOT_STATED,
            method="imported",
            sources=(f"CSV, {source.name}",),
        )
    try:
        return Datasheet.from_dict(stated)
    except TableError as error:
        raise TableFileError(f"Expected a valid datasheet in {source}: {error}") from error


_Row = tuple[int, Mapping[str, str | None], float]  # number of its last line, row by column, factor to milliseconds


def _rows(source: Path, lines: Sequence[str], n_before: int, unit: str | None) -> Iterator[_Row]:
    """Each row, with its time in the column ``latency_ms``."""
    reader = csv.DictReader(lines)
    try:
        names = reader.fieldnames or []
        column = next((name for name in _TIMES if name in names), None)
        if column is None or _KERNEL not in names:
            raise TableFileError(
                f"Expected the columns {_KERNEL}, {_TIMES[0]} in {source}, but got {short_repr(', '.join(names))}."
            )
        stated = column.partition("_")[2] or None
        to_ms = ms_per_unit(source, unit or stated)
        for row in reader:
            yield reader.line_num + n_before, {**row, _TIMES[0]: row[column]}, to_ms
    except csv.Error as error:
        number = reader.line_num + n_before + 1
        raise TableFileError(f"Expected {source} to be CSV, but line {number} is not: {error}.") from error


def _entries(rows: Iterable[_Row], sheet: Datasheet) -> tuple[dict[Kernel, Entry], dict[str, str], dict[Kernel, str]]:
    """The rows that can be read; reasons why others cannot; and reasons why some of the read times are impossible."""
    entries: dict[Kernel, Entry] = {}
    skipped: dict[str, str] = {}
    implausible: dict[Kernel, str] = {}
    for number, row, to_ms in rows:
        try:
            kernel, entry = _entry(row, to_ms)
            if kernel in entries:
                raise TableError("the kernel is there again")
        except (KernelError, TableError) as error:
            skipped[f"line {number}"] = str(error)
            continue
        except ValueError as error:
            skipped[f"line {number}"] = f"a field cannot be read ({error})"
            continue
        entries[kernel] = entry
        try:
            check_plausible(kernel, entry.latency_ms, sheet)
        except TableError as error:
            implausible[kernel] = f"line {number}: {error}"
    return entries, skipped, implausible


def _entry(row: Mapping[str, str | None], to_ms: float) -> tuple[Kernel, Entry]:
    std_ms, n_samples = row.get("std_ms"), row.get("n_samples")
    entry = Entry(
        latency_ms=float(row[_TIMES[0]] or "") * to_ms,
        std_ms=float(std_ms) if std_ms else None,
        n_samples=int(n_samples) if n_samples else 0,
    )
    return Kernel.parse(row[_KERNEL] or ""), entry


def _table(source: Path, entries: dict[Kernel, Entry], sheet: Datasheet) -> LatencyTable:
    try:
        return LatencyTable.of(entries, sheet, name=str(source))
    except TableError as error:
        raise TableFileError(f"{source} is not valid: {error}") from error
