"""Feeds damaged ONNX models to the reader: each must be read, or refused with an error of ours, within a second.

    python benchmarks/fuzz_onnx.py --n 200000

The inputs are the models of `SOUND`: truncated, with bytes changed, removed, repeated or moved, or with fields, names,
sizes and nodes replaced. A model that is read must also fuse. Each process runs 1000 inputs, so that crashes of native
code are detected, too. Prints one line, and a traceback for each kind of failure.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import onnx
from onnx import parser

from latency_nas.engine import read_branches
from latency_nas.errors import InputMismatchError, LatencyNASError

_HEAD = '<ir_version: 9, opset_import: ["": {}]>'
SOUND = (
    _HEAD.format(18)
    + """
    g (float[1, 8, 8, 8] x) => (float[1, 10] y) <int64[4] ws = {8, 8, 3, 3}, int64[2] fs = {512, 10}, int64[1] bs = {8},
      int64[2] flat = {1, -1}, float zero = {0}, float six = {6}> {
      w = ConstantOfShape(ws)
      b = ConstantOfShape(bs)
      v = ConstantOfShape(fs)
      c = Conv <pads = [1, 1, 1, 1]> (x, w, b)
      n = BatchNormalization (c, b, b, b, b)
      r = Clip(n, zero, six)
      a = Add(r, x)
      p = MaxPool <kernel_shape = [3, 3], auto_pad = "SAME_UPPER"> (a)
      f = Reshape(p, flat)
      y = MatMul(f, v)
    }""",
    _HEAD.format(13)
    + """
    g (float[1, 4, 16] x) => (float[1, 4, 16] y) <int64[2] ws = {16, 48}, int64[1] two = {2}, int64[1] one = {1},
      int64[1] zero = {0}, float half = {0.5}, int64[3] sizes = {16, 16, 16}> {
      w = ConstantOfShape(ws)
      h = MatMul(x, w)
      q, k, v = Split <axis = 2> (h, sizes)
      s = Shape(k)
      last = Gather <axis = 0> (s, two)
      first = Slice(s, zero, two)
      back = Concat <axis = 0> (first, last)
      t = Transpose <perm = [0, 2, 1]> (k)
      m = MatMul(q, t)
      e = Mul(m, half)
      p = Softmax <axis = -1> (e)
      o = MatMul(p, v)
      r = Reshape(o, back)
      u = Unsqueeze(r, zero)
      d = Squeeze(u, zero)
      g = Erf(d)
      y = Where(bad, g, d)
    }""".replace("y = Where(bad, g, d)", "z = ReduceMean <axes = [2], keepdims = 1> (g)\n y = Sub(g, z)"),
    _HEAD.format(13)
    + """
    g (float[N, 3, 8, 8] x) => (float[N, 3, 16, 16] y) <float scale = {0.1}, int8 point = {3},
      int64[4] ws = {3, 3, 1, 1},
      float[4] scales = {1, 1, 2, 2}, int64[8] pads = {0, 0, 1, 1, 0, 0, 1, 1}> {
      w = ConstantOfShape(ws)
      q = QuantizeLinear(x, scale, point)
      d = DequantizeLinear(q, scale, point)
      wq = QuantizeLinear(w, scale, point)
      wd = DequantizeLinear(wq, scale, point)
      c = Conv(d, wd)
      e = QuantizeLinear(c, scale, point)
      h = DequantizeLinear(e, scale, point)
      p = Pad(h, pads)
      a = AveragePool <kernel_shape = [3, 3]> (p)
      r = Resize(a, , scales)
      g = GlobalAveragePool(r)
      y = Mul(r, g)
    }""",
    _HEAD.format(18)
    + """
    g (float[1, 8] x, bool c, int64 n) => (float[1, 8] y, float[1, 8] h, float[4, 1, 8] all) <int64[2] ws = {8, 8},
      int64 four = {4}, int64[1] one = {1}, int64[1] zero = {0}> {
      w = ConstantOfShape(ws)
      s = Shape(x)
      b = Gather(s, zero)
      e = Equal(b, one)
      k = If(e) <then_branch = g1 () => (float[1, 8] a) { a = Relu(x) },
                 else_branch = g2 () => (float[1, 8] a) { a = MatMul(x, w) }>
      y = If(c) <then_branch = g3 () => (float[1, 8] a) { d = Abs(k)
                   a = If(e) <then_branch = g4 () => (float[1, 8] d) { d = Neg(k) },
                              else_branch = g5 () => (float[1, 8] v) { v = Sin(k) }> },
                 else_branch = g6 () => (float[1, 8] d) { d = Tanh(k) }>
      h, all = Loop(four, , y) <body = g7 (int64 i, bool t, float[1, 8] p) =>
                   (bool u, float[1, 8] q, float[1, 8] r) {
                   u = Less(i, four)
                   q = MatMul(p, w)
                   r = Relu(q) }>
    }""",
    _HEAD.format(18)
    + """
    g (float[1, 8] h0, float[5, 1, 8] x) => (float[1, 8] h, float[5, 1, 8] all, float[5, 1, 1, 16] y)
      <int64[3] wi = {1, 64, 8}, int64[3] wr = {1, 64, 16}, int32[1] lens = {5}> {
      w = ConstantOfShape(wi)
      r = ConstantOfShape(wr)
      h, all = Scan(h0, x) <num_scan_inputs = 1, body = b (float[1, 8] p, float[1, 8] q) =>
                 (float[1, 8] s, float[1, 8] t) { s = Add(p, q)
                   t = Tanh(s) }>
      y, , = LSTM <hidden_size = 16> (x, w, r, , lens)
    }""",
    _HEAD.format(18).replace("]>", ', "com.microsoft": 1, "f": 1]>')
    + """
    g (float[1, 4, 16] x, uint8[1, 4, 16] q) => (float[1, 4, 16] y, uint8[1, 4, 16] z, float[1, 4, 8] v)
      <int64[2] ws = {16, 48}, int64[1] bs = {16}, float scale = {0.1}, uint8 point = {3}> {
      w = ConstantOfShape(ws)
      b = ConstantOfShape(bs)
      a = com.microsoft.Attention <num_heads = 2> (x, w)
      n = com.microsoft.SkipLayerNormalization(a, x, b, b)
      g = com.microsoft.BiasGelu(n, b)
      y = f.outer <k: float = 0.5> (g)
      z = com.microsoft.QLinearAdd(q, scale, point, q, scale, point, scale, point)
      i, sc, zp = DynamicQuantizeLinear(y)
      e = com.microsoft.QuickGelu(y)
      m = com.microsoft.FusedMatMul <transB = 1, alpha = 0.5> (e, e)
      l = ReduceL2 <axes = [1], keepdims = 1> (m)
      u = Concat <axis = 2> (m, m)
      v = Mul(u, u)
    }
    <opset_import: ["": 18, "f": 1], domain: "f"> outer <k> (x) => (y) { t = Relu(x)
      y = f.inner <alpha: float = @k> (t) }
    <opset_import: ["": 18], domain: "f"> inner <alpha> (x) => (y) { y = LeakyRelu <alpha: float = @alpha> (x) }""",
)  # fmt: skip
_NUMBERS = (-(2**63), -(2**31), -2, -1, 0, 1, 2, 7, 2**31 - 1, 2**63 - 1)
_MEMORY_BYTES = 4 * 2**30


def changed_bytes(data: bytes, rng: random.Random) -> bytes:
    """Damage bytes: the result is rarely valid protobuf."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        at, size = rng.randrange(len(out) + 1), rng.choice((1, 1, 4, 64))
        change: list[Callable[[], Any]] = [
            lambda at=at: out.__delitem__(slice(at, None)),
            lambda at=at, size=size: out.__delitem__(slice(at, at + size)),
            lambda at=at, size=size: out.__setitem__(slice(at, at + size), rng.randbytes(size)),
            lambda at=at, size=size: out.__setitem__(slice(at, at), out[at : at + size]),
            lambda at=at: at < len(out) and out.__setitem__(at, out[at] ^ 1 << rng.randrange(8)),
        ]
        rng.choice(change)()
    return bytes(out)


def _fields(data: bytes, rng: random.Random) -> bytes:
    """Set, repeat or remove any field of any message: the result is valid protobuf, but an invalid model."""
    model = onnx.ModelProto.FromString(data)
    names = [name for node in model.graph.node for name in (*node.input, *node.output)]
    for _ in range(rng.choice((1, 1, 2, 8))):
        message: Any = model if rng.random() < 0.05 else rng.choice(model.graph.node or [model])
        if rng.random() < 0.3:
            message = rng.choice([*model.graph.initializer, *model.graph.input, *model.graph.output, model.graph])
        while True:
            fields = message.ListFields()
            field, value = rng.choice(fields) if fields else (None, None)
            if field is None:
                break
            repeated = not isinstance(value, str | bytes | int | float) and hasattr(value, "__len__")
            item = rng.choice(value) if repeated and len(value) else value
            if hasattr(item, "ListFields") and rng.random() < 0.7:
                message = item
                continue
            _replace(message, field.name, value, repeated, names, rng)
            break
    return model.SerializeToString()


def _replace(message: Any, name: str, value: Any, repeated: bool, names: Sequence[str], rng: random.Random) -> None:
    kind = rng.randrange(4)
    item = value[0] if repeated and len(value) else value
    replacement: Any = None
    if isinstance(item, str):
        replacement = rng.choice(
            (*names, "", "x", "Conv", "MatMul", "Loop", "If", "Scan", "com.microsoft", "axis", "Reshape", "axes")
        )
    elif isinstance(item, int):
        replacement = rng.choice(_NUMBERS)
    elif isinstance(item, float):
        replacement = rng.choice((0.0, -1.0, float("nan"), float("inf"), 1e38))
    elif isinstance(item, bytes):
        replacement = rng.randbytes(rng.randrange(9))
    try:
        if kind == 0 or replacement is None:
            message.ClearField(name)
        elif not repeated:
            setattr(message, name, replacement)
        elif kind == 1:
            value.append(replacement)
        else:
            value[rng.randrange(len(value))] = replacement
    except (TypeError, ValueError):  # a number that the field does not hold
        message.ClearField(name)


@cache
def _sound(text: str) -> bytes:
    return bytes(parser.parse_model(text).SerializeToString())


def damaged(number: int) -> bytes:
    """The input of that number."""
    rng = random.Random(number)  # noqa: S311
    data = _sound(rng.choice(SOUND))
    return changed_bytes(data, rng) if rng.random() < 0.4 else _fields(data, rng)


def outcome(data: bytes, shape: tuple[int, ...] | None = None) -> str:
    """``"read"``, the name of our error, or the traceback of another; of an open input also with a shape."""
    try:
        read_branches(data, "MNN", input_shape=shape)
    except InputMismatchError as error:
        return outcome(data, (2, 3, 8, 8)) if shape is None else type(error).__name__
    except LatencyNASError as error:
        return type(error).__name__
    except Exception:
        return traceback.format_exc(limit=-3)
    return "read"


def _work(
    first: int, n: int, at: Any, answer: Any, damaged: Callable[[int], bytes], outcome: Callable[[bytes], str]
) -> None:
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + _MEMORY_BYTES, held + _MEMORY_BYTES))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    outcomes, slowest = Counter[str](), 0.0
    for number in range(first, first + n):
        at.value = number
        data = damaged(number)
        signal.setitimer(signal.ITIMER_REAL, 20)  # ends the process
        start = time.perf_counter()
        outcomes[outcome(data)] += 1
        slowest = max(slowest, time.perf_counter() - start)
    answer.send((outcomes, slowest))


def fuzz(
    n: int, seed: int = 0, *, chunk: int = 1000,
    damaged: Callable[[int], bytes] = damaged, outcome: Callable[[bytes], str] = outcome,
) -> tuple[Counter[str], float]:  # fmt: skip
    """Run `n` inputs; how many had which outcome, and the seconds of the slowest."""
    outcomes, slowest = Counter[str](), 0.0
    context = multiprocessing.get_context("fork")
    first, end = seed * 10**9, seed * 10**9 + n
    while first < end:
        at, (receiver, sender) = context.Value("q", first), context.Pipe(duplex=False)
        size = min(chunk, end - first)
        process = context.Process(target=_work, args=(first, size, at, sender, damaged, outcome))
        process.start()
        sender.close()
        try:
            counted, slow = receiver.recv()
            outcomes, slowest, first = outcomes + counted, max(slowest, slow), first + size
        except EOFError:  # killed: go on behind the input that did it
            process.join()
            outcomes[f"input {at.value} ended the process ({process.exitcode})"] += 1
            first = at.value + 1
        process.join()
    return outcomes, slowest


def report(n: int, outcomes: Counter[str], slowest: float) -> None:
    """Print how many inputs had which outcome."""
    sound = {name: count for name, count in outcomes.items() if name.isidentifier()}
    broken = {name: count for name, count in outcomes.items() if not name.isidentifier()}
    print(f"{n} inputs: {sound}, {sum(broken.values())} crashes, slowest {slowest:.3f} s")
    for name, count in sorted(broken.items(), key=lambda item: -item[1])[:8]:
        print(f"{count} x {name}")


def main() -> None:
    """Fuzz, and print what came of it."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--n", type=int, default=200_000)
    arguments.add_argument("--seed", type=int, default=0)
    args = arguments.parse_args()
    report(args.n, *fuzz(args.n, args.seed))


if __name__ == "__main__":
    main()
