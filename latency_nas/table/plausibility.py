"""Rows that no processor could have produced: times in another unit, or of another kernel.

Both bounds are far from every real row of the tables that were seen, phones, boards and servers alike. The fastest of
45,000 makes 1.3e8 multiply-accumulates a millisecond, an eightieth of the bound; the slowest takes a fiftieth of the
other bound.
"""

from __future__ import annotations

from latency_nas.errors import TableError
from latency_nas.kernel import Kernel, n_bytes, n_macs
from latency_nas.table.datasheet import Datasheet

__all__ = ["check_plausible"]

# Multiply-accumulates a millisecond of one thread: what the matrix units of a server's core reach in int8 (2,048 a
# cycle at 3 GHz), and half as much again, since convolutions by Winograd's products multiply less than is counted.
_MAX_MACS_A_MS = 1e10
_MAX_THREADS = 256  # of a processor whose table does not state them
_MAX_OF_OTHER_BACKENDS = 1e13  # several times the fastest accelerator of a data centre

# The slowest device that runs an inference engine, under emulation: a second for anything, and a megabyte and a million
# multiply-accumulates a second.
_ANYTHING_MS = 1e3
_MIN_A_MS = 1e3


def check_plausible(kernel: Kernel, latency_ms: float, sheet: Datasheet) -> None:
    """Refuse a time that the kernel cannot take.

    Args:
        kernel: The row's kernel.
        latency_ms: The row's time.
        sheet: Datasheet of the table, whose threads and backend count.

    Raises:
        TableError: if it is too short or too long; the message says by what.

    Example:
        >>> sheet = Datasheet(device="Board", engine="MNN", method="imported", threads=1)
        >>> check_plausible(Kernel.of("linear", [(1, 1024)], [(1, 1000)]), 0.05, sheet)
    """
    macs = n_macs(kernel)
    most = _MAX_OF_OTHER_BACKENDS
    if sheet.backend == "CPU":
        most = _MAX_MACS_A_MS * (sheet.threads or _MAX_THREADS)
    if macs > most * latency_ms:
        raise TableError(
            f"{latency_ms:.4g} ms for {macs:.3g} multiply-accumulates is faster than any processor: the time is of "
            f"another unit, or of another kernel"
        )
    if latency_ms > _ANYTHING_MS + (macs + n_bytes(kernel)) / _MIN_A_MS:
        raise TableError(
            f"{latency_ms:.4g} ms for {macs:.3g} multiply-accumulates and {n_bytes(kernel):.3g} bytes is slower than "
            f"any processor: the time is of another unit, or of another kernel"
        )
