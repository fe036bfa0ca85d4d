"""The source of the derived tables: an SD710 with 4 threads, from PaddleSlim's op samples and its RK3288 table.

Convolutions and pools are the samples themselves, except implausible ones: times were assigned from a log by their
order, and some have the time of a neighbouring kernel. Other operators were measured only on an RK3288. For each, a law
a + b x bytes is fitted there, divided by the ratio of the same pools' times on both, and evaluated on a grid of shapes.
The engine runs a product of matrices as a convolution with a kernel of one pixel, and likewise a transposed convolution
whose windows do not overlap.

The RK3288 computes exponentials one by one (0.3 GB/s). Later releases of Paddle-Lite compute four at once. A sigmoid, a
swish or a softmax counts as three hard swishes, by the number of instructions. Networks calibrate this as well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow.parquet as pq
from scipy.optimize import least_squares
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import KFold, cross_val_predict
from threadpoolctl import threadpool_limits

from derive.networks import DIALECT, ENGINE
from latency_nas.estimate.regressor.features import features
from latency_nas.kernel import Kernel, n_bytes
from latency_nas.table import Datasheet, Entry, LatencyTable, import_paddleslim
from latency_nas.table.formats.paddleslim.importer import UNRECORDED
from latency_nas.table.formats.paddleslim.keys import parse_paddleslim_key

__all__ = ["RK3288", "SAMPLES", "source_table"]

SAMPLES = "paddleslim_optables/op_samples_fp32_threads4_SD710inferred_unique.parquet"
RK3288 = "paddleslim_optables/rk3288_threads_4_power_mode_0.pkl"

_EXPONENTIAL = "exponential"
_HARD_SWISHES = 3  # with the same time as an exponential

# operator that no source has -> operator with a similar access to memory
KIN = {
    **dict.fromkeys(("relu", "relu6", "leaky_relu", "clip", "sub"), "add"),
    "div": "mul",
    **dict.fromkeys(("sigmoid", "softmax", "swish", "tanh", "exp", "gelu", "mish"), _EXPONENTIAL),
    "layer_norm": "batch_norm",
    **dict.fromkeys(("transpose", "resize"), "concat"),
    "reshape": "split",
}  # fmt: skip
_LAWS = (
    "add", "batch_norm", "concat", "hard_sigmoid", "hard_swish", "matmul", "mul", "shuffle_channel", "split",
)  # fmt: skip

_GRID = [(channels, size) for channels in (8, 24, 64, 160, 512, 1280) for size in (0, 1, 7, 14, 28, 56, 112)]
_ROWS_OF_PRODUCTS = (
    (64, 64), (256, 256), (1280, 1000), (512, 4096), (2048, 1000), (4096, 4096),
    (9216, 4096), (25088, 4096),
)  # fmt: skip
_ATTRIBUTES = {"transpose": {"perm": (0, 2, 3, 1)}, "resize": {"mode": "nearest"}, "shuffle_channel": {"group": 2}}
_OF_MAPS = ("batch_norm", "transpose", "resize", "shuffle_channel")
_FAMILIES = ("conv2d", "depthwise_conv2d", "pool2d")
_OUTLIER = 5
_MAD = 1.4826  # ratio of the standard deviation to the median absolute deviation
_EVERY = 40  # one of this many convolutions gives a row for a product

Law = tuple[float, float]  # milliseconds, and milliseconds a byte


def fit_law(kernels: list[Kernel], latency_ms: list[float]) -> Law:
    """Fit a law a + b x bytes with positive a and b to the logarithm of times. Outliers count linearly."""
    size, time = np.array([n_bytes(kernel) for kernel in kernels], float), np.array(latency_ms)

    def error(logs: np.ndarray) -> np.ndarray:
        return np.log((np.exp(logs[0]) + np.exp(logs[1]) * size) / time)

    start = np.log([time.min() / 2, np.median(time / size)])
    a, b = np.exp(least_squares(error, start, loss="soft_l1", f_scale=0.1).x)
    return float(a), float(b)


def _samples(folder: Path) -> dict[Kernel, float]:
    """The kernels of the op samples, with their median times."""
    times: dict[Kernel, list[float]] = defaultdict(list)
    for row in pq.read_table(folder / SAMPLES, columns=["key", "latency_ms"]).to_pylist():
        times[parse_paddleslim_key(row["key"])].append(row["latency_ms"])
    rows = {kernel: median(values) for kernel, values in times.items()}
    return {kernel: rows[kernel] for family in _FAMILIES for kernel in _sound(rows, family)}


def _sound(rows: dict[Kernel, float], family: str) -> list[Kernel]:
    """Kernels whose times are within `_OUTLIER` robust deviations of a prediction by trees that did not see them."""
    kernels = [kernel for kernel in rows if kernel.family == family]
    x, y = np.stack([features(kernel) for kernel in kernels]), np.log([rows[kernel] for kernel in kernels])
    trees = HistGradientBoostingRegressor(learning_rate=0.12, max_iter=200, min_samples_leaf=8, random_state=0)
    with threadpool_limits(1):
        guess = cross_val_predict(trees, x, y, cv=KFold(5, shuffle=True, random_state=0))
    error = np.abs(y - guess)
    return [kernel for kernel, off in zip(kernels, error / np.median(error) / _MAD, strict=True) if off < _OUTLIER]


def _of_law(op: str, channels: int, size: int) -> Kernel:
    """An operator on a map with these channels, `size` high and wide, or on a vector if `size` is 0."""
    shape = (1, channels, size, size) if size else (1, channels)
    inputs, outputs, attributes = [shape], [shape], dict(_ATTRIBUTES.get(op, {}))
    if op in ("add", "sub", "mul", "div"):
        inputs.append((1, channels, 1, 1) if op == "mul" and size else shape)
    elif op == "concat":
        inputs, outputs, attributes = [shape, shape], [(1, 2 * channels, *shape[2:])], {"axis": 1}
    elif op == "split":
        outputs, attributes = [(1, channels // 2, *shape[2:])] * 2, {"axis": 1}
    elif op == "transpose":
        outputs = [(1, *shape[2:], channels)]
    elif op == "resize":
        outputs = [(1, channels, 2 * size, 2 * size)]
    elif op == "reshape":
        outputs = [(1, channels * max(1, size * size))]
    return Kernel.of(op, inputs, outputs, **attributes)


def _by_laws(laws: dict[str, Law], more: Iterable[Kernel]) -> dict[Kernel, float]:
    kin = {op: op for op in _LAWS} | KIN
    rows = {k: laws[kin[k.op]][0] + laws[kin[k.op]][1] * n_bytes(k) for k in more if k.op in kin}
    for op in sorted(kin.keys() - {"matmul"}):
        kernels = [_of_law(op, channels, size) for channels, size in _GRID if size or op not in _OF_MAPS]
        rows |= {kernel: laws[kin[op]][0] + laws[kin[op]][1] * n_bytes(kernel) for kernel in kernels}
    for n_in, n_out in _ROWS_OF_PRODUCTS:
        kernel = Kernel.of("matmul", [(1, n_in), (n_in, n_out)], [(1, n_out)])
        rows[kernel] = laws["matmul"][0] + laws["matmul"][1] * n_bytes(kernel)
    return rows


def _by_convolutions(rows: dict[Kernel, float], add: Law) -> dict[Kernel, float]:
    """Rows for products of matrices, and for transposed convolutions of kernel and stride 2, from convolutions."""
    found: dict[Kernel, float] = {}
    pointwise = [k for k in rows if k.family == "conv2d" and k.attributes["kernel"] == k.attributes["stride"] == (1, 1)]
    for kernel in sorted(pointwise, key=lambda kernel: kernel.key)[::_EVERY]:
        (_, c_in, height, width), c_out = kernel.inputs[0], kernel.outputs[0][1]
        if height * width > 1:
            product = [(height * width, c_in), (c_in, c_out)]
            found[Kernel.of("matmul", product, [(height * width, c_out)])] = rows[kernel]
        wide = Kernel.of(
            "conv_transpose2d", kernel.inputs, [(1, max(1, c_out // 4), 2 * height, 2 * width)], group=1,
            dilation=(1, 1), kernel=(2, 2), pad=(0, 0, 0, 0), stride=(2, 2),
        )  # fmt: skip
        found[wide] = rows[kernel] + add[0] + add[1] * n_bytes(wide)
    return found


def source_table(folder: Path, kernels: Iterable[Kernel] = ()) -> LatencyTable:
    """The source of all other tables. It has a row for each of `kernels` that laws price."""
    rows = _samples(folder)
    other, _ = import_paddleslim(folder / RK3288)
    shared = [kernel for kernel in other if kernel.op == "pool2d" and kernel in rows]
    ratio = median(other[kernel].latency_ms / rows[kernel] for kernel in shared)
    laws: dict[str, Law] = {}
    for op in _LAWS:
        of_op = [kernel for kernel in other if kernel.op == op]
        a, b = fit_law(of_op, [other[kernel].latency_ms for kernel in of_op])
        laws[op] = (a / ratio, b / ratio)
    laws[_EXPONENTIAL] = (laws["hard_swish"][0], _HARD_SWISHES * laws["hard_swish"][1])
    rows |= _by_laws(laws, kernels) | _by_convolutions(rows, laws["add"])
    table = LatencyTable({}, SHEET, "SD710")  # an empty table, for its unrecorded attributes
    stored = {table.stored(kernel): Entry(latency_ms=time_ms) for kernel, time_ms in rows.items()}
    return LatencyTable.of(stored, SHEET, name="SD710")


SHEET = Datasheet(
    device="SD710 (inferred)", engine=ENGINE, dialect=DIALECT, engine_version="2.9-2.10", method="imported",
    soc="SD710", threads=4, power_mode="HIGH", statistic="mean", licence="Apache-2.0", unrecorded=UNRECORDED,
    sources=("PaddleSlim, pull request 1054 (92fd4c3f), demo/analysis/train_predictor: op samples",),
)  # fmt: skip
