"""Compares the kernels that the rules give for MNN with the ops that MNN executes, for the zoo of the tests.

    PYTHONPATH=. python benchmarks/fusion_mnn.py [--exporter]

Each network is converted by this library's writer, or with ``--exporter`` by torch's own exporter. With the exporter,
the kernels that are read from the ONNX file are also compared with those read from torch. Prints a line for each
network.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from latency_nas.engine.mnn.converter import convert
from latency_nas.engine.mnn.fusion import fuse_mnn
from latency_nas.engine.mnn.mnn_engine import MNN
from latency_nas.errors import MeasureError
from latency_nas.graph.onnx.reader import read_onnx
from latency_nas.graph.torch.onnx_export import export_onnx
from latency_nas.graph.torch.reader import read_torch
from tests.mnn_network import executed_ops
from tests.zoo import ZOO, example_input


def report(name: str, folder: Path, *, exporter: bool) -> str:
    """The result for one network."""
    model = ZOO[name][0]()
    graph = read_torch(model, example_input(name))
    calls = fuse_mnn(graph)
    source = folder / "net.onnx"
    if exporter:
        for key, parameter in model.named_parameters():
            if key.endswith("bias"):  # the exporter drops those that are zero
                torch.nn.init.uniform_(parameter)
        export_onnx(model, example_input(name), source)
        read = [call.kernel for call in fuse_mnn(read_onnx(source))]
        same = f", from ONNX {'the same' if read == [call.kernel for call in calls] else 'OTHER'}"
    executed = executed_ops(convert(source if exporter else graph, folder / "net.mnn"))
    expected = MNN().executed_ops(calls)
    order = sorted(map(repr, executed)) == sorted(map(repr, expected))
    found = "in order" if MNN().agree(executed, expected) else "in another order" if order else "DIFFERENT"
    return f"{len(expected)} kernels, {len(executed)} ops, {found}{same if exporter else ''}"


def main() -> None:
    """Go through the zoo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exporter", action="store_true")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    for name in args.names or ZOO:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            try:
                text = report(name, Path(folder), exporter=args.exporter)
            except MeasureError as error:
                text = f"NOT RUN: {str(error)[:200]}"
        print(f"{name}: {text} ({time.perf_counter() - start:.1f} s)", flush=True)


if __name__ == "__main__":
    main()
