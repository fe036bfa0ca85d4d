"""Times the path of a MobileNetV2 from its file or torch module to a latency: ours and that of other tools.

    python benchmarks/reading.py --nn-meter ENV/bin/python --paddleslim ENV/bin/python

nn-Meter 2.0 (with the ONNX file) and PaddleSlim 2.6.0 (with the ``.pdmodel``) run in Pythons of their own. These
options, or NN_METER_PYTHON and PADDLESLIM_PYTHON, name them; `tests/golden/paddleslim/make.py` describes how to make
the latter. A missing one is reported. All sides alternate; the first run of each is not counted; times are medians.
The forests of nn-Meter are no longer available. Its own builder fits replacements: its regressor for each kernel type
on a CPU, on 3,000 rows of its own sampler with invented latencies. They take as long as the originals or less, since
those were fitted to more rows. Their predictions mean nothing. The time of only reading the file and finding the
kernels is printed as well. Our times are of a warm process, which keeps kernels that it has made before, and also with
all kernels new.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

from latency_nas.engine import fuse
from latency_nas.engine.paddle_lite.program import rewrite_for_lite
from latency_nas.estimate import LatencyEstimator
from latency_nas.graph.reader import read_model
from latency_nas.kernel import shared_kernel
from latency_nas.table import Datasheet, Entry, LatencyTable

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))
from tests.paddle_zoo import export  # noqa: E402
from tests.zoo import ZOO  # noqa: E402

_BOUNDS_S = {"torch": 0.15, "ONNX": 0.1, ".pdmodel": 0.1, ".json": 0.1}
_ATLEAST = 20
_COMPARED = (
    ("nn-Meter with stand-in forests", "ONNX"),
    ("nn-Meter without its forests", "ONNX"),
    ("PaddleSlim", ".pdmodel"),
)

_SERVE = """
import sys, time
for _ in sys.stdin:
    once()
    start = time.perf_counter()
    once()
    print("seconds", time.perf_counter() - start, flush=True)
"""
_NN_METER_READING = """
import sys
from nn_meter.ir_converter import model_file_to_graph
from nn_meter.kernel_detector import KernelDetector
model, rules = sys.argv[1:]
def once():
    detector = KernelDetector(rules)
    detector.load_graph(model_file_to_graph(model, "onnx"))
    assert len(detector.get_kernels()) > 40
"""
_NN_METER = """
import sys
from math import prod
from nn_meter.builder.kernel_predictor_builder.data_sampler import config_sampler as samplers
from nn_meter.builder.kernel_predictor_builder.predictor_builder.extract_feature import get_feature_parser
from nn_meter.builder.kernel_predictor_builder.predictor_builder.predictor_lib import init_predictor
from nn_meter.predictor.nn_meter_predictor import nnMeterPredictor
model, rules = sys.argv[1:]
SAMPLERS = {
    "conv-bn-relu": samplers.ConvSampler, "dwconv-bn-relu": samplers.DwConvSampler, "fc": samplers.FCSampler,
    "add": samplers.HwCinSampler, "global-avgpool": samplers.GlobalAvgPoolSampler,
}
forests = {}
for kernel, sampler in SAMPLERS.items():
    parser = get_feature_parser(kernel)
    rows = [parser.get_feature_by_config(config) for config in sampler().prior_config_sampling(3000)]
    forests[kernel] = init_predictor(kernel, "tflite_cpu").set_params(oob_score=False)
    forests[kernel].fit(rows, [0.001 + 1e-6 * prod(row[:3]) for row in rows])
predictor = nnMeterPredictor(forests, rules)
def once():
    assert predictor.predict(model, "onnx") > 0
"""
_PADDLESLIM = """
import sys, contextlib, io
import matplotlib.backends.backend_pdf
from paddleslim.analysis import TableLatencyPredictor
model, weights, table = sys.argv[1:]
predictor = TableLatencyPredictor(table)
def once():
    predictor.predict(model_file=model, param_file=weights, data_type="fp32")
"""
_RULES = '{"MON": {"obey": 0}, "FN": {"obey": true}, "BF_conv_bn": {"obey": true}, "BF_conv_relu": {"obey": true}, '
_RULES += '"BF_dwconv_bn": {"obey": true}, "BF_dwconv_relu": {"obey": true}, "BF_conv_clip": {"obey": true}, '
_RULES += '"BF_dwconv_clip": {"obey": true}}'


class Peer:
    """Another tool in its own Python. Each call makes one run."""

    def __init__(self, python: str, code: str, *arguments: object) -> None:
        path = f"{Path(python).parent}:{os.environ['PATH']}"
        environment = {
            **os.environ,
            "PATH": path,
            "PYTHONPATH": "",
            "OMP_NUM_THREADS": "1",
            "HOME": tempfile.gettempdir(),
        }
        self._process = subprocess.Popen(  # noqa: S603 - this file's own code
            [python, "-c", code + _SERVE, *map(str, arguments)], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def __call__(self) -> float:
        """Seconds of one run, timed in the peer's own process."""
        requests, answers = self._process.stdin, self._process.stdout
        if requests is None or answers is None:
            raise RuntimeError("the peer was started without pipes")
        print(file=requests, flush=True)
        for line in answers:
            if line.startswith("seconds"):
                return float(line.split()[1])
        raise RuntimeError(f"the peer ended with exit status {self._process.wait()}")


def _ours(source: object, engine: str, *, first: bool = False) -> Callable[[], float]:
    shape = (1, 3, 64, 64)
    kernels = [call.kernel for call in fuse(read_model(source, input_shape=shape), engine)]
    sheet = Datasheet(device="Example board", engine=engine, method="measured")
    estimator = LatencyEstimator(LatencyTable.of({kernel: Entry(latency_ms=0.1) for kernel in kernels}, sheet))

    def once() -> float:
        estimator.predict(source, input_shape=shape)
        if first:
            shared_kernel.cache_clear()
        start = time.perf_counter()
        estimate = estimator.predict(source, input_shape=shape)
        took = time.perf_counter() - start
        if abs(estimate.latency_ms - 0.1 * len(kernels)) > 1e-9:
            raise RuntimeError(f"expected {len(kernels)} kernels of 0.1 ms, but got {estimate}")
        return took

    return once


def _sides(
    folder: Path, nn_meter: str | None, paddleslim: str | None, table: str | None
) -> dict[str, Callable[[], float]]:
    model = ZOO["MobileNetV2"][0]().eval()
    onnx = folder / "net.onnx"
    torch.onnx.export(model, (torch.zeros(1, 3, 64, 64),), onnx, dynamo=True, external_data=False, verbose=False)
    paddle = export(folder, "mobilenet_v2") / "mobilenet_v2.pdmodel"
    sides = {"torch": _ours(model, "MNN"), "ONNX": _ours(onnx, "MNN")}
    sides |= {suffix: _ours(paddle.with_suffix(suffix), "Paddle-Lite") for suffix in (".pdmodel", ".json")}
    sides["ONNX, kernels new"] = _ours(onnx, "MNN", first=True)
    sides[".pdmodel, kernels new"] = _ours(paddle, "Paddle-Lite", first=True)
    if nn_meter:
        (folder / "rules.json").write_text(_RULES)
        sides["nn-Meter with stand-in forests"] = Peer(nn_meter, _NN_METER, onnx, folder / "rules.json")
        sides["nn-Meter without its forests"] = Peer(nn_meter, _NN_METER_READING, onnx, folder / "rules.json")
    if paddleslim and table:
        rewritten = folder / "rewritten.pdmodel"  # Paddle 3's own crashes its optimiser
        rewritten.write_bytes(rewrite_for_lite(paddle.read_bytes()))
        sides["PaddleSlim"] = Peer(paddleslim, _PADDLESLIM, rewritten, paddle.with_suffix(".pdiparams"), table)
    return sides


def main() -> None:
    """Time every side in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nn-meter", default=os.environ.get("NN_METER_PYTHON"))
    parser.add_argument("--paddleslim", default=os.environ.get("PADDLESLIM_PYTHON"))
    parser.add_argument("--paddleslim-table", help="a table of PaddleSlim's, .pkl, which it is given")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        sides = _sides(Path(folder), args.nn_meter, args.paddleslim, args.paddleslim_table)
        times: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(args.rounds + 1):
            for name, once in sides.items():
                took = once()
                if number:
                    times[name].append(took)
    medians, fastest = ({name: of(each) for name, each in times.items()} for of in (median, min))
    for name, seconds in medians.items():
        bound = f" (at most {_BOUNDS_S[name]} s)" if name in _BOUNDS_S else ""
        print(f"{name}: median {seconds:.4f} s, fastest {fastest[name]:.4f} s{bound}")
    for peer, source in _COMPARED:
        if peer in medians:
            bound = "" if "without" in peer else f" (at least {_ATLEAST})"
            for what, of in (("medians", medians), ("the fastest of each", fastest)):
                warm, first = (of[peer] / of[ours] for ours in (source, f"{source}, kernels new"))
                print(f"{peer} / ours from {source}, {what}: {warm:.1f}{bound}, {first:.1f} with kernels new")
        else:
            print(f"{peer}: absent; name a Python that has it, --{peer.split()[0].lower()}")


if __name__ == "__main__":
    main()
