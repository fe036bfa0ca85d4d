"""Detects rows that no processor could have produced: times in another unit, or of another kernel.

Both bounds are far from all real rows: of 45,000 rows of phones, boards and servers, the fastest has 1.3e8
multiply-accumulates per millisecond, an eightieth of the bound. The slowest takes a fiftieth of the other bound.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from latency_nas.errors import TableError, TableFileError
from latency_nas.kernel import Kernel, n_bytes, n_macs
from latency_nas.table.datasheet import Datasheet

__all__ = ["check_plausible", "check_unit"]

# Multiply-accumulates per millisecond of one thread: the rate of the matrix units of a server's core in int8 (2,048 per
# cycle at 3 GHz), and half as much again, since Winograd's convolutions multiply less than is counted.
_MAX_MACS_A_MS = 1e10
_MAX_THREADS = 256  # assumed where the table does not state them
_MAX_OF_OTHER_BACKENDS = 1e13  # several times the fastest accelerator of a data centre

# The slowest device that runs an inference engine, under emulation: one second for any kernel, plus one second for each
# million of bytes and multiply-accumulates.
_ANY_KERNEL_MS = 1e3
_MIN_A_MS = 1e3
_N_ROWS_TO_LEAVE_OUT = 2


def check_plausible(kernel: Kernel, latency_ms: float, sheet: Datasheet) -> None:
    """Refuse a time that the kernel cannot take.

    Args:
        kernel: Kernel of the row.
        latency_ms: Time of the row.
        sheet: Datasheet of the table. Its threads and backend set the bound.

    Raises:
        TableError: if the time is too short or too long. The message gives the figures.

    Example:
        >>> sheet = Datasheet(device="Board", engine="MNN", method="imported", threads=1)
        >>> check_plausible(Kernel.of("linear", [(1, 1024)], [(1, 1000)]), 0.05, sheet)
    """
    macs = n_macs(kernel)
    max_macs_per_ms = _MAX_OF_OTHER_BACKENDS
    if sheet.backend == "CPU":
        max_macs_per_ms = _MAX_MACS_A_MS * (sheet.threads or _MAX_THREADS)
    if macs > max_macs_per_ms * latency_ms:
        raise TableError(
            f"{latency_ms:.4g} ms for {macs:.3g} multiply-accumulates is faster than any processor: the time is of "
            f"another unit, or of another kernel"
        )
    if latency_ms <= _ANY_KERNEL_MS:  # nearly every row, whose bytes need not be counted
        return
    if latency_ms > _ANY_KERNEL_MS + (macs + n_bytes(kernel)) / _MIN_A_MS:
        raise TableError(
            f"{latency_ms:.4g} ms for {macs:.3g} multiply-accumulates and {n_bytes(kernel):.3g} bytes is slower than "
            f"any processor: the time is of another unit, or of another kernel"
        )


def check_unit(
    name: str, kernels: Collection[Kernel], implausible: Mapping[Kernel, str], *, has_unit: bool = False
) -> None:
    """Refuse a file most of whose times are impossible: the others are then in the same wrong unit.

    Args:
        name: Name of the file.
        kernels: Kernels of all rows that can be read. Those that multiply are judged, since the time of the others has
            no lower bound; if there are none, all are.
        implausible: Kernels with impossible times -> the reason, as `check_plausible` gives it. One or two are rows to
            leave out, whatever the number of kernels.
        has_unit: Whether the format's reader takes a unit, for the message.

    Raises:
        TableFileError: if the times of more than half of these kernels, and of three or more, are impossible.
    """
    judged = [kernel for kernel in kernels if n_macs(kernel)] or list(kernels)
    reasons = [implausible[kernel] for kernel in judged if kernel in implausible]
    if len(reasons) > max(_N_ROWS_TO_LEAVE_OUT, len(judged) // 2):
        unit = "state their unit by unit='us', or by --unit us on the command line, or " if has_unit else ""
        raise TableFileError(
            f"Expected times of kernels in {name}, but {len(reasons)} of {len(judged)} are impossible ({reasons[0]}): "
            f"{unit}convert them to milliseconds."
        )
