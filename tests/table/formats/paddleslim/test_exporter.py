"""Tables as PaddleSlim's pickles: every spelling of a key, the round trip, and what the format cannot say."""

from __future__ import annotations

import pickle
import pickletools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from latency_nas import Datasheet, Kernel, LatencyTable, import_paddleslim
from latency_nas.errors import KernelError, TableError
from latency_nas.table import Entry
from latency_nas.table.formats.paddleslim.exporter import export_paddleslim
from latency_nas.table.formats.paddleslim.keys import parse_paddleslim_key
from latency_nas.table.formats.paddleslim.spelling import paddleslim_keys

RK3288 = Path(__file__).resolve().parents[5] / "shared/data/paddleslim_optables/rk3288_threads_4_power_mode_0.pkl"
SHEET = Datasheet(device="SD710", engine="Paddle-Lite", method="measured", threads=4, power_mode="HIGH")
RELU = Kernel.of("relu", [(1, 8)], [(1, 8)])
WINDOW: dict[str, Any] = {"kernel": (3, 3), "stride": (1, 1), "pad": (1,) * 4}
CONV = Kernel.of("conv2d", [(1, 8, 4, 4)], [(1, 9, 4, 4)], **WINDOW, dilation=(1, 1), group=1, bias=1, act="relu6")


def table_of(*kernels: Kernel, **changes: Any) -> LatencyTable:
    entries = {kernel: Entry(latency_ms=0.5 + number) for number, kernel in enumerate(kernels)}
    return LatencyTable.of(entries, replace(SHEET, **changes), name="mine")


@pytest.mark.parametrize(
    ("kernel", "keys"),
    [
        (
            CONV,
            (
                (
                    "conv2d in=(1, 8, 4, 4) weight=(9, 8, 3, 3) out=(1, 9, 4, 4) pad=1 stride=1 group=1 dilation=1 "
                    "quant=None bit_length=None"
                ),
            ),
        ),
        (
            Kernel.of("add", [(1, 8, 4, 4), (8, 1, 1)], [(1, 8, 4, 4)], act="relu"),
            (
                "fusion_elementwise_add_activation X=(1, 8, 4, 4) Y=(8, 1, 1) axis=-1 out=(1, 8, 4, 4)",
                "fusion_elementwise_add_activation X=(1, 8, 4, 4) Y=(8, 1, 1) axis=1 out=(1, 8, 4, 4)",
                "fusion_elementwise_add_activation X=(1, 8, 4, 4) Y=(8, 1) axis=1 out=(1, 8, 4, 4)",
                "fusion_elementwise_add_activation X=(1, 8, 4, 4) Y=(8,) axis=1 out=(1, 8, 4, 4)",
            ),
        ),
        (
            Kernel.of("reshape", [(1, 8, 1, 1)], [(1, 8)]),
            (
                "reshape2 in=(1, 8, 1, 1) out=(1, 8)",
                "flatten_contiguous_range in=(1, 8, 1, 1) start_axis=1 stop_axis=None out=(1, 8)",
                "squeeze2 in=(1, 8, 1, 1) axes=[2, 3]  out=(1, 8)",
            ),
        ),
        (
            Kernel.of("linear", [(1, 8)], [(1, 9)], bias=1),
            ("fc in=(1, 8) weight=(8, 9) out=(1, 9)",),
        ),
        (
            Kernel.of(
                "pool2d",
                [(1, 8, 4, 4)],
                [(1, 8, 1, 1)],
                **(WINDOW | {"global": 1, "kernel": (4, 4), "pad": (0,) * 4, "type": "avg"}),
            ),
            ("pool2d in=(1, 8, 4, 4) out=(1, 8, 1, 1) stride=1 kernel=1x1 pad=0 flag_global=1 type=avg)",),
        ),
    ],
    ids=lambda value: value.op if isinstance(value, Kernel) else "",
)
def test_spellings(kernel: Kernel, keys: tuple[str, ...]) -> None:
    assert paddleslim_keys(kernel) == keys


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [
        (Kernel.of("raster", [(1, 8)], [(1, 8)], source="packed", target="plain"), "PaddleSlim has no key for raster"),
        (Kernel.of("relu", [(1, 8)], [(1, 8)], dtype="fp16"), "a key of relu does not contain the type fp16"),
        (Kernel.of("add", [(1, 8)], [(1, 8)], scalar=1), "an operand that is a number has no key"),
        (
            Kernel.of("add", [(1, 8)] * 2, [(1, 8)], act="relu6"),
            "PaddleSlim's optimiser fuses no relu6 into an element-wise op",
        ),
        (Kernel.of("matmul", [(2, 2)], [(2, 2)]), "a constant that multiplies from the left has no key"),
        (
            Kernel.of("conv2d", CONV.inputs, CONV.outputs, **{**CONV.attributes, "act": "hard_swish"}),
            "PaddleSlim's optimiser fuses no hard_swish into a convolution",
        ),
        (
            Kernel.of("conv2d", CONV.inputs, CONV.outputs, **{**CONV.attributes, "stride": (1, 2)}),
            "a key holds one number of `stride`, and its own differ: (1, 2)",
        ),
        (
            Kernel.of("paddle.prior_box", [(1, 8)], [(1, 8)], min_sizes="v1.0"),
            "its key cannot be rebuilt from attributes that the kernel holds as names",
        ),
    ],
    ids=lambda value: value.op if isinstance(value, Kernel) else "",
)
def test_what_has_no_key_says_why(kernel: Kernel, reason: str) -> None:
    with pytest.raises(KernelError) as caught:
        paddleslim_keys(kernel)
    assert str(caught.value) == reason


def test_pickle_is_a_plain_dict_of_protocol_3(tmp_path: Path) -> None:
    path = export_paddleslim(table_of(RELU, CONV), tmp_path).path
    assert path.name == "SD710_threads_4_power_mode_0.pkl"
    data = path.read_bytes()
    opcodes = [opcode.name for opcode, _, _ in pickletools.genops(data)]
    assert data[:2] == b"\x80\x03"
    assert not {"GLOBAL", "STACK_GLOBAL", "REDUCE"} & set(opcodes)
    assert pickle.loads(data) == {paddleslim_keys(RELU)[0]: 0.5, paddleslim_keys(CONV)[0]: 1.5}  # noqa: S301


def test_round_trip(tmp_path: Path) -> None:
    kernels = (RELU, CONV, Kernel.of("reshape", [(1, 8, 1, 1)], [(1, 8)]))
    table, report = import_paddleslim(export_paddleslim(table_of(*kernels), tmp_path).path)
    assert not report.skipped
    assert [table[kernel].latency_ms for kernel in kernels] == [0.5, 1.5, 2.5]
    assert len(table) == 3
    sheet = table.datasheet
    assert (sheet.device, sheet.threads, sheet.power_mode) == ("SD710", 4, "HIGH")


@pytest.mark.skipif(not RK3288.is_file(), reason=f"needs {RK3288}")
def test_real_table_makes_the_round_trip(tmp_path: Path) -> None:
    table, report = import_paddleslim(RK3288)
    path = export_paddleslim(table, tmp_path).path
    again, report_again = import_paddleslim(path)
    assert dict(again.entries) == dict(table.entries)
    assert not report_again.skipped
    written = pickle.loads(path.read_bytes())  # noqa: S301
    stated = {
        key
        for key in pickle.loads(RK3288.read_bytes()).keys() - report.skipped.keys()  # noqa: S301
        if "-1" not in key.replace("axis=-1", "")
    }
    assert len(stated) > 1400
    assert stated <= written.keys()  # every key that PaddleSlim's table had for a stated batch


def test_2021(tmp_path: Path) -> None:
    path = export_paddleslim(table_of(RELU), tmp_path / "x.pkl", dialect="2021").path
    assert pickle.loads(path.read_bytes()) == {"relu in=(1, 8)": 0.5}  # noqa: S301
    assert parse_paddleslim_key("relu in=(1, 8)") == RELU


def test_what_cannot_be_expressed_is_refused_or_left_out(tmp_path: Path) -> None:
    raster = Kernel.of("raster", [(1, 8)], [(1, 8)], source="packed", target="plain")
    plain = Kernel.of("conv2d", CONV.inputs, CONV.outputs, **{**CONV.attributes, "act": "relu"})
    table = table_of(RELU, raster, CONV, plain)
    with pytest.raises(TableError) as caught:
        export_paddleslim(table, tmp_path)
    key = paddleslim_keys(CONV)[0]
    assert str(caught.value) == (
        f"Expected kernels that PaddleSlim's format can express, but 2 of mine cannot be expressed: raster [1,8] "
        f"-> [1,8] source=packed target=plain dtype=fp32 (PaddleSlim has no key for raster); {key} (kernels of 2 "
        f"latencies have this key). Pass partial=True (--partial) to write the others."
    )
    assert not list(tmp_path.iterdir())
    report = export_paddleslim(table, tmp_path, partial=True)
    assert pickle.loads(report.path.read_bytes()) == {paddleslim_keys(RELU)[0]: 0.5, key: 3.0}  # noqa: S301
    assert (report.n_rows, report.lost) == (
        3,
        (
            "the datasheet: device, threads and power mode are only in the file's name",
            "kernels that PaddleSlim has no key for (1)",
            "differences between kernels of the same key (1 keys): each key has their mean",
        ),
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"engine": "MNN"},
            (
                "Expected a table of Paddle-Lite on a real device to write as PaddleSlim's, but mine is of SD710: MNN "
                "on CPU, fp32, 4 threads, batch 1, measured."
            ),
        ),
        (
            {"emulated": True},
            (
                "Expected a table of Paddle-Lite on a real device to write as PaddleSlim's, but mine is of SD710: "
                "Paddle-Lite on CPU, fp32, 4 threads, batch 1, measured, EMULATED: no device's times."
            ),
        ),
        (
            {"device": "my board", "threads": None},
            (
                "Expected a device of one word, threads, and a power mode out of HIGH, LOW, FULL, NO_BIND, RAND_HIGH, "
                "RAND_LOW to name the file by, but got 'my board', None and 'HIGH'. Give the file's own path instead."
            ),
        ),
    ],
    ids=["engine", "emulated", "name"],
)
def test_conditions_that_cannot_be_expressed(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TableError) as caught:
        export_paddleslim(table_of(RELU, **changes), tmp_path)
    assert str(caught.value) == message
