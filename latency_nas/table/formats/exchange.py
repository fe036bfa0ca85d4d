"""Reads and writes tables in any format."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from latency_nas.errors import TableError, TableFileError
from latency_nas.table.formats.format import NOT_STATED, ExportReport, Format, ImportReport
from latency_nas.table.formats.registry import format_of_suffix, is_own, listed, named_format, recognised_format
from latency_nas.table.latency_table import LatencyTable
from latency_nas.table.plausibility import check_plausible

__all__ = ["CONDITIONS", "export_table", "import_table"]

# conditions of a foreign table that a user may state; they replace those of its file
CONDITIONS = (
    "device", "engine", "engine_version", "dialect", "soc", "architecture", "threads", "precision", "power_mode",
    "batch",
)  # fmt: skip
_UNSTATED = (
    "It does not state how it was measured, so that no model can be priced by it: pass device, engine and threads to "
    "load_table, or to latency-nas table import."
)


def import_table(
    path: str | os.PathLike[str], *, file_format: str | Format | None = None, **options: Any
) -> tuple[LatencyTable, ImportReport | None]:
    """Read a table in any format.

    Args:
        path: File to read.
        file_format: Format of the file, or its name. By default it is recognised by suffix and content.
        **options: Options of the format, and conditions that the file does not state or states wrongly: the fields of
            `Datasheet` in `CONDITIONS`. A table with such conditions is marked as imported.

    Returns:
        The table, and a report on its rows if the format makes one.

    Raises:
        FileNotFoundError: if there is no such file.
        TableFileError: if no format recognises the file, or several do, or it is damaged. The message says what the
            file looks like.
        TableError: if there is no such format or option.
        UnsafePickleError: if a pickle holds more than plain data. None of it was run.

    Example:
        >>> table, report = import_table("opbench.csv", device="Example board", engine="MNN")  # doctest: +SKIP
    """
    source = Path(path)
    if not source.is_file():
        raise FileNotFoundError(f"Expected a latency table at {source}, but there is no such file.")
    found = recognised_format(source) if file_format is None else named_format(file_format)
    conditions = {name: options.pop(name) for name in CONDITIONS if name in options}
    _check_options(found, found.read_options, options, also=CONDITIONS)
    read = found.read(source, **options)
    table, report = (read, None) if isinstance(read, LatencyTable) else read
    if not is_own(found):
        table, report = _plausible(table, report)
    if conditions:
        sheet = replace(table.datasheet, **conditions, method="imported")
        table = LatencyTable(table.entries, sheet, table.name)
    if report and table.datasheet.engine == NOT_STATED:
        report = replace(report, remarks=(*report.remarks, _UNSTATED))
    return table, report


def export_table(
    table: LatencyTable, path: str | os.PathLike[str], *, file_format: str | Format | None = None, **options: Any
) -> ExportReport:
    """Write a table in any format that can be written.

    Args:
        table: Table to write.
        path: File to write. An existing file is replaced.
        file_format: Format of the file, or its name. By default it follows from the suffix.
        **options: Options of the format.

    Returns:
        A report with the path, and with the parts of the table that the format cannot express.

    Raises:
        TableError: if no format of that suffix can be written, there is no such format or option, or the format
            cannot express a kernel.
    """
    target = Path(path)
    found = format_of_suffix(target) if file_format is None else named_format(file_format)
    if found.write is None:
        raise TableError(f"Expected a format that can be written ({listed(written=True)}), but got {found.title}.")
    _check_options(found, found.write_options, options)
    made = found.write(table, target, **options)
    return made if isinstance(made, ExportReport) else ExportReport(path=made, n_rows=len(table))


def _check_options(
    found: Format, known: Mapping[str, str], options: Mapping[str, Any], also: tuple[str, ...] = ()
) -> None:
    unknown = [name for name in options if name not in known]
    if unknown:
        raise TableError(
            f"Expected options of {found.title} ({', '.join([*known, *also]) or 'it has none'}), but got "
            f"{', '.join(unknown)}."
        )


def _plausible(table: LatencyTable, report: ImportReport | None) -> tuple[LatencyTable, ImportReport]:
    """Leave out impossible rows. This is for formats of other packages; this library's importers do it themselves."""
    implausible: dict[str, str] = {}
    for kernel, row in table.items():
        try:
            check_plausible(kernel, row.latency_ms, table.datasheet)
        except TableError as error:
            implausible[kernel.key] = str(error)
    if implausible and len(implausible) == len(table):
        key, reason = next(iter(implausible.items()))
        raise TableFileError(f"Expected times that can be in {table.name}, but none is: {key}: {reason}.")
    report = report or ImportReport(n_keys=len(table), n_used=len(table))
    sound = {key: row for key, row in table.entries.items() if key not in implausible}
    report = replace(report, n_used=report.n_used - len(implausible), skipped={**report.skipped, **implausible})
    return LatencyTable(sound, table.datasheet, table.name), report
