"""A latency table as CSV, for a spreadsheet: one row a kernel, with its work beside its latency."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from latency_nas.kernel import n_bytes, n_flops, n_macs, n_params
from latency_nas.table.latency_table import LatencyTable

__all__ = ["export_csv"]

_COLUMNS = ("kernel", "op", "latency_ms", "std_ms", "n_samples", "macs", "flops", "parameters", "bytes")


def export_csv(table: LatencyTable, path: str | os.PathLike[str]) -> Path:
    """Write the rows of `table`; the datasheet stands in lines that begin with ``#``, above the header.

    Returns:
        The path.
    """
    target = Path(path)
    with target.open("w", newline="", encoding="utf-8") as file:
        for name, value in table.datasheet.to_dict().items():
            file.write(f"# {name}: {' '.join(str(value).split())}\n")
        rows = csv.writer(file)
        rows.writerow(_COLUMNS)
        for kernel, row in table.items():
            work = n_macs(kernel), n_flops(kernel), n_params(kernel), n_bytes(kernel)
            rows.writerow([kernel.key, kernel.op, row.latency_ms, row.std_ms, row.n_samples, *work])
    return target
