"""Reads and writes tables in any format."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from latency_nas.errors import TableError, TableFileError
from latency_nas.kernel import Kernel
from latency_nas.table.block_table import BlockTable
from latency_nas.table.formats.format import NOT_STATED, ExportReport, Format, ImportReport
from latency_nas.table.formats.networks.run import NetworkRuns
from latency_nas.table.formats.registry import format_of_suffix, is_own, listed, named_format, recognised_format
from latency_nas.table.latency_table import LatencyTable
from latency_nas.table.plausibility import check_plausible, check_unit

__all__ = [
    "CONDITIONS",
    "export_table",
    "format_of",
    "import_blocks",
    "import_table",
    "load_block_table",
    "log_report",
    "read_network_runs",
]

logger = logging.getLogger(__name__)

# conditions of a foreign table that a user may state; they replace those of its file
CONDITIONS = (
    "device", "engine", "engine_version", "dialect", "soc", "architecture", "backend", "threads", "precision",
    "power_mode", "batch",
)  # fmt: skip
# what to do with a format that is used in another way than asked for, by `Format.uses`
_BLOCKS = "load_block_table reads it, and plan_of_candidates makes a plan of its blocks"
_KERNELS = "load_table reads it"
_INSTEAD = {
    "blocks": _BLOCKS,
    "networks": "latency-nas table runs makes the CSV of it that latency-nas calibrate reads",
    "read": _KERNELS,
    "read, written": _KERNELS,
}
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
    source, found = Path(path), format_of(path, file_format)
    if found.read is None:
        raise TableFileError(f"Expected a table of kernels, but {source} is {found.title}: {_INSTEAD[found.uses]}.")
    conditions = _conditions(found, options)
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


def import_blocks(
    path: str | os.PathLike[str], *, file_format: str | Format | None = None, **options: Any
) -> tuple[BlockTable, ImportReport]:
    """Read a table of blocks in any format.

    Args:
        path: File to read.
        file_format: Format of the file, or its name. By default it is recognised by suffix and content. JSON and YAML
            with keys of your own are read as ``"blocks"``.
        **options: Options of the format, above all ``unit``, and conditions, as in `import_table`.

    Returns:
        The table, and a report on its rows.

    Raises:
        FileNotFoundError: if there is no such file.
        TableFileError: if no format recognises the file, it holds no blocks, it is damaged, or the unit is needed.
        TableError: if there is no such format or option.
        UnsafePickleError: if a pickle holds more than plain data. None of it was run.
    """
    source, found = Path(path), _block_format(path, file_format)
    if found.read_blocks is None:
        raise TableFileError(f"Expected a table of blocks, but {source} is {found.title}: {_INSTEAD[found.uses]}.")
    conditions = _conditions(found, options)
    table, report = found.read_blocks(source, **options)
    if conditions:
        sheet = replace(table.datasheet, **conditions, method="imported")
        table = BlockTable(table.latencies_ms, sheet, table.name)
    return table, report


def load_block_table(
    path: str | os.PathLike[str], *, file_format: str | Format | None = None, **options: Any
) -> BlockTable:
    """Load a table of blocks: of Once-for-All, ProxylessNAS, TF-NAS, FBNet, NNI, or of your own.

    As `import_blocks`. What its report says is logged.

    Example:
        >>> blocks = load_block_table("mobile_trim.yaml", unit="ms", device="Pixel 1")       # doctest: +SKIP
        >>> plan = plan_of_candidates({"layer 0": {"3x3": blocks["expanded_conv-..."]}})     # doctest: +SKIP
    """
    table, report = import_blocks(path, file_format=file_format, **options)
    log_report(path, report)
    return table


def log_report(file: str | os.PathLike[str], report: ImportReport | None) -> None:
    """Log the keys that could not be used, and the remarks of a report."""
    if report and report.skipped:
        logger.warning(
            "%s: %d of %d keys could not be used; latency-nas table import says which.",
            file, len(report.skipped), report.n_keys,
        )  # fmt: skip
    for remark in report.remarks if report else ():
        logger.warning("%s: %s", file, remark)


def read_network_runs(
    path: str | os.PathLike[str], *, file_format: str | Format | None = None, **options: Any
) -> NetworkRuns:
    """Read times of whole networks in any format.

    Args:
        path: File to read.
        file_format: Format of the file, or its name. By default it is recognised by suffix and content.
        **options: Options of the format: which device, runtime, precision or platform is meant.

    Raises:
        FileNotFoundError: if there is no such file.
        TableFileError: if no format recognises the file, it holds no networks, it is damaged, or an option is needed.
        TableError: if there is no such format or option.
    """
    source, found = Path(path), format_of(path, file_format)
    if found.read_runs is None:
        raise TableFileError(f"Expected times of networks, but {source} is {found.title}: {_INSTEAD[found.uses]}.")
    _check_options(found, found.read_options, options)
    return found.read_runs(source, **options)


def format_of(path: str | os.PathLike[str], file_format: str | Format | None = None) -> Format:
    """The format that is named or recognises a file.

    Raises:
        FileNotFoundError: if there is no such file.
        TableFileError: if no format recognises the file, or several do.
        TableError: if there is no such format.
    """
    source = Path(path)
    if not source.is_file():
        raise FileNotFoundError(f"Expected a latency table at {source}, but there is no such file.")
    return recognised_format(source) if file_format is None else named_format(file_format)


def _block_format(path: str | os.PathLike[str], file_format: str | Format | None) -> Format:
    """As `format_of`; JSON and YAML that no format recognises are blocks with keys of the user's own."""
    blocks = named_format("blocks")
    try:
        return format_of(path, file_format)
    except TableFileError:
        if Path(path).suffix.lower() not in blocks.suffixes:
            raise
        return blocks


def _conditions(found: Format, options: dict[str, Any]) -> dict[str, Any]:
    """Take the conditions out of the options; those that are left are checked."""
    conditions = {name: options.pop(name) for name in CONDITIONS if name in options}
    _check_options(found, found.read_options, options, also=CONDITIONS)
    return conditions


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
    found: dict[Kernel, str] = {}
    for kernel, row in table.items():
        try:
            check_plausible(kernel, row.latency_ms, table.datasheet)
        except TableError as error:
            found[kernel] = str(error)
    check_unit(table.name, list(table), found)
    implausible = {kernel.key: reason for kernel, reason in found.items()}
    if implausible and len(implausible) == len(table):
        key, reason = next(iter(implausible.items()))
        raise TableFileError(f"Expected times that can be in {table.name}, but none is: {key}: {reason}.")
    report = report or ImportReport(n_keys=len(table), n_used=len(table))
    sound = {key: row for key, row in table.entries.items() if key not in implausible}
    report = replace(report, n_used=report.n_used - len(implausible), skipped={**report.skipped, **implausible})
    return LatencyTable(sound, table.datasheet, table.name), report
