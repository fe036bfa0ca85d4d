"""`LatencyTable`: the latency of each kernel on one device, with one datasheet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from operator import index
from pathlib import Path
from types import MappingProxyType

from latency_nas.errors import MissingKernelError, TableError, short_repr
from latency_nas.kernel import Kernel
from latency_nas.table.datasheet import Datasheet, finite

__all__ = ["Entry", "LatencyTable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The latency of one kernel.

    Args:
        latency_ms: Time of the kernel in milliseconds, the statistic that the datasheet names.
        std_ms: Standard deviation of `latency_ms` over the networks that contain the kernel; None where unknown.
        n_samples: Number of timings behind `latency_ms`; 0 where unknown.
    """

    latency_ms: float
    std_ms: float | None = None
    n_samples: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "latency_ms", finite("latency_ms", self.latency_ms, zero=False))
        if self.std_ms is not None:
            object.__setattr__(self, "std_ms", finite("std_ms", self.std_ms))
        try:
            n_samples = -1 if isinstance(self.n_samples, bool) else index(self.n_samples)
        except TypeError:
            n_samples = -1
        if not 0 <= n_samples < 2**63:
            raise TableError(f"Expected `n_samples` to be an integer >= 0, but got {short_repr(self.n_samples)}.")
        object.__setattr__(self, "n_samples", n_samples)


@dataclass(frozen=True, slots=True, eq=False)
class LatencyTable:
    """An immutable table: kernel -> `Entry`.

    A kernel is looked up without the attributes that the datasheet lists as unrecorded.

    Args:
        entries: Rows by the kernel's key.
        datasheet: Conditions of all rows.
        name: Name of the table in messages: a file or a catalogue name.
        fitted: Fitted forms of the table's regressor, as bytes or as the path of their file. The table does not read
            them. None where there are none.

    Example:
        >>> sheet = Datasheet(device="Example board", engine="MNN", method="measured", threads=1)
        >>> relu = Kernel.of("relu", [(1, 8, 4, 4)], [(1, 8, 4, 4)])
        >>> table = LatencyTable.of({relu: Entry(latency_ms=0.5)}, sheet)
        >>> table[relu].latency_ms
        0.5
    """

    entries: Mapping[str, Entry]
    datasheet: Datasheet
    name: str = "unsaved table"
    fitted: Path | bytes | None = field(default=None, repr=False)
    _unrecorded: Mapping[str, tuple[str, ...]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        unrecorded: dict[str, tuple[str, ...]] = {}
        for text in self.datasheet.unrecorded:
            op, _, attribute = text.rpartition(".")
            unrecorded[op] = (*unrecorded.get(op, ()), attribute)
        object.__setattr__(self, "_unrecorded", unrecorded)
        object.__setattr__(self, "entries", MappingProxyType(dict(self.entries)))

    def __reduce__(self) -> tuple[type[LatencyTable], tuple[dict[str, Entry], Datasheet, str, Path | bytes | None]]:
        return LatencyTable, (dict(self.entries), self.datasheet, self.name, self.fitted)

    @classmethod
    def of(cls, entries: Mapping[Kernel, Entry], datasheet: Datasheet, *, name: str = "unsaved table") -> LatencyTable:
        """Make a table of kernels and rows.

        Raises:
            TableError: if a kernel has an attribute that the datasheet lists as unrecorded.
        """
        table = cls({kernel.key: entry for kernel, entry in entries.items()}, datasheet, name)
        for kernel in entries:
            if kernel.without(table._unrecorded.get(kernel.op, ())) is not kernel:
                raise TableError(f"Expected rows without what the datasheet calls unrecorded, but got {kernel}.")
        return table

    def stored(self, kernel: Kernel) -> Kernel:
        """The kernel as this table stores it: without the attributes that the datasheet lists as unrecorded."""
        unrecorded = self._unrecorded.get(kernel.op)
        return kernel.without(unrecorded) if unrecorded else kernel

    def get(self, kernel: Kernel) -> Entry | None:
        """The kernel's row, or None."""
        return self.entries.get(self.stored(kernel).key)

    def __getitem__(self, kernel: Kernel) -> Entry:
        entry = self.get(kernel)
        if entry is None:
            raise MissingKernelError(f"{self.name} has no row for {kernel}.")
        return entry

    def __contains__(self, kernel: Kernel) -> bool:
        return self.get(kernel) is not None

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Kernel]:
        return map(Kernel.parse, self.entries)

    def items(self) -> Iterator[tuple[Kernel, Entry]]:
        """Kernels and rows, in the table's order."""
        return zip(self, self.entries.values(), strict=True)

    def fingerprint(self) -> str:
        """SHA-256 of the rows and the datasheet, independent of the order of rows. Equal tables have equal ones."""
        rows = sorted((key, row.latency_ms, row.std_ms, row.n_samples) for key, row in self.entries.items())
        text = json.dumps([rows, self.datasheet.fingerprinted()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def __repr__(self) -> str:
        return f"<LatencyTable {self.name}: {len(self)} kernels. {self.datasheet}>"
