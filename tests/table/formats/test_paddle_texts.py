"""The two text tables of Paddle's: rows as kernels, headers as datasheets, and what cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from latency_nas import Kernel
from latency_nas.errors import TableFileError
from latency_nas.table.formats.evaluator_text import import_evaluator_text
from latency_nas.table.formats.lite_text import import_lite_text

SD855 = Path(__file__).resolve().parents[4] / "shared/data/paddledet_sd855_optable/latency_855.csv"

EVALUATOR = {
    "conv,0,1,1,8,320,320,16,1,3,1,2,1\t1.5": (
        "conv2d [1,8,320,320] -> [1,16,160,160] act=relu bias=0 dilation=[1,1] group=1 kernel=[3,3] pad=[1,1,1,1] "
        "stride=[2,2] dtype=fp32"
    ),
    "conv2d,1,0,1,8,9,9,8,8,5,4,1,2\t2": (
        "conv2d [1,8,9,9] -> [1,8,9,9] bias=1 dilation=[2,2] group=8 kernel=[5,5] pad=[4,4,4,4] stride=[1,1] dtype=fp32"
    ),
    "relu,1,8,4,4\t0.25": "relu [1,8,4,4] -> [1,8,4,4] dtype=fp32",
    "batch_norm,None,1,8,4,4\t0.5": "batch_norm [1,8,4,4] -> [1,8,4,4] dtype=fp32",
    "batch_norm,relu,1,8,4,4\t0.5": "batch_norm [1,8,4,4] -> [1,8,4,4] act=relu dtype=fp32",
    "eltwise,1,1,8,4,4\t0.5": "mul [1,8,4,4] [1,8,4,4] -> [1,8,4,4] dtype=fp32",
    "pooling,0,1,8,5,5,2,0,2,1,1\t0.5": (
        "pool2d [1,8,5,5] -> [1,8,3,3] ceil=1 kernel=[2,2] pad=[0,0,0,0] stride=[2,2] type=max dtype=fp32"
    ),
    "pooling,1,1,8,5,5,5,0,1,0,3\t0.5": (
        "pool2d [1,8,5,5] -> [1,8,1,1] global=1 kernel=[5,5] pad=[0,0,0,0] stride=[1,1] type=avg dtype=fp32"
    ),
    "softmax,-1,1,8,1,1\t0.5": "softmax [1,8,1,1] -> [1,8,1,1] axis=3 dtype=fp32",
}
UNUSABLE = {
    "conv,0,1,1,8,9,9,8,1,3,1,1,1,5\t1": "sizes that differ by axis are appended without saying which",
    "eltwise,1,8,4,4\t1": "which operation it is is not stated",
    "lstm,1,8\t1": "the op type 'lstm' is not known",
    "relu,1,8,x\t1": "a field cannot be read (invalid literal for int() with base 10: 'x')",
    "relu,1,9\t0": "Expected `latency_ms` to be a positive finite number, but got 0.0.",
}


def test_evaluator_text(tmp_path: Path) -> None:
    path = tmp_path / "table.txt"
    path.write_text("\n".join(["anakin\tRK3288\t20190801", *EVALUATOR, *UNUSABLE, ""]))
    table, report = import_evaluator_text(path, unit="ms")
    assert [kernel.key for kernel in table] == [*EVALUATOR.values()]
    assert [row.latency_ms for row in table.entries.values()] == [float(line.split("\t")[1]) for line in EVALUATOR]
    assert report.skipped == {line.split("\t")[0]: reason for line, reason in UNUSABLE.items()}
    assert (table.datasheet.device, table.datasheet.engine) == ("RK3288", "anakin")
    assert "20190801" in table.datasheet.notes


def test_header_as_the_documents_have_it(tmp_path: Path) -> None:
    path = tmp_path / "table.txt"
    path.write_text("SD855,Paddle-Lite,2020-01-01\nrelu,1,8,4,4\t250\n")
    table, _ = import_evaluator_text(path, unit="us", threads=1)
    assert [row.latency_ms for row in table.entries.values()] == [0.25]
    assert (table.datasheet.device, table.datasheet.engine, table.datasheet.threads) == ("SD855", "Paddle-Lite", 1)


@pytest.mark.skipif(not SD855.is_file(), reason=f"needs {SD855}")
def test_real_table_of_paddledetection() -> None:
    table, report = import_evaluator_text(SD855, unit="us")
    assert (report.n_keys, report.n_used, len(table)) == (595, 595, 595)
    # 0,0,1,3,640,640,8,1,3,1,2,1,2433 is its first row; no row of it states a bias or an activation
    kernel = Kernel.parse(
        "conv2d [1,3,640,640] -> [1,8,320,320] act=relu bias=1 dilation=[1,1] group=1 kernel=[3,3] pad=[1,1,1,1] "
        "stride=[2,2] dtype=fp32"
    )
    assert table[kernel].latency_ms == pytest.approx(2.433)


LITE = """dev_info           \tcore_num\tthread_num\tpower_mode\tcore0 arch\tcore1 arch
Hisilicon Kirin980 \t8 \t1 \t0 \tARM_A55\tARM_A76

op_name   \tinput_dims\toutput_dims\tparam_info\tmin_latency(ms)\tmax_latency(ms)\tavg_latency(ms)
conv\t[1 96 112 112]\t[1 48 114 114]\t(ch_out=48, stride=1, pad=0, kernel=1x1, group=1, dilation=1, flag_bias=0, flag_act=2, dtype=float) \t3.469 \t4.111 \t3.52088
conv\t[1 96 8 8]\t[1 96 8 8]\t(ch_out=96, stride=1, pad=1, kernel=3x3, group=96, dilation=1, flag_bias=1, flag_act=0, dtype=int8_float) \t3.469 \t4.111 \t0.5
fc\t[1 64]\t[64 1000]\t(param_dim=64x1000, flag_bias=1, dtype=float)\t0.135\t0.176\t0.13779
batchnorm\t[1 8 64 64]\t[1 8 64 64]\t(epsilon=1e-4f, momentum=0.9f, dtype=float)\t0.014\t0.178\t0.01679
pooling\t[1 8 64 64]\t[1 8 32 32]\t(stride=2, pad=0, kernel=2x2, ceil_mode=0, flag_global=0, exclusive=0, pooling_type=avg, dtype=float) \t0.009\t0.011\t0.00983
pooling\t[1 8 64 64]\t[1 8 1 1]\t(stride=2, pad=0, kernel=2x2, ceil_mode=0, flag_global=1, exclusive=0, pooling_type=max, dtype=float) \t0.009\t0.011\t0.0123
activation\t[1 8 64 64]\t[1 8 64 64]\t(act_type=relu, dtype=float)\t0.01\t0.036\t0.01103
conv\t[1 96 8 8]\t[1 96 8 8]\t(ch_out=96, stride=1, pad=1, kernel=3x3, group=96, dilation=1, flag_bias=1, flag_act=0, dtype=int8_int8) \t3.469 \t4.111 \t0.5
activation\t[1 8 64 64]\t[1 8 64 64]\t(act_type=threshold_relu, dtype=float)\t0.01\t0.036\t0.01103
fc\t[1 63]\t[64 1000]\t(param_dim=64x1000, flag_bias=1, dtype=float)\t0.135\t0.176\t0.13779
relu\t[1 8]\t0.5
"""  # noqa: E501


def test_lite_text(tmp_path: Path) -> None:
    path = tmp_path / "latency_lookup_table.txt"
    path.write_text(LITE)
    table, report = import_lite_text(path)
    assert {kernel.key: row.latency_ms for kernel, row in table.items()} == {
        "conv2d [1,96,112,112] -> [1,48,112,112] act=relu6 bias=0 dilation=[1,1] group=1 kernel=[1,1] pad=[0,0,0,0] "
        "stride=[1,1] dtype=fp32": 3.52088,
        "conv2d [1,96,8,8] -> [1,96,8,8] bias=1 dilation=[1,1] group=96 kernel=[3,3] pad=[1,1,1,1] stride=[1,1] "
        "dtype=int8": 0.5,
        "linear [1,64] -> [1,1000] bias=1 dtype=fp32": 0.13779,
        "batch_norm [1,8,64,64] -> [1,8,64,64] dtype=fp32": 0.01679,
        "pool2d [1,8,64,64] -> [1,8,32,32] kernel=[2,2] pad=[0,0,0,0] stride=[2,2] type=avg dtype=fp32": 0.00983,
        "pool2d [1,8,64,64] -> [1,8,1,1] global=1 kernel=[64,64] pad=[0,0,0,0] stride=[1,1] type=max "
        "dtype=fp32": 0.0123,
        "relu [1,8,64,64] -> [1,8,64,64] dtype=fp32": 0.01103,
    }
    assert [*report.skipped.values()] == [
        "the type of arithmetic 'int8_int8' has no kernel of its own",
        "the activation 'threshold_relu' is not known",
        "its weight of 64 rows does not fit its input",
        "it has 3 fields, and not 7",
    ]
    sheet = table.datasheet
    assert (sheet.device, sheet.threads, sheet.power_mode) == ("Hisilicon Kirin980", 1, "HIGH")
    assert sheet.notes == "Cores: ARM_A55, ARM_A76."


def test_files_that_are_no_such_tables(tmp_path: Path) -> None:
    path = tmp_path / "other.txt"
    path.write_text("relu,1,8\n")
    with pytest.raises(TableFileError) as caught:
        import_lite_text(path)
    assert str(caught.value) == (
        f"Expected a row that begins with op_name, input_dims, output_dims, param_info in {path}, but there is none."
    )
    path.write_text("nothing\n")
    with pytest.raises(TableFileError) as caught:
        import_evaluator_text(path, unit="ms")
    assert str(caught.value) == f"Expected rows of ops and latencies in {path}, but none of 0 can be used."
    path.write_bytes(bytes(range(128, 256)))
    with pytest.raises(TableFileError) as caught:
        import_lite_text(path)
    assert str(caught.value) == f"Expected {path} to be text in UTF-8, but byte 0 is not."
