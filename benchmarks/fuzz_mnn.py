"""Feeds damaged ``.mnn`` files to the reader: each must be read, or refused with a `GraphError`, within a second.

    python benchmarks/fuzz_mnn.py FOLDER --n 200000

FOLDER holds valid ``.mnn`` files, the smaller the better. The inputs are truncated, have bytes changed, removed,
repeated or moved, or have numbers replaced. A file that is read must also fuse. Prints one line, and a traceback for
each kind of failure.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from fuzz_onnx import changed_bytes, fuzz, report

from latency_nas.engine import fuse
from latency_nas.errors import InputMismatchError, LatencyNASError
from latency_nas.graph.mnn.reader import read_mnn

_NUMBERS = (0, 1, 2, 3, 4, 127, 128, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1)


def damaged(files: Sequence[bytes], number: int) -> bytes:
    """The input of that number."""
    rng = random.Random(number)  # noqa: S311
    data = bytearray(rng.choice(files))
    if rng.random() < 0.4:
        return changed_bytes(bytes(data), rng)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = 4 * rng.randrange(len(data) // 4)
        data[at : at + 4] = rng.choice(_NUMBERS).to_bytes(4, "little")
    return bytes(data)


def outcome(data: bytes) -> str:
    """``"read"``, the name of our error, or the traceback of another; of an open input also with a shape."""
    with tempfile.NamedTemporaryFile(suffix=".mnn") as file:
        file.write(data)
        file.flush()
        for shape in (None, (1, 3, 32, 32)):
            try:
                fuse(read_mnn(file.name, input_shape=shape), "MNN")
            except InputMismatchError as error:
                name = type(error).__name__
            except LatencyNASError as error:
                return type(error).__name__
            except Exception:
                return traceback.format_exc(limit=-3)
            else:
                return "read"
    return name


def main() -> None:
    """Fuzz, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    files = [path.read_bytes() for path in sorted(args.folder.glob("*.mnn"))]
    report(args.n, *fuzz(args.n, args.seed, damaged=lambda number: damaged(files, number), outcome=outcome))


if __name__ == "__main__":
    main()
