"""Measures ``x86-mnn`` with this library's own meter, on this machine: ``python -m derive.this_machine``.

Some of the published networks are metered. The expected error is that of other networks, most of whose kernels are not
in the table. Recurrent layers and transformers are metered in sessions of their own.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from derive.computing import bounded, looked_up, of_positives, resized
from derive.networks import NETWORKS
from derive.recurrent import recurrent_kernels
from derive.transformers import activations, transformers
from latency_nas.estimate import LatencyEstimator
from latency_nas.estimate.conformal import error_bound
from latency_nas.estimate.regressor.fit_cache import stored_forms
from latency_nas.estimate.regressor.regressor import with_fitted_forms
from latency_nas.graph import OpGraph
from latency_nas.graph.torch.reader import read_torch
from latency_nas.measure.meter import measure_networks, measure_table
from latency_nas.table import LatencyTable, save_table

__all__ = ["METERED", "OTHERS", "joined"]

METERED = (
    "MobileNetV1_x0.5", "MobileNetV1_x1", "MobileNetV2_x0.5", "MobileNetV2_x0.75", "MobileNetV2_x1",
    "MobileNetV3_large_x0.5", "MobileNetV3_large_x1", "MobileNetV3_small_x0.5", "MobileNetV3_small_x1.25",
    "PPLCNet_x0.5", "PPLCNet_x1", "SqueezeNet", "ResNet18", "MnasNet", "InceptionV2",
)  # fmt: skip
OTHERS = (
    "MobileNetV1_x0.75", "MobileNetV2_x0.25", "MobileNetV3_large_x0.75", "MobileNetV3_small_x1", "PPLCNet_x0.75",
    "PPLCNetV2", "MobileFaceNet",
)  # fmt: skip

_DEVICE = "x86-64 virtual machine"


def _graph(name: str) -> OpGraph:
    make, size = NETWORKS[name]
    with torch.device("meta"):
        network = make()
    return read_torch(network, input_shape=(1, 3, size, size))


def _sessions() -> Iterator[LatencyTable]:
    """Tables of recurrent layers, which are timed whole, of what transformers run, and of ops that compute."""
    yield measure_table(recurrent_kernels(), rounds=3, n_runs=4)
    yield measure_table([read_torch(network.eval(), input_shape=shape) for network, shape in transformers()], rounds=4)
    yield measure_table(activations(), rounds=4)
    for kernels in (bounded(), of_positives(), looked_up(), resized()):
        session = measure_table(kernels)
        rows = {kernel: entry for kernel, entry in session.items() if kernel in set(kernels)}
        yield LatencyTable.of(rows, session.datasheet)


def joined(table: LatencyTable, sessions: Iterable[LatencyTable]) -> LatencyTable:
    """A table with the rows of other sessions, at the speed at which its own yardstick ran; rows that it has stay.

    Families that it has forms of keep them, so that networks that it could price keep their price.
    """
    entries, sheet = dict(table.entries), table.datasheet
    for session in sessions:
        scale = (sheet.yardstick_ms or 1) / (session.datasheet.yardstick_ms or 1)
        for key, row in session.entries.items():
            std_ms = None if row.std_ms is None else row.std_ms * scale
            entries.setdefault(key, replace(row, latency_ms=row.latency_ms * scale, std_ms=std_ms))
        sources = (*sheet.sources, *session.datasheet.sources)
        notes = f"{sheet.notes}; {session.datasheet.notes}"
        sheet = replace(sheet, sources=sources, notes=notes, date=session.datasheet.date)
    forms = stored_forms(table)
    return with_fitted_forms(LatencyTable(entries, sheet, table.name), kept=forms and forms.families)


def main(target: Path) -> None:
    table = measure_table([_graph(name) for name in METERED], device=_DEVICE, rounds=4)
    others = [_graph(name) for name in OTHERS]
    estimator = LatencyEstimator(table, on_missing="regress")
    times, _ = measure_networks(others, rounds=4, yardstick_ms=table.datasheet.yardstick_ms)
    errors = []
    for name, graph, time in zip(OTHERS, others, times, strict=True):
        estimate = estimator.predict(graph)
        errors.append(estimate.latency_ms / time.latency_ms - 1)
        logging.info("%s: %s, measured %.3f ms (%+.1f%%)", name, estimate, time.latency_ms, 100 * errors[-1])
    sheet = replace(
        table.datasheet,
        expected_error=round(float(np.abs(errors).mean()), 6),
        error_90=round(error_bound(1 + np.array(errors), np.ones(len(errors))), 6),
        expected_error_method=f"{len(OTHERS)} networks that were not metered, most of their kernels regressed",
    )
    alone = with_fitted_forms(LatencyTable(table.entries, sheet, table.name))
    save_table(joined(alone, _sessions()), target)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1] / "x86-mnn.parquet")
