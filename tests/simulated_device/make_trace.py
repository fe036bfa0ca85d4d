"""Derives ``trace.int16`` from the recording of a shared machine: ``python make_trace.py x86_two_cores.parquet``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from pyarrow import parquet

FIRST, N_ROWS = 4800, 2400  # 59 s with fast, slow and mixed seconds
HERE = Path(__file__).parent


def derived(recording: Path) -> np.ndarray:
    """How much slower than its stable time everything was, in ten-thousandths of a logarithm: ``(rows, 8)``, by time.

    Times are divided by their tenth percentile, the stable time. Networks are slowed by more than the yardstick is;
    their logarithms are scaled to the yardstick's spread, so that one speed describes both.
    """
    table = parquet.read_table(recording)
    logs = np.log(np.stack([table[name].to_numpy().astype(float) for name in table.column_names], axis=1))
    slow = logs - np.quantile(logs, 0.1, axis=0)
    reach = np.quantile(slow, 0.85, axis=0)
    yardstick = (reach[0] + reach[-1]) / 2
    return np.rint(1e4 * (slow * yardstick / reach)[FIRST : FIRST + N_ROWS]).astype("<i2")


if __name__ == "__main__":
    (HERE / "simulated_device" / "trace.int16").write_bytes(derived(Path(sys.argv[1])).tobytes())
