"""`Format`: a kind of file that holds a latency table, and the reports of imports and exports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from latency_nas.table.block_table import BlockTable
from latency_nas.table.formats.networks.run import NetworkRuns
from latency_nas.table.latency_table import LatencyTable

__all__ = ["NOT_STATED", "ExportReport", "Format", "ImportReport"]

NOT_STATED = "not stated"  # engine of a table whose file does not state it


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """Report on the keys of an imported table.

    Args:
        n_keys: Number of keys in the file.
        n_used: Number of keys that were used for a row.
        merged: Kernels that have several keys -> these keys. The row has the latency of the first key with a stated
            batch.
        skipped: Keys that could not be used -> the reason.
        remarks: Other facts about the table that a user should know, a sentence each.
    """

    n_keys: int
    n_used: int
    merged: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.n_used} of {self.n_keys} keys used; {len(self.merged)} kernels have several keys."]
        return "\n".join([*lines, *self.remarks, *(f"not used: {key!r}: {why}" for key, why in self.skipped.items())])


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """Report on a table that was written in another format.

    Args:
        path: Path of the file.
        n_rows: Number of kernels in the file.
        lost: Parts of the table that the format cannot express, a phrase each.
    """

    path: Path
    n_rows: int
    lost: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([f"{self.path}: {self.n_rows} kernels", *(f"lost: {phrase}" for phrase in self.lost)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A kind of file that holds latencies: of kernels, of whole blocks, or of whole networks. It has one reader.

    Args:
        title: Name of the format in messages.
        suffixes: Suffixes of its files, with the dot.
        recognises: Function of a file's first 64 KiB and its path that says whether the file is of this format. It must
            not run anything in the file.
        read: Reader of a table of kernels: ``read(path, **options)`` returns the table, alone or with an
            `ImportReport`.
        write: Writer: ``write(table, path, **options)`` returns the path, or an `ExportReport` if something is lost.
            None if the format is only read.
        read_blocks: Reader of a table of blocks: ``read_blocks(path, **options)`` returns the table and a report.
        read_runs: Reader of times of networks: ``read_runs(path, **options)`` returns the runs.
        read_options: Options of the reader, name -> description.
        write_options: Options of the writer, name -> description.
    """

    title: str
    suffixes: tuple[str, ...]
    recognises: Callable[[bytes, Path], bool]
    read: Callable[..., LatencyTable | tuple[LatencyTable, ImportReport]] | None = None
    write: Callable[..., Path | ExportReport] | None = None
    read_blocks: Callable[..., tuple[BlockTable, ImportReport]] | None = None
    read_runs: Callable[..., NetworkRuns] | None = None
    read_options: Mapping[str, str] = field(default_factory=dict)
    write_options: Mapping[str, str] = field(default_factory=dict)

    @property
    def uses(self) -> str:
        """What can be done with its files, for lists."""
        if self.read_blocks is not None:
            return "blocks"
        if self.read_runs is not None:
            return "networks"
        return "read, written" if self.write else "read"
