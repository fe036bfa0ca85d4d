"""Recurrent layers of sizes that `x86-mnn` has no rows of: predicted, and measured by MNN on this machine.

    python benchmarks/recurrent.py [ROUNDS]

The layers are measured in random alternation, each beside the yardstick, at whose speed both times are given. A line a
layer: predicted, measured, and their ratio. The table is of an AMD EPYC: on another processor the ratios say how far
that is from it. On a busy machine more rounds help; a time that was disturbed has a large ±.
"""

from __future__ import annotations

import sys

from latency_nas import Kernel, LatencyEstimator, measure_table
from latency_nas.kernel.kernel_call import KernelCall

# op, steps, features, hidden size, directions
_LAYERS = (
    ("lstm", 1000, 64, 64, 1), ("lstm", 1000, 40, 128, 1), ("lstm", 1000, 80, 256, 1), ("lstm", 1000, 20, 32, 1),
    ("lstm", 1000, 128, 128, 2), ("lstm", 300, 256, 512, 1), ("gru", 1000, 64, 64, 1), ("gru", 1000, 96, 192, 2),
    ("rnn", 1000, 64, 128, 1),
)  # fmt: skip


def _kernel(op: str, steps: int, features: int, hidden: int, directions: int) -> Kernel:
    both = {"directions": directions} if directions > 1 else {}
    return Kernel.of(op, [(steps, 1, features)], [(steps, 1, directions * hidden)], hidden=hidden, **both)


def _main() -> None:
    estimator = LatencyEstimator("x86-mnn", on_missing="regress")
    measured = measure_table([_kernel(*layer) for layer in _LAYERS], rounds=int((sys.argv[1:] or ["4"])[0]))
    scale = (estimator.table.datasheet.yardstick_ms or 1) / (measured.datasheet.yardstick_ms or 1)
    for kernel, row in measured.items():
        predicted = estimator.price([KernelCall(kernel=kernel, layer="", nodes=())])
        measured_ms = row.latency_ms * scale
        print(
            f"{kernel}: predicted {predicted.latency_ms:.2f} ± {predicted.std_ms or 0:.2f} ms, measured "
            f"{measured_ms:.2f} ± {(row.std_ms or 0) * scale:.2f} ms, ratio {predicted.latency_ms / measured_ms:.2f}"
        )
    print(measured.datasheet.notes)


if __name__ == "__main__":
    _main()
