"""Compares the kernels of the Paddle-Lite rules with the program of Paddle-Lite's own optimiser for ARM.

    python benchmarks/fusion_lite.py FOLDER [--input-shape 1,3,640,640]

FOLDER holds ``.pdmodel`` files with their ``.pdiparams``, as ``tests/paddle_zoo.py pdmodel FOLDER NAME...`` writes, or
of any origin. Where an ``.onnx`` file of the same name lies beside one, its kernels are compared too. Programs with
open sizes need the shape of their input. The optimiser runs in the Python that has Paddle-Lite. Prints a line for each
file, and the number of equal ones.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from latency_nas.engine import fuse
from latency_nas.engine.paddle_lite.lowering import lower_lite
from latency_nas.errors import LatencyNASError
from latency_nas.graph.reader import read_model
from latency_nas.kernel import Shape


def _compare(file: Path, shape: Shape | None) -> list[tuple[str, str]]:
    """The name of the file, and of that beside it, and how its kernels differ: "" if they do not."""
    theirs, lines = Counter(call.kernel.key for call in lower_lite(file, shape)), []
    for twin in [item for item in (file, file.with_suffix(".onnx")) if item.is_file()]:
        ours = Counter(call.kernel.key for call in fuse(read_model(twin, input_shape=shape), "Paddle-Lite"))
        extra, missing = sorted((ours - theirs).elements()), sorted((theirs - ours).elements())
        lines.append((f"{twin.name}: {theirs.total()} kernels", f"{extra} for {missing}" if ours != theirs else ""))
    return lines


def main() -> None:
    """Compare every network of the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--input-shape", type=lambda text: tuple(map(int, text.split(","))))
    args = parser.parse_args()
    lines = []
    for file in sorted(args.folder.glob("*.pdmodel")):
        try:
            lines += _compare(file, args.input_shape)
        except LatencyNASError as error:
            lines.append((file.name, f"no answer: {error}"))
    for name, difference in lines:
        print(f"{name}, {difference or 'equal'}")
    print(f"{sum(not difference for _, difference in lines)} of {len(lines)} files equal")


if __name__ == "__main__":
    main()
