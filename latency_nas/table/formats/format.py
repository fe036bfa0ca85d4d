"""`Format`: a kind of file that holds a latency table; and what became of a table on its way in or out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from latency_nas.table.latency_table import LatencyTable

__all__ = ["NOT_STATED", "ExportReport", "Format", "ImportReport"]

NOT_STATED = "not stated"  # an engine, where its file does not say which


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What became of a foreign table's keys.

    Args:
        n_keys: keys in the file.
        n_used: keys that a row of the table rests on.
        merged: for each row made of several keys, its kernel and those keys; its latency is that of the first key
            with a stated batch.
        skipped: for each key that could not be used, why.
        remarks: What else a user should know of the table, a sentence each.
    """

    n_keys: int
    n_used: int
    merged: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.n_used} of {self.n_keys} keys used; {len(self.merged)} kernels stood under several keys."]
        return "\n".join([*lines, *self.remarks, *(f"not used: {key!r}: {why}" for key, why in self.skipped.items())])


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """What became of a table that was written in another format.

    Args:
        path: The file.
        n_rows: Number of kernels that it holds.
        lost: What the table has and the format cannot say, a phrase each.
    """

    path: Path
    n_rows: int
    lost: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([f"{self.path}: {self.n_rows} kernels", *(f"lost: {phrase}" for phrase in self.lost)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A kind of file that holds a latency table.

    Args:
        title: What messages call it.
        suffixes: Endings of its files, with the dot.
        recognises: Whether a file's first 64 KiB, and its path, are of this format. It must not run anything.
        read: Reader of a file: ``read(path, **options)`` gives the table, alone or with an `ImportReport`.
        write: Writer: ``write(table, path, **options)`` gives the path, or an `ExportReport` where something is lost;
            None if the format is only read.
        read_options: Names of the reader's options, and what each is.
        write_options: Names of the writer's options, and what each is.
    """

    title: str
    suffixes: tuple[str, ...]
    recognises: Callable[[bytes, Path], bool]
    read: Callable[..., LatencyTable | tuple[LatencyTable, ImportReport]]
    write: Callable[..., Path | ExportReport] | None = None
    read_options: Mapping[str, str] = field(default_factory=dict)
    write_options: Mapping[str, str] = field(default_factory=dict)
