"""PaddleSlim's tables: its keys as kernels, the report on each key, and the real table of an RK3288."""

from __future__ import annotations

import io
import math
import pickle
import re
import statistics
from pathlib import Path
from typing import Any, NoReturn

import pytest

from latency_nas import Kernel, LatencyTable, import_paddleslim
from latency_nas.errors import KernelError, TableFileError, UnsafePickleError
from latency_nas.table import ImportReport
from latency_nas.table.formats.paddleslim.keys import parse_paddleslim_key

RK3288 = Path(__file__).resolve().parents[5] / "shared/data/paddleslim_optables/rk3288_threads_4_power_mode_0.pkl"
RELU = "relu in=(1, 8) out=(1, 8)"
BATCH_RELU = "relu in=(-1, 8) out=(-1, 8)"
POOL = "pool2d in=(1, 8, 4, 4) out=(1, 8, 1, 1) stride=1 pad=0 flag_global=0"
STATED = "sd710_threads_4_power_mode_0.pkl"

# keys of real tables, and the kernels that they name
KEYS = {
    "conv2d in=(1, 3, 224, 224) weight=(24, 3, 3, 3) out=(1, 24, 112, 112) pad=1 stride=2 group=1 dilation=1 "
    "quant=None bit_length=None": (
        "conv2d [1,3,224,224] -> [1,24,112,112] dilation=[1,1] group=1 kernel=[3,3] pad=[1,1,1,1] stride=[2,2] "
        "dtype=fp32"
    ),
    "depthwise_conv2d in=(1, 24, 56, 56) weight=(24, 1, 3, 3) out=(1, 24, 28, 28) pad=1 stride=2 group=24 dilation=1 "
    "quant=None bit_length=None": (
        "conv2d [1,24,56,56] -> [1,24,28,28] dilation=[1,1] group=24 kernel=[3,3] pad=[1,1,1,1] stride=[2,2] dtype=fp32"
    ),
    "depthwise_conv2d in=(1, 32, 112, 112) weight=(32, 1, 3, 3) out=(1, 32, 112, 112) pad=1 stride=1 group=32 "
    "dilation=1 quant=True bit_length=8": (
        "conv2d [1,32,112,112] -> [1,32,112,112] dilation=[1,1] group=32 kernel=[3,3] pad=[1,1,1,1] stride=[1,1] "
        "dtype=int8"
    ),
    "conv2d in=(1, 32, 112, 112) weight=(64, 32, 1, 1) out=(1, 64, 112, 112) pad=0 stride=1 group=1 dilation=1 "
    "quant=True bit_length=16": (
        "conv2d [1,32,112,112] -> [1,64,112,112] dilation=[1,1] group=1 kernel=[1,1] pad=[0,0,0,0] stride=[1,1] "
        "dtype=fp16"
    ),
    "conv2d in=(1, 8, 9, 9) weight=(8, 8, 7, 1) out=(1, 8, 9, 9) pad=12 stride=1 group=1 dilation=2 quant=None "
    "bit_length=None": (
        "conv2d [1,8,9,9] -> [1,8,9,9] dilation=[2,2] group=1 kernel=[7,1] pad=[12,12,12,12] stride=[1,1] dtype=fp32"
    ),
    "pool2d in=(1, 24, 112, 112) out=(1, 24, 56, 56) stride=2 kernel=3x3 pad=1 flag_global=0 type=max)": (
        "pool2d [1,24,112,112] -> [1,24,56,56] kernel=[3,3] pad=[1,1,1,1] stride=[2,2] type=max dtype=fp32"
    ),
    "pool2d in=(1, 16, 28, 28) out=(1, 16, 1, 1) stride=1 kernel=1x1 pad=0 flag_global=1 type=avg)": (
        "pool2d [1,16,28,28] -> [1,16,1,1] global=1 kernel=[28,28] pad=[0,0,0,0] stride=[1,1] type=avg dtype=fp32"
    ),
    "matmul_v2 X=(1, 1280) Y=(1280, 1000) out=(1, 1000) quant=None bit_length=None": (
        "matmul [1,1280] [1280,1000] -> [1,1000] dtype=fp32"
    ),
    "elementwise_add X=(1, 1000) Y=(1000,) axis=1 out=(1, 1000)": "add [1,1000] [1000] -> [1,1000] dtype=fp32",
    "elementwise_add X=(1, 1000) Y=(1000,) axis=-1 out=(1, 1000)": "add [1,1000] [1000] -> [1,1000] dtype=fp32",
    "elementwise_sub X=(1, 8, 4, 4) Y=(8,) axis=1 out=(1, 8, 4, 4)": "sub [1,8,4,4] [8,1,1] -> [1,8,4,4] dtype=fp32",
    "elementwise_div X=(2, 8, 4, 4) Y=(2, 8) axis=0 out=(2, 8, 4, 4)": (
        "div [2,8,4,4] [2,8,1,1] -> [2,8,4,4] dtype=fp32"
    ),
    "elementwise_mul X=(1, 16, 28, 28) Y=(1, 16, 1, 1) axis=-1 out=(1, 16, 28, 28)": (
        "mul [1,16,28,28] [1,16,1,1] -> [1,16,28,28] dtype=fp32"
    ),
    "fusion_elementwise_add_activation X=(1, 9) Y=(9,) axis=1 out=(1, 9)": (
        "add [1,9] [9] -> [1,9] act=relu dtype=fp32"
    ),
    "concat in=(1, 16, 28, 28)(1, 16, 28, 28) axis=1 out=(1, 32, 28, 28)": (
        "concat [1,16,28,28] [1,16,28,28] -> [1,32,28,28] axis=1 dtype=fp32"
    ),
    "concat in=(-1, 2)(-1, 3)(-1, 4) axis=-1 out=(-1, 9)": "concat [1,2] [1,3] [1,4] -> [1,9] axis=1 dtype=fp32",
    "split in=(1, 32, 28, 28) axis=1 sections=[16, 16]": (
        "split [1,32,28,28] -> [1,16,28,28] [1,16,28,28] axis=1 dtype=fp32"
    ),
    "split in=(1, 32, 28, 28) axis=-3 sections=[8, 24]": (
        "split [1,32,28,28] -> [1,8,28,28] [1,24,28,28] axis=1 dtype=fp32"
    ),
    "shuffle_channel in=(1, 32, 28, 28) group=2  out=(1, 32, 28, 28)": (
        "shuffle_channel [1,32,28,28] -> [1,32,28,28] group=2 dtype=fp32"
    ),
    "squeeze2 in=(-1, 1280, 1, 1) axes=[2, 3]  out=(-1, 1280)": "reshape [1,1280,1,1] -> [1,1280] dtype=fp32",
    "unsqueeze2 in=(1, 36) axes=[2, 3]  out=(1, 36, 1, 1)": "reshape [1,36] -> [1,36,1,1] dtype=fp32",
    "flatten_contiguous_range in=(1, 1280, 1, 1) start_axis=1 stop_axis=None out=(1, 1280)": (
        "reshape [1,1280,1,1] -> [1,1280] dtype=fp32"
    ),
    "reshape2 in=(1, 1280, 1, 1) out=(1, 1280)": "reshape [1,1280,1,1] -> [1,1280] dtype=fp32",
    "slice in=(1, 32, 113, 113) axes=[2, 3]": "paddle.slice [1,32,113,113] -> axes=[2,3] dtype=fp32",
    "swish in=(1, 32, 112, 112) out=(1, 32, 112, 112)": "swish [1,32,112,112] -> [1,32,112,112] dtype=fp32",
    "hard_swish in=(-1, 24, 2, 2) out=(-1, 24, 2, 2)": "hard_swish [1,24,2,2] -> [1,24,2,2] dtype=fp32",
    "hard_sigmoid in=(1, 16, 1, 1) out=(1, 16, 1, 1)": "hard_sigmoid [1,16,1,1] -> [1,16,1,1] dtype=fp32",
    "batch_norm in=(1, 32, 2, 2) out=(1, 32, 2, 2)": "batch_norm [1,32,2,2] -> [1,32,2,2] dtype=fp32",
    "clip in=(1, 36) out=(1, 36)": "clip [1,36] -> [1,36] dtype=fp32",
    "shape in=(1, 24, 56, 56) out=(4,)": "paddle.shape [1,24,56,56] -> [4] dtype=fp32",
    "scale in=(-1, 24, 56, 56) out=(-1, 24, 56, 56)": "paddle.scale [1,24,56,56] -> [1,24,56,56] dtype=fp32",
    "dropout in=(1, 1280, 1, 1)": "paddle.dropout [1,1280,1,1] -> [1,1280,1,1] dtype=fp32",
    "fill_constant": "paddle.fill_constant -> dtype=fp32",
    "uniform_random shape=[-1, 1, 1, 1]": "paddle.uniform_random -> [1,1,1,1] dtype=fp32",
    "fc in=(1, 1024, 1, 1) weight=(1024, 1000) out=(1, 1000)": "linear [1,1024] -> [1,1000] dtype=fp32",
    "calib in=(1, 3, 224, 224) out=(1, 3, 224, 224)": "paddle.calib [1,3,224,224] -> [1,3,224,224] dtype=fp32",
    "sparse_conv2d in=(1, 16, 28, 28) weight=(24, 16, 1, 1) out=(1, 24, 28, 28) pad=0 stride=1 group=1 dilation=1 "
    "quant=None bit_length=None NonZeroWeights=96": (
        "paddle.sparse_conv2d [1,16,28,28] -> [1,24,28,28] dilation=[1,1] group=1 kernel=[1,1] n_nonzero=96 "
        "pad=[0,0,0,0] stride=[1,1] dtype=fp32"
    ),
    "conv2d_transpose in=(1, 8, 4, 4) weight=(4, 4, 2, 2) out=(1, 4, 8, 8) pad=0 stride=2 group=1 dilation=1 "
    "quant=None bit_length=None": (
        "conv_transpose2d [1,8,4,4] -> [1,4,8,8] dilation=[1,1] group=1 kernel=[2,2] pad=[0,0,0,0] stride=[2,2] "
        "dtype=fp32"
    ),
    "transpose2 in=(1, 2, 3) out=(1, 3, 2)": "paddle.transpose2 [1,2,3] -> [1,3,2] dtype=fp32",
    "nearest_interp_v2 in=(1, 8, 4, 4) out=(1, 8, 8, 8)": (
        "paddle.nearest_interp_v2 [1,8,4,4] -> [1,8,8,8] dtype=fp32"
    ),
    "expand_v2": "paddle.expand_v2 -> dtype=fp32",
    "stack in=(1, 2)(1, 2) axis=1 out=(1, 2, 2)": "stack [1,2] [1,2] -> [1,2,2] axis=1 dtype=fp32",
    "yolo_box in=(1, 255, 10, 10) out=(1, 300, 4) class_num=80": (
        "paddle.yolo_box [1,255,10,10] -> [1,300,4] class_num=80 dtype=fp32"
    ),
    "prior_box in=(1, 8, 4, 4) out=(4, 4, 3, 4) aspect_ratios=[1.0, 2.0] max_sizes=[] min_sizes=[60.0]": (
        "paddle.prior_box [1,8,4,4] -> [4,4,3,4] aspect_ratios=v1.0:2.0 max_sizes=[] min_sizes=v60.0 dtype=fp32"
    ),
    "exp in=(1, 8) out=(1, 8) axes=None decrease_axis=None ends=None": "exp [1,8] -> [1,8] dtype=fp32",
    "multiclass_nms3 boxs=(1, 9, 4) scores=(1, 2, 9) keep_top_k=100 nms_top_k=400": (
        "paddle.multiclass_nms3 [1,9,4] [1,2,9] -> keep_top_k=100 nms_top_k=400 dtype=fp32"
    ),
    "sum X=(1, 8) Y=(1, 8)  out=(1, 8)": "paddle.sum [1,8] [1,8] -> [1,8] dtype=fp32",
    "greater_equal X=(1, 8) Y=(1, 1) out=(1, 8)": "greater_equal [1,8] [1,1] -> [1,8] dtype=fp32",
    "reduce_mean in=(1, 8, 4, 4) out=(1, 8) dim=[2, 3]": (
        "reduce_mean [1,8,4,4] -> [1,8] axes=[2,3] keepdim=0 dtype=fp32"
    ),
    "pad3d in=(1, 8, 4, 4) out=(1, 8, 6, 6) paddings=[1, 1, 1, 1, 0, 0]": (
        "paddle.pad3d [1,8,4,4] -> [1,8,6,6] paddings=[1,1,1,1,0,0] dtype=fp32"
    ),
    "arg_max in=(1, 8) axis=-1  out=(1,)": "argmax [1,8] -> [1] axis=1 keepdim=0 dtype=fp32",
    "fill_constant_batch_size_like in=(1, 8) shape=[-1, 4]  out=(1, 4)": (
        "paddle.fill_constant_batch_size_like [1,8] -> [1,4] shape=[-1,4] dtype=fp32"
    ),
    "rnn in=(1, 8, 4) out=(1, 8, 4)": "paddle.rnn [1,8,4] -> [1,8,4] dtype=fp32",
    # as written in 2021
    "relu in=(1, 7)": "relu [1,7] -> [1,7] dtype=fp32",
    "softmax in=(1, 7)": "softmax [1,7] -> [1,7] dtype=fp32",
    "transpose2 in=(1, 2, 4)": "paddle.transpose2 [1,2,4] -> dtype=fp32",
    "stack X=[(1, 2)(1, 2)(1, 2)] axis=1 out=(1, 3, 2)": "stack [1,2] [1,2] [1,2] -> [1,3,2] axis=1 dtype=fp32",
    "sum in=(1, 9) in=(1, 9)  out=(1, 9)": "paddle.sum [1,9] [1,9] -> [1,9] dtype=fp32",
    "  relu in=(1, 8)) out=(1, 8)  ": "relu [1,8] -> [1,8] dtype=fp32",
}

UNUSABLE = {
    "erf in=(1, 8) out=(1, 8)": "the op type 'erf' is not known",
    "fc in=(1, 1024, 1, 1) weight=(1000, 1000) out=(1, 1000)": "the sizes of its input and weight differ",
    "": "the op type '' is not known",
    "scale in=(1, 8)": "the field `out` is missing",
    "matmul X=(1, 8) out=(1, 8)": "the field `Y` is missing",
    "pool2d in=(1, 8, 4, 4) out=(1, 8, 1, 1) stride=1": "the field `pad` is missing",
    "floor in=(-1, -1) out=(-1, -1)": ("Expected sizes of floor to be integers from 0 to 2^31, but got (1, -1)."),
    "conv2d in=() weight=(32, 3, 3, 3) out=(1, 32, 9, 9) pad=1 stride=1 group=1 dilation=1 quant=True bit_length=8": (
        "the shape of `in` is not stated"
    ),
    "matmul_v2 X=() Y=(1024, 1000) out=(1, 1000) quant=None bit_length=None": "the shape of `X` is not stated",
    "reshape2 in=(1, 8) out=(1, 9)": "the sizes of its input and output differ",
    "relu in=(1, 8) and out=(1, 8)": "the part 'and' is not understood",
    "relu in=(1, 8 out=(1, 8)": "the part 'in=(1, 8' is not understood",
    "relu in=(1, N) out=(1, N)": "a field cannot be read (invalid literal for int() with base 10: 'N')",
    "shuffle_channel in=(1, 8, 2, 2) group=two  out=(1, 8, 2, 2)": (
        "a field cannot be read (invalid literal for int() with base 10: 'two')"
    ),
}


class _Blocked(pickle.Unpickler):  # noqa: S301
    """Reads plain data, by Python's own means."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise AssertionError(f"{module}.{name}")


def imported(path: Path, data: object) -> tuple[LatencyTable, ImportReport]:
    path.write_bytes(pickle.dumps(data, protocol=3))
    return import_paddleslim(path)


@pytest.mark.parametrize("key", KEYS)
def test_key_names_a_kernel(key: str) -> None:
    kernel = parse_paddleslim_key(key)
    assert kernel.key == KEYS[key]
    assert kernel == Kernel.parse(KEYS[key])


@pytest.mark.parametrize("key", UNUSABLE)
def test_key_that_names_none_says_why(key: str) -> None:
    with pytest.raises(KernelError) as caught:
        parse_paddleslim_key(key)
    assert str(caught.value) == UNUSABLE[key]


def test_every_key_is_used_or_skipped_with_a_reason(tmp_path: Path) -> None:
    data = {key: number / 8 for number, key in enumerate([*KEYS, *UNUSABLE], start=1)}
    table, report = imported(tmp_path / "mixed.pkl", data)
    assert report.skipped == UNUSABLE
    assert (report.n_keys, report.n_used) == (len(data), len(KEYS))
    assert {kernel.key for kernel in table} == set(KEYS.values())
    assert report.merged.keys() == {key for key in KEYS.values() if [*KEYS.values()].count(key) > 1}
    first_key = {kernel: key for key, kernel in reversed(KEYS.items())}  # of those with a stated batch
    first_key["reshape [1,1280,1,1] -> [1,1280] dtype=fp32"] = (
        "flatten_contiguous_range in=(1, 1280, 1, 1) start_axis=1 stop_axis=None out=(1, 1280)"
    )
    assert {kernel.key: row.latency_ms for kernel, row in table.items()} == {
        kernel: data[key] for kernel, key in first_key.items()
    }


def test_stated_batch_comes_before_an_open_one(tmp_path: Path) -> None:
    for data in ({BATCH_RELU: 0.25, RELU: 0.5}, {RELU: 0.5, BATCH_RELU: 0.25}):
        table, report = imported(tmp_path / "twice.pkl", data)
        (relu,) = table
        assert table[relu].latency_ms == 0.5
        assert report == ImportReport(n_keys=2, n_used=2, merged={relu.key: tuple(data)}, skipped={})


@pytest.mark.parametrize("latency_ms", [0, -1.5, float("nan"), float("inf"), None, "fast", [1.0]])
def test_impossible_latency_is_skipped_with_it(tmp_path: Path, latency_ms: object) -> None:
    _, report = imported(tmp_path / "table.pkl", {RELU: 0.5, BATCH_RELU: latency_ms})
    assert report.skipped == {BATCH_RELU: f"its latency is {latency_ms!r}"}


def test_report_as_text(tmp_path: Path) -> None:
    _, report = imported(tmp_path / "mixed.pkl", {RELU: 0.5, BATCH_RELU: 0.25, "erf in=(1, 8)": 1.0, "clip": 2.0})
    assert str(report) == (
        "2 of 4 keys used; 1 kernels have several keys.\n"
        "not used: 'erf in=(1, 8)': the op type 'erf' is not known\n"
        "not used: 'clip': the field `in` is missing"
    )


@pytest.mark.parametrize(
    ("name", "stated"),
    [
        ("SD710_threads_4_power_mode_0.pkl", ("SD710", 4, "HIGH", 1)),
        ("rk3288_threads_1_power_mode_1.pkl", ("RK3288", 1, "LOW", 1)),
        ("845_threads_4_power_mode_3_batchsize_8.pkl", ("845", 4, "NO_BIND", 8)),
        ("kirin_990_threads_2_power_mode_9.pkl", ("KIRIN_990", 2, "", 1)),
        ("table.pkl", ("not stated (table.pkl)", None, "", 1)),
    ],
)
def test_conditions_are_read_from_the_file_name(tmp_path: Path, name: str, stated: tuple[Any, ...]) -> None:
    table, _ = imported(tmp_path / name, {RELU: 0.5})
    sheet = table.datasheet
    assert (sheet.device, sheet.threads, sheet.power_mode, sheet.batch) == stated
    assert (sheet.engine, sheet.dialect, sheet.method, sheet.statistic) == ("Paddle-Lite", "2.11", "imported", "mean")
    assert sheet.sources == (f"PaddleSlim TableLatencyPredictor, {name}",)
    assert table.name == str(tmp_path / name)


def test_convolutions_are_found_whatever_their_activation(tmp_path: Path) -> None:
    key, kernel = next(iter(KEYS.items()))
    table, _ = imported(tmp_path / STATED, {key: 4.5})
    assert table[Kernel.parse(kernel.replace("dilation", "act=relu bias=1 dilation"))].latency_ms == 4.5
    assert Kernel.parse(kernel.replace("fp32", "fp16")) not in table


@pytest.mark.parametrize(("data", "kind"), [([1.0], "list"), (None, "NoneType"), ({1: 1.0}, "dict")])
def test_what_is_no_dict_of_keys_is_refused(tmp_path: Path, data: object, kind: str) -> None:
    path = tmp_path / "other.pkl"
    with pytest.raises(TableFileError) as caught:
        imported(path, data)
    assert str(caught.value) == f"Expected {path} to hold a dict of op keys and milliseconds, but got {kind}."


@pytest.mark.parametrize("data", [{}, {"fc in=(1, 8)": 1.0}, {RELU: -1.0, "clip": 2.0}])
def test_table_without_a_usable_key_is_refused(tmp_path: Path, data: dict[str, float]) -> None:
    path = tmp_path / "empty.pkl"
    with pytest.raises(TableFileError) as caught:
        imported(path, data)
    assert str(caught.value) == f"Expected op keys of PaddleSlim in {path}, but none of {len(data)} can be used."


def test_nothing_of_the_file_is_run(tmp_path: Path) -> None:
    with pytest.raises(UnsafePickleError):
        imported(tmp_path / STATED, {RELU: ImportReport})


def test_time_of_another_op_is_skipped_with_the_rate(tmp_path: Path) -> None:
    conv = "conv2d in=(1, {0}, 1, 1) weight=({0}, {0}, 1, 1) out=(1, {0}, 1, 1) pad=0 stride=1 group=1 dilation=1"
    data = {conv.format(c): 2e-6 * c**2 for c in range(1, 41)}  # one GFLOP/s each
    data |= {conv.format(999): 2e-6 * 999**2 / 9, conv.format(1000): 2 / 11}
    _, report = imported(tmp_path / STATED, data)
    assert report.skipped == {conv.format(1000): "0.1818 ms for it would be 11 GFLOP/s, which the device cannot reach"}
    assert report.n_used == 41


def _gflops_times_ms(key: str) -> float:
    """Millions of floating-point operations of a convolution or matrix product, from its text; 0 for other ops."""
    shapes = {
        name: [abs(int(size)) for size in re.findall(r"-?\d+", text)]  # a batch of -1 is one image
        for name, text in re.findall(r"(\w+)=\(([^)]*)\)", key)
    }
    if "conv2d" in key:
        return 2e-6 * math.prod(shapes["out"]) * math.prod(shapes["weight"][1:])
    return 2e-6 * math.prod(shapes["out"]) * shapes["X"][-1] if "matmul" in key else 0.0


@pytest.mark.skipif(not RK3288.is_file(), reason=f"needs {RK3288}")
def test_real_table() -> None:
    table, report = import_paddleslim(RK3288)
    raw: dict[str, float] = _Blocked(io.BytesIO(RK3288.read_bytes())).load()
    assert len(raw) == report.n_keys == 2200
    assert report.n_used + len(report.skipped) == report.n_keys
    assert all(report.skipped.values())

    impossible = {key for key in report.skipped if "GFLOP/s" in report.skipped[key]}
    rates = {key: gflops / raw[key] for key in raw if (gflops := _gflops_times_ms(key))}
    bound = 10 * statistics.quantiles(rates.values(), n=20, method="inclusive")[-1]
    assert impossible == {key for key, rate in rates.items() if rate > bound}
    assert len(impossible) == 13
    assert report.n_used + len(impossible) == 2157  # the keys that name a kernel

    used: dict[str, list[str]] = {}
    for key in raw.keys() - report.skipped.keys():
        used.setdefault(parse_paddleslim_key(key).key, []).append(key)
    assert used.keys() == table.entries.keys()
    assert sum(map(len, used.values())) == report.n_used
    assert {kernel: set(keys) for kernel, keys in report.merged.items()} == {
        kernel: set(keys) for kernel, keys in used.items() if len(keys) > 1
    }

    once = {kernel: raw[keys[0]] for kernel, keys in used.items() if len(keys) == 1}
    assert len(once) > 1500
    assert {kernel: table.entries[kernel].latency_ms for kernel in once} == once
    for kernel, keys in report.merged.items():
        stated = [key for key in keys if "(-1" not in key] or list(keys)
        assert table.entries[kernel].latency_ms == raw[stated[0]]

    conv, _, _, _, _, pool, *_ = KEYS  # as published
    for key, latency_ms in ((conv, 4.4148701171875), (pool, 0.719609375)):
        assert table[Kernel.parse(KEYS[key])].latency_ms == raw[key] == latency_ms


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (f"{POOL} kernel=1x1", "the field `type` is missing"),
        (f"{POOL} type=avg)", "the field `kernel` is missing"),
        ("matmul X=(1, 2) Y=(2, 3) out=(1, 3) quant=True bit_length=4", "the bit length '4' is not known"),
    ],
)
def test_reason_is_a_sentence(key: str, reason: str) -> None:
    with pytest.raises(KernelError) as caught:
        parse_paddleslim_key(key)
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("split in=(1, 8, 4, 4) axis=9 sections=[4, 4]", "the axis 9 does not fit 4 dimensions"),
        ("split in=(1, 8, 4, 4) axis=-5 sections=[4, 4]", "the axis -5 does not fit 4 dimensions"),
        ("split in=(1, 8, 4, 4) axis=1 sections=[4, 9]", "the sections do not add up to the input"),
        ("concat in=(1, 8)(1, 8) axis=3 out=(1, 16)", "the axis 3 does not fit 2 dimensions"),
        (
            "elementwise_add X=(1, 8, 4, 4) Y=(8,) axis=5 out=(1, 8, 4, 4)",
            "the axis 5 does not fit 4 dimensions",
        ),
    ],
)
def test_axis_must_be_one_of_the_shape(key: str, reason: str) -> None:
    with pytest.raises(KernelError) as caught:
        parse_paddleslim_key(key)
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("latency_ms", "text"),
    [("0.5", "'0.5'"), (b"0.5", "b'0.5'"), (True, "True"), (10**400, "1" + "0" * 17 + "..." + "0" * 19)],
    ids=["text", "bytes", "true", "huge"],
)
def test_latency_that_is_no_number_is_skipped(tmp_path: Path, latency_ms: object, text: str) -> None:
    path = tmp_path / "table.pkl"
    path.write_bytes(pickle.dumps({RELU: 0.5, BATCH_RELU: latency_ms}, protocol=4))  # protocol 3 has no short bytes
    _, report = import_paddleslim(path)
    assert report.skipped == {BATCH_RELU: f"its latency is {text}"}
    assert (report.n_keys, report.n_used) == (2, 1)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (
            "in=(1, 8, 4, 4) weight=(8, 8, 1, 1) out=(1, 8, 4, 4) group=0",
            "Expected `group` of conv2d to divide its 8 and 8 channels, but got 0.",
        ),
        (
            "in=(8,) weight=(8, 8, 1, 1) out=(1, 8, 4, 4) group=1",
            "Expected conv2d to have one input and one output of 4 sizes, but got ((8,),) -> ((1, 8, 4, 4),).",
        ),
        (
            "in=(1, 8, 4, 4) weight=(8, 8) out=(1, 8, 4, 4) group=1",
            "Expected `kernel` of conv2d to be 2 integers, but got ().",
        ),
    ],
)
def test_convolution_that_cannot_be_is_skipped(tmp_path: Path, fields: str, reason: str) -> None:
    conv = f"conv2d {fields} pad=0 stride=1 dilation=1"
    _, report = imported(tmp_path / "table.pkl", {RELU: 0.5, conv: 0.25})
    assert report.skipped == {conv: reason}


@pytest.mark.parametrize("size", ["9" * 400, "9" * 155], ids=["one size", "product"])
def test_endless_work_is_skipped(tmp_path: Path, size: str) -> None:
    matmul = f"matmul X=(1, {size}) Y=({size}, {size}) out=(1, {size}) quant=None bit_length=None"
    _, report = imported(tmp_path / "table.pkl", {RELU: 0.5, matmul: 0.25})
    assert report.skipped.keys() == {matmul}
    assert report.skipped[matmul].startswith("Expected sizes of matmul to be integers from 0 to 2^31, but got (1, 999")
    assert len(report.skipped[matmul]) < 500


def test_endless_work_of_many_sizes_is_skipped(tmp_path: Path) -> None:
    shape = ", ".join(["2147483648"] * 40)
    matmul = f"matmul X=({shape}) Y=({shape}) out=({shape}) quant=None bit_length=None"
    _, report = imported(tmp_path / "table.pkl", {RELU: 0.5, matmul: 0.25})
    assert report.skipped == {matmul: "Expected at most 8 sizes in a shape of matmul, but got 40."}


def test_latency_that_makes_an_infinite_rate_is_skipped(tmp_path: Path) -> None:
    matmul = "matmul X=(1, 8) Y=(8, 8) out=(1, 8) quant=None bit_length=None"
    slow = matmul.replace("8", "9")
    reason = "4.941e-324 ms for it would be inf GFLOP/s, which the device cannot reach"
    for data in ({RELU: 0.5, slow: 0.25, matmul: 5e-324}, {RELU: 0.5, matmul: 5e-324}):
        _, report = imported(tmp_path / "table.pkl", data)
        assert report.skipped == {matmul: reason}


def test_latency_that_python_cannot_write_is_skipped(tmp_path: Path) -> None:
    _, report = imported(tmp_path / "table.pkl", {RELU: 0.5, BATCH_RELU: 10**5000})
    assert report.skipped == {BATCH_RELU: "its latency is a value with more digits than can be written"}


def test_list_of_a_number_that_python_cannot_write_is_skipped(tmp_path: Path) -> None:
    _, report = imported(tmp_path / "table.pkl", {RELU: 0.5, BATCH_RELU: [10**5000]})
    assert report.skipped == {BATCH_RELU: "its latency is a value with more digits than can be written"}


@pytest.mark.parametrize("width", [2, 7])
def test_reason_stays_short(tmp_path: Path, width: int) -> None:
    latency_ms: list[Any] = []
    for _ in range(16):
        latency_ms = [latency_ms] * width
    _, report = imported(tmp_path / "table.pkl", {RELU: 0.5, BATCH_RELU: latency_ms})
    assert len(report.skipped[BATCH_RELU]) < 500


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("sd710_threads_0_power_mode_0.pkl", "threads"),
        ("sd710_threads_4_power_mode_0_batchsize_0.pkl", "batch"),
    ],
)
def test_impossible_file_name_is_refused_by_name(tmp_path: Path, name: str, field: str) -> None:
    path = tmp_path / name
    with pytest.raises(TableFileError) as caught:
        imported(path, {RELU: 0.5})
    assert str(caught.value) == (
        f"Expected the name of {path} to state how it was measured: Expected `{field}` to be a positive integer, but "
        f"got 0."
    )
