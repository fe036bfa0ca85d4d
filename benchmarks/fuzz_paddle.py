"""Feeds damaged Paddle programs to the readers: each must be read, or refused with a `GraphError`, within a second.

    python benchmarks/fuzz_paddle.py FOLDER --n 200000

FOLDER holds valid ``.pdmodel`` and ``.json`` files, such as ``tests/paddle_zoo.py`` exports. Each format gets `n`
inputs: truncated, with bytes changed, removed, repeated or moved, combined from parts of several files, or with numbers
and names of fields replaced. A program that is read must also fuse. Prints one line for each format.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from latency_nas.engine import fuse
from latency_nas.errors import LatencyNASError
from latency_nas.graph.paddle.proto import ProgramDesc
from latency_nas.graph.paddle.reader import read_paddle

_NUMBERS = (-(2**63), -(2**31), -2, -1, 0, 1, 2, 7, 2**31 - 1, 2**63 - 1)
_SLOW_S = 1.0


def _bytes(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        at, size = rng.randrange(len(out) + 1), rng.choice((1, 1, 4, 64, 1024))
        kind = rng.randrange(6)
        if kind == 0:
            del out[at:]
        elif kind == 1:
            del out[at : at + size]
        elif kind == 2:
            out[at : at + size] = rng.randbytes(size)
        elif kind == 3:
            out[at:at] = out[at : at + size]
        elif kind == 4 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        else:
            other = rng.choice(others)
            start = rng.randrange(len(other))
            out[at : at + size] = other[start : start + size]
    return bytes(out)


def _program(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Replace fields: the result is valid protobuf, but an invalid program."""
    program = ProgramDesc.FromString(data)
    block = program.blocks[0]
    names = [variable.name for variable in block.vars]
    for _ in range(rng.choice((1, 1, 2, 8))):
        op, kind = rng.choice(block.ops), rng.randrange(8)
        slots = [slot for slot in (*op.inputs, *op.outputs) if slot.arguments]
        attrs = [attr for attr in op.attrs if attr.ints or attr.longs]
        dims = rng.choice(block.vars).type.dense_tensor.tensor.dims
        if kind == 0:
            op.type = rng.choice(block.ops).type
        elif kind == 1 and slots:
            rng.choice(slots).arguments[0] = rng.choice(names)
        elif kind == 2 and slots:
            rng.choice(slots).parameter = rng.choice(("X", "Y", "Filter", "Out", "Bias", "Ids"))
        elif kind == 3 and attrs:
            values = rng.choice(attrs).ints
            values[:] = [max(-(2**31), min(rng.choice(_NUMBERS), 2**31 - 1)) for _ in range(rng.randrange(6))]
        elif kind == 4 and op.attrs:
            op.attrs.remove(rng.choice(op.attrs))
        elif kind == 5 and op.attrs:
            rng.choice(op.attrs).type = rng.randrange(20)
        elif kind == 6:
            dims[:] = [rng.choice(_NUMBERS) for _ in range(rng.randrange(10))]
        elif len(block.ops) > 1:
            block.ops.remove(op)
    return bytes(program.SerializeToString())


def _pir(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Replace fields: the result is valid JSON, but an invalid program."""
    content = json.loads(data)
    ops = content["program"]["regions"][0]["blocks"][0]["ops"]
    for _ in range(rng.choice((1, 1, 2, 8))):
        holder: Any = rng.choice(ops)
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            if not keys:
                break
            key = rng.choice(keys)
            if isinstance(holder[key], dict | list) and rng.random() < 0.8:
                holder = holder[key]
                continue
            if rng.random() < 0.3:
                del holder[key]
            else:
                others = (None, "", "x", "1.add", 1.5, True, [], {}, [[]], {"#": "0.a_i32", "D": 2}, rng.choice(ops))
                holder[key] = rng.choice((*_NUMBERS, *others))
            break
    try:
        return json.dumps(content).encode()
    except ValueError:  # an operator put into itself
        return data[: rng.randrange(len(data))]


_STRUCTURED: dict[str, Callable[[bytes, list[bytes], random.Random], bytes]] = {".pdmodel": _program, ".json": _pir}


def fuzz(suffix: str, files: list[bytes], n: int, seed: int) -> str:
    """Run `n` inputs of one format; the line that is printed."""
    rng, outcomes, slowest, broken = random.Random(seed), Counter[str](), 0.0, Counter[str]()  # noqa: S311
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"x{suffix}"
        for _ in range(n):
            change = rng.choice((_bytes, _STRUCTURED[suffix], _STRUCTURED[suffix]))
            path.write_bytes(change(rng.choice(files), files, rng))
            start = time.perf_counter()
            signal.setitimer(signal.ITIMER_REAL, 20)
            try:
                fuse(read_paddle(path, input_shape=rng.choice((None, (1, 3, 64, 64)))), "Paddle-Lite")
                outcomes["read"] += 1
            except LatencyNASError as error:
                outcomes[type(error).__name__] += 1
            except Exception:
                broken[traceback.format_exc(limit=-2)] += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            slowest = max(slowest, time.perf_counter() - start)
    report = "\n".join(f"{count} x {text}" for text, count in broken.most_common(8))
    return f"{suffix}: {n} inputs, {dict(outcomes)}, {sum(broken.values())} crashes, slowest {slowest:.3f} s\n{report}"


def main() -> None:
    """Fuzz both formats."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=list(_STRUCTURED))
    args = parser.parse_args()
    for suffix in [args.only] if args.only else _STRUCTURED:
        files = [path.read_bytes() for path in sorted(args.folder.glob(f"*{suffix}"))]
        print(fuzz(suffix, files, args.n, args.seed), flush=True)


if __name__ == "__main__":
    main()
