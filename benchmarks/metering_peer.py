"""Runs mnn-meter 2.2.0 itself, in an environment of its own, with small shims so that it runs without a GPU.

    python benchmarks/metering_peer.py OPS.yaml FOLDER TIMES THREADS [NETWORKS.json]

`metering.py` starts it. It prints one line of JSON: the times of its two steps, the time inside inference, the number
of metered ops, and its predictions for the networks. The shims: `.cuda()` and ``device="cuda"`` do nothing.
``MNNConvert`` and ``MNNV2Basic.out``, which the wheel of MNN lacks, are scripts over that wheel. The second one also
times copies to and from the host, as the original does, and prints the same last line.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import stat
import sys
import time
from pathlib import Path
from typing import Any

import torch

_CONVERT = """#!{python}
import contextlib, os, sys
sink = os.open(os.devnull, os.O_WRONLY)
os.dup2(sink, 1)
import _tools
_tools.mnnconvert(sys.argv)
"""
_BASIC = """#!{python}
import os, sys, time
out = os.dup(1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
import MNN, numpy
network = MNN.Interpreter(sys.argv[1])
session = network.createSession({{"backend": "CPU", "numThread": {threads}, "precision": "high"}})
tensor, result = network.getSessionInput(session), network.getSessionOutput(session)
shape, written = tensor.getShape(), result.getShape()
host = MNN.Tensor(shape, tensor.getDataType(), numpy.zeros(shape, numpy.float32), MNN.Tensor_DimensionType_Caffe)
back = MNN.Tensor(written, result.getDataType(), numpy.zeros(written, numpy.float32), MNN.Tensor_DimensionType_Caffe)
times, inside = [], 0.0
for _ in range(int(sys.argv[2]) + 1):
    start = time.perf_counter()
    tensor.copyFrom(host)
    before = time.perf_counter()
    network.runSession(session)
    inside += time.perf_counter() - before
    result.copyToHostTensor(back)
    times.append((time.perf_counter() - start) * 1e3)
times = times[1:]
with open({log!r}, "a") as log:
    log.write(f"{{inside}}\\n")
os.write(out, b"Avg= %f ms, min= %f ms, max= %f ms\\n" % (sum(times) / len(times), min(times), max(times)))
"""


def install_shims(folder: Path, threads: int) -> Path:
    """Put the two programs on the PATH and make CUDA a no-op; the log is of seconds inside inference."""
    log = folder / "inference.log"
    for name, text in (("MNNConvert", _CONVERT), ("MNNV2Basic.out", _BASIC)):
        program = folder / name
        program.write_text(text.format(python=sys.executable, threads=threads, log=str(log)))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"
    torch.nn.Module.cuda = lambda module, *_: module  # type: ignore[method-assign,assignment]
    randn = torch.randn
    torch.randn = lambda *size, device=None, **options: randn(*size, **options)
    return log


def main() -> None:
    """Both of its steps, and its predictions."""
    ops, folder, times, threads, *networks = sys.argv[1:]
    Path(folder).mkdir(parents=True)
    log = install_shims(Path(folder), int(threads))
    answers = os.fdopen(os.dup(1), "w")
    with open(os.devnull, "w") as sink, contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):  # noqa: PTH123
        from mmt.converter import generate_ops_list
        from mmt.meter import meter_ops
        from mmt.parser import predict_latency

        logging.disable()
        start = time.perf_counter()
        generate_ops_list(ops, f"{folder}/ops")
        generated = time.perf_counter()
        meter_ops(f"{folder}/ops", times=int(times))
        metered = time.perf_counter()
        found: dict[str, Any] = {"generate_s": generated - start, "meter_s": metered - generated}
        found["inference_s"] = sum(map(float, log.read_text().split()))
        found["n_ops"] = len(log.read_text().split())
        found["predicted_ms"] = []
        if networks:
            from metering_spaces import SHAPES, network

            request = json.loads(Path(networks[0]).read_text())
            space = request["space"]
            for architecture in request["architectures"]:
                model, table = network(space, architecture), f"{folder}/ops/meta_latency.pkl"
                found["predicted_ms"].append(predict_latency(model, table, list(SHAPES[space])))
    answers.write(json.dumps(found) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
