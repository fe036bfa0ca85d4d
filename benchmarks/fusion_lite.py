"""Holds the kernels of the Paddle-Lite rules against the program that Paddle-Lite's own optimiser makes for ARM.

    python benchmarks/fusion_lite.py FOLDER

FOLDER holds ``.pdmodel`` files with their ``.pdiparams``, as ``tests/paddle_zoo.py pdmodel FOLDER NAME...`` writes;
the optimiser runs in the Python that has Paddle-Lite. Prints a line a network, and how many are equal.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from latency_nas.engine import fuse
from latency_nas.engine.paddle_lite.environment import find_lite_python
from latency_nas.graph.paddle.reader import read_paddle

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.lite_oracle import kernels, optimised


def main() -> None:
    """Compare every network of the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    python, files = find_lite_python(), sorted(parser.parse_args().folder.glob("*.pdmodel"))
    n_equal = 0
    for file in files:
        with TemporaryDirectory() as folder:
            theirs = kernels(optimised(python, file, Path(folder)))
        ours = Counter(call.kernel.key for call in fuse(read_paddle(file), "Paddle-Lite"))
        n_equal += ours == theirs
        more, less = sorted((ours - theirs).elements()), sorted((theirs - ours).elements())
        print(f"{file.stem}: {theirs.total()} kernels, {'equal' if ours == theirs else f'{more} for {less}'}")
    print(f"{n_equal} of {len(files)} networks equal")


if __name__ == "__main__":
    main()
