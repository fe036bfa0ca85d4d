"""Asks MNN for the kernels of ONNX and `.mnn` files, prices them, and compares them with the rules.

    PYTHONPATH=. python benchmarks/lower_mnn.py FOLDER [--table x86-mnn] [--input-shape FILE=1,3,48,320 ...]

Prints a line for each file of the folder: the kernels that MNN runs, how many of them the table has, how many are
regressed or missing, the latency, and the first kernel at which the rules deviate. ``--input-shape`` gives the shape of
a file's only input, or of one of several: ``FILE:input=1,50``.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections import defaultdict
from pathlib import Path

from latency_nas.errors import LatencyNASError
from latency_nas.estimate import LatencyEstimator
from latency_nas.graph.input_shapes import InputShape, parse_input_shapes


def shapes_of(texts: list[str]) -> dict[str, InputShape | None]:
    """Shapes by name of the file."""
    by_file: dict[str, list[str]] = defaultdict(list)
    for text in texts:
        name, _, shape = text.partition("=")
        file, _, tensor = name.partition(":")
        by_file[file].append(f"{tensor}={shape}" if tensor else shape)
    return {file: parse_input_shapes(found) for file, found in by_file.items()}


def report(estimator: LatencyEstimator, file: Path, input_shape: InputShape | None) -> str:
    """The result for one file."""
    start = time.perf_counter()
    try:
        lowered = estimator.lower(file, input_shape=input_shape, kernels="engine")
    except LatencyNASError as error:
        return f"NOT RUN: {str(error)[:200]}"
    seconds = time.perf_counter() - start
    estimate = estimator.price(lowered.calls)
    counts = ", ".join(f"{n} {source}" for source, n in estimate.sources.items())
    missing = sorted({item.kernel.op for item in estimate.kernels if item.source == "missing"})
    names = f" ({', '.join(missing)})" if missing else ""
    wrong = lowered.first_difference
    if lowered.rules is None:
        rules = f"the rules cannot read it: {lowered.unread[:100]}"
    else:
        rules = "the rules give the same" if wrong is None else f"rules {len(lowered.rules)}, differ at {wrong + 1}"
    return f"{len(lowered.calls)} kernels: {counts}{names}; {estimate.figure()}; {rules} ({seconds:.1f} s)"


def main() -> None:
    """Go through the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--table", default="x86-mnn")
    parser.add_argument("--input-shape", action="append", default=[])
    args = parser.parse_args()
    logging.disable()
    estimator, shapes = LatencyEstimator(args.table, on_missing="warn"), shapes_of(args.input_shape)
    for file in sorted(path for path in args.folder.iterdir() if path.suffix in {".onnx", ".mnn"}):
        print(f"{file.name}: {report(estimator, file, shapes.get(file.name))}", flush=True)


if __name__ == "__main__":
    main()
