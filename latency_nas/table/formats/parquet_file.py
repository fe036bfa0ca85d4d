"""A latency table as a Parquet file, compressed by zstd, with the datasheet in the file's metadata."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from latency_nas.errors import KernelError, TableError, TableFileError
from latency_nas.kernel import Kernel
from latency_nas.table.datasheet import Datasheet
from latency_nas.table.latency_table import Entry, LatencyTable
from latency_nas.table.plausibility import check_plausible
from latency_nas.table.whole_file import whole_file

__all__ = ["SCHEMA_VERSION", "read_table", "recognises_parquet", "save_table"]

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
_METADATA_KEY = b"latency_nas"
_N_LISTED = 3  # impossible rows that a warning names
_MAX_ROWS, _MAX_BYTES = 1 << 22, 1 << 30  # of a table, decompressed
_COLUMNS = {"kernel": pa.string(), "latency_ms": pa.float64(), "std_ms": pa.float64(), "n_samples": pa.int64()}
# Keys are read as a dictionary, so that a key that a hostile file repeats millions of times is in memory only once.
_READ = {**_COLUMNS, "kernel": pa.dictionary(pa.int32(), pa.string())}


def save_table(table: LatencyTable, path: str | os.PathLike[str]) -> Path:
    """Write a table to a Parquet file. An existing file is replaced in one step and never left half-written.

    The fitted forms of the table are written beside it, to ``NAME.forms.npz``.

    Returns:
        The path.
    """
    target = Path(path)
    header = {
        "schema_version": SCHEMA_VERSION,
        "datasheet": table.datasheet.to_dict(),
        "fingerprint": table.fingerprint(),
        "sound": _is_sound(table),
    }
    rows = table.entries.values()
    columns: dict[str, list[Any]] = {
        "kernel": list(table.entries),
        "latency_ms": [row.latency_ms for row in rows],
        "std_ms": [row.std_ms for row in rows],
        "n_samples": [row.n_samples for row in rows],
    }
    schema = pa.schema(list(_COLUMNS.items()), metadata={_METADATA_KEY: json.dumps(header)})
    with whole_file(target) as partial:
        pq.write_table(pa.table(columns, schema=schema), partial, compression="zstd")
    _save_fitted(table.fitted, _forms_file(target))
    return target


def _is_sound(table: LatencyTable) -> bool:
    """Whether all keys are canonical and all times plausible. Readers of such a table need not parse its keys."""
    try:
        kernels = dict(zip(map(Kernel.parse, table.entries), table.entries.values(), strict=True))
        if list(LatencyTable.of(kernels, table.datasheet).entries) != list(table.entries):
            return False
        for kernel, entry in kernels.items():
            check_plausible(kernel, entry.latency_ms, table.datasheet)
    except (KernelError, TableError):
        return False
    return True


def _forms_file(path: Path) -> Path:
    """The path of a table's fitted forms."""
    return path.with_name(f"{path.name.removesuffix('.parquet')}.forms.npz")


def _save_fitted(fitted: Path | bytes | None, target: Path) -> None:
    if fitted is None:
        target.unlink(missing_ok=True)  # forms of a replaced table
        return
    content = fitted if isinstance(fitted, bytes) else fitted.read_bytes()
    with whole_file(target) as partial:
        partial.write_bytes(content)


def recognises_parquet(head: bytes, _: Path) -> bool:
    """Whether a file is Parquet. `read_table` checks that it is a table of this library."""
    return head.startswith(b"PAR1")


def read_table(path: str | os.PathLike[str]) -> LatencyTable:
    """Read a table that `save_table` wrote. Rows that no processor could have produced are logged as a warning.

    Raises:
        FileNotFoundError: if there is no such file.
        TableFileError: if it is truncated, is not such a file, has another schema version, or has an invalid row. The
            message names the file and the row.
    """
    source = Path(path)
    if not source.is_file():
        raise FileNotFoundError(f"Expected a latency table at {source}, but there is no such file.")
    try:
        data = pq.ParquetFile(source)
        header = json.loads((data.schema_arrow.metadata or {}).get(_METADATA_KEY, b"null"))
    except (pa.ArrowException, OSError, ValueError, RecursionError) as error:
        raise TableFileError(
            f"Expected {source} to be a latency table in Parquet, but it cannot be read ({_first_line(error)}): "
            f"the file is truncated or of another format. Copy or build it again."
        ) from error
    datasheet = _datasheet(source, header)
    if data.schema_arrow.names != list(_COLUMNS):
        raise TableFileError(
            f"Expected the columns {', '.join(_COLUMNS)} in {source}, but got {', '.join(data.schema_arrow.names)}."
        )
    _check_size(source, data.metadata)
    try:
        found = pq.ParquetFile(source, metadata=data.metadata, read_dictionary=["kernel"]).read()
        if dict(zip(found.schema.names, found.schema.types, strict=True)) != _READ:
            found = found.cast(
                pa.schema(list(_READ.items()))
            )  # only where needed: it imports all of pyarrow's functions
        columns = {name: found.column(name).to_pylist() for name in list(_COLUMNS)[1:]}
        columns = {"kernel": _keys(found.column("kernel")), **columns}
    except (pa.ArrowException, OSError, ValueError) as error:
        raise TableFileError(
            f"Expected {source} to hold whole columns, but it is damaged ({_first_line(error)}). "
            f"Copy or build it again."
        ) from error
    table = _as_written(source, columns, header, datasheet)
    if table is None:
        entries = _entries(source, columns, datasheet)
        try:
            table = LatencyTable.of(entries, datasheet, name=str(source))
        except TableError as error:
            raise TableFileError(f"{source} is not valid: {error}") from error
    if "fingerprint" not in header:
        raise TableFileError(
            f"Expected {source} to hold its fingerprint, but it does not: it was not written by `save_table`."
        )
    if table.fingerprint() != header["fingerprint"]:
        raise TableFileError(
            f"Expected {source} to be as it was written, but its fingerprint differs: "
            f"a part of it was changed or damaged. Copy or build it again."
        )
    forms = _forms_file(source)
    return replace(table, fitted=forms) if forms.is_file() else table


def _check_size(source: Path, metadata: pq.FileMetaData) -> None:
    n_bytes = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    if metadata.num_rows > _MAX_ROWS or n_bytes > _MAX_BYTES:
        raise TableFileError(
            f"Expected {source} to have at most {_MAX_ROWS:,} rows and {_MAX_BYTES >> 20} MiB, but it has "
            f"{metadata.num_rows:,} rows and {n_bytes / (1 << 20):.1f} MiB."
        )


def _keys(column: pa.ChunkedArray) -> list[str | None]:
    """The texts of a column that was read as dictionaries."""
    keys: list[str | None] = []
    for chunk in column.chunks:
        words = chunk.dictionary.to_pylist()
        keys += [None if index is None else words[index] for index in chunk.indices.to_pylist()]
    return keys


def _as_written(
    source: Path, columns: dict[str, list[Any]], header: dict[str, Any], sheet: Datasheet
) -> LatencyTable | None:
    """The table without parsing its keys; None if `save_table` did not find it sound, or it was changed since."""
    if header.get("sound") is not True or "fingerprint" not in header:
        return None
    try:
        keys, *values = columns.values()
        rows = {
            key: Entry(latency_ms=latency_ms, std_ms=std_ms, n_samples=n_samples)
            for key, latency_ms, std_ms, n_samples in zip(keys, *values, strict=True)
        }
        table = LatencyTable(rows, sheet, str(source))
        return table if len(rows) == len(keys) and table.fingerprint() == header["fingerprint"] else None
    except (TableError, TypeError):
        return None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _datasheet(source: Path, header: Any) -> Datasheet:
    if not isinstance(header, dict) or "schema_version" not in header:
        raise TableFileError(
            f"Expected {source} to be a latency table, but it is a Parquet file without a datasheet of this library."
        )
    if header["schema_version"] != SCHEMA_VERSION:
        raise TableFileError(
            f"Expected {source} to have schema version {SCHEMA_VERSION}, but it has {header['schema_version']!r}: "
            f"it was written by another version of latency_nas. Install that version, or build the table again."
        )
    try:
        return Datasheet.from_dict(header.get("datasheet"))
    except TableError as error:
        raise TableFileError(f"Expected a valid datasheet in {source}: {error}") from error


def _entries(source: Path, columns: dict[str, list[Any]], sheet: Datasheet) -> dict[Kernel, Entry]:
    entries: dict[Kernel, Entry] = {}
    implausible: list[str] = []
    for number, (key, latency_ms, std_ms, n_samples) in enumerate(zip(*columns.values(), strict=True), start=1):
        try:
            if key is None or latency_ms is None or n_samples is None:
                raise TableError("Expected a kernel, a latency and a number of samples, but one is null.")
            kernel = Kernel.parse(key)
            if kernel in entries:
                raise TableError(f"Expected each kernel once, but {key!r} is there again.")
            entries[kernel] = Entry(latency_ms=latency_ms, std_ms=std_ms, n_samples=n_samples)
        except (KernelError, TableError) as error:
            raise TableFileError(f"Row {number} of {source} is not valid: {error}") from error
        try:
            check_plausible(kernel, latency_ms, sheet)
        except TableError as error:
            implausible.append(f"row {number}, {key}: {error}")
    if implausible:
        more = f"; and {len(implausible) - _N_LISTED} more" if len(implausible) > _N_LISTED else ""
        logger.warning("%s holds impossible times: %s%s.", source, "; ".join(implausible[:_N_LISTED]), more)
    return entries
