"""Compares the kernels of the Paddle-Lite rules with the program of Paddle-Lite's own optimiser for ARM.

    python benchmarks/fusion_lite.py FOLDER

FOLDER holds ``.pdmodel`` files with their ``.pdiparams``, as ``tests/paddle_zoo.py pdmodel FOLDER NAME...`` writes.
The optimiser runs in the Python that has Paddle-Lite. Prints a line for each network, and the number of equal ones.
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
        extra, missing = sorted((ours - theirs).elements()), sorted((theirs - ours).elements())
        print(f"{file.stem}: {theirs.total()} kernels, {'equal' if ours == theirs else f'{extra} for {missing}'}")
    print(f"{n_equal} of {len(files)} networks equal")


if __name__ == "__main__":
    main()
