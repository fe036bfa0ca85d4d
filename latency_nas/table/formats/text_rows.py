"""Shared parts of the importers of text tables: lines, and rows that are used or skipped with a reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from latency_nas.errors import KernelError, TableError, TableFileError
from latency_nas.kernel import Kernel
from latency_nas.table.datasheet import Datasheet
from latency_nas.table.formats.format import ImportReport
from latency_nas.table.formats.plain_data import read_text
from latency_nas.table.latency_table import Entry, LatencyTable
from latency_nas.table.plausibility import check_plausible, check_unit

__all__ = ["known", "text_lines", "text_table", "window_out"]


def window_out(size: int, kernel: int, pad: int, stride: int, *, dilation: int = 1, ceil: bool = False) -> int:
    """Number of positions of a window along an axis that is padded equally on both sides."""
    return (size + 2 * pad - dilation * (kernel - 1) - 1 + (stride - 1 if ceil else 0)) // stride + 1


def known(readers: Mapping[str, Callable[..., Kernel]], op: str) -> Callable[..., Kernel]:
    """The reader for an op type.

    Raises:
        KernelError: if the op type is unknown.
    """
    if op not in readers:
        raise KernelError(f"the op type {op!r} is not known")
    return readers[op]


def text_lines(source: Path) -> list[str]:
    """The lines of a file except blank ones.

    Raises:
        TableFileError: if the file is not text, or is too large.
    """
    return [line for line in read_text(source).splitlines() if line.strip()]


def text_table(
    source: Path, rows: Iterator[tuple[str, Callable[[], Kernel], str]], sheet: Datasheet, to_ms: float
) -> tuple[LatencyTable, ImportReport]:
    """A table of rows, each with its text, a function that makes its kernel, and its latency as text.

    If several rows have the same kernel, the first one counts.

    Raises:
        TableFileError: if no row can be used, or most times are impossible.
    """
    entries: dict[Kernel, Entry] = {}
    texts: dict[Kernel, list[str]] = {}
    skipped: dict[str, str] = {}
    implausible: dict[Kernel, str] = {}
    n_rows = 0
    for text, make, latency in rows:
        n_rows += 1
        try:
            kernel = make()
            entry = Entry(latency_ms=float(latency) * to_ms)
        except (KernelError, TableError) as error:
            skipped[text] = str(error)
            continue
        except (ValueError, LookupError, ZeroDivisionError) as error:
            skipped[text] = f"a field cannot be read ({error})"
            continue
        try:
            check_plausible(kernel, entry.latency_ms, sheet)
        except TableError as error:
            skipped[text] = implausible[kernel] = str(error)
        else:
            entries.setdefault(kernel, entry)
            texts.setdefault(kernel, []).append(text)
    check_unit(str(source), {*entries, *implausible}, implausible)
    if not entries:
        first = next((f" ({text}: {reason.rstrip('.')})" for text, reason in skipped.items()), "")
        raise TableFileError(
            f"Expected rows of ops and latencies in {source}, but none of {n_rows} can be used{first}."
        )
    merged = {kernel.key: tuple(names) for kernel, names in texts.items() if len(names) > 1}
    n_used = sum(map(len, texts.values()))
    report = ImportReport(n_keys=n_rows, n_used=n_used, merged=merged, skipped=skipped)
    return LatencyTable.of(entries, sheet, name=str(source)), report
