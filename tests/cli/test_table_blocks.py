"""``latency-nas table import`` of blocks, and ``latency-nas table runs``."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from latency_nas import Datasheet, Kernel, LatencyTable, load_block_table, load_table, save_table
from latency_nas.cli.main import app
from latency_nas.errors import TableError
from latency_nas.table import Entry
from tests.cli.test_table_formats import run
from tests.table.formats.networks.test_runs import NEW

KEY = "Conv-input:224x224x3-output:112x112x32"


def invoke(*arguments: object) -> None:
    CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def test_blocks_become_json_with_a_datasheet(tmp_path: Path) -> None:
    source, target = tmp_path / "t.yaml", tmp_path / "t.json"
    source.write_text(f"{KEY}: {{mean: 5250}}\nother: {{mean: x}}\n")
    arguments = ["table", "import", source, "--unit", "us", "--device", "Phone", "--engine", "TFLite", "--batch", "8"]
    arguments += ["--backend", "GPU", "--precision", "fp16", "--threads", "1"]
    assert run(*arguments, "-o", target) == (
        f"{target}: 1 blocks. Phone: TFLite on GPU, fp16, 1 thread, batch 8, imported\n"
        f"1 of 2 keys used; 0 kernels have several keys.\n"
        f"It does not state the error of its latencies, so that the ± of a plan of its blocks is unknown.\n"
        f"not used: 'other': Expected a number, but got 'x'.\n"
    )
    assert load_block_table(target)[KEY] == 5.25
    shown = [" ".join(line.split()) for line in run("table", "info", target).splitlines()]
    assert "device Phone" in shown
    assert shown[-1] == "blocks 1"
    with pytest.raises(TableError) as caught:
        invoke(*arguments, "-o", tmp_path / "t.parquet")
    assert str(caught.value) == (
        f"Expected --output to end in .json, since {source} is a table of blocks, but got {tmp_path / 't.parquet'}."
    )


def test_runs_of_networks_calibrate_a_table(tmp_path: Path) -> None:
    perf, runs, model = tmp_path / "perf.yaml", tmp_path / "runs.csv", tmp_path / "net.onnx"
    perf.write_text(NEW)
    model.write_bytes(b"")
    arguments = ["table", "runs", perf, "-o", runs, "--option", "runtime=tflite", "--option", "precision=float"]
    assert run(*arguments, "--model", f"Net={model}") == (
        f"{runs}: 1 runs\nnot used: {perf}: Net, Phone B, float, tflite: it has no inference_time_milliseconds or "
        f"inference_time\n"
    )
    assert runs.read_text().splitlines() == ["model,input_shape,latency_ms", f"{model},,2.5"]
    shapes = ["--input-shape", "image=1,3,8,8", "--input-shape", "rate="]
    run(*arguments, "--model", f"Net={model}", *shapes)
    assert runs.read_text().splitlines()[1] == f'{model},"image=1,3,8,8;rate=",2.5'
    with pytest.raises(TableError) as caught:
        invoke(*arguments)
    assert f"{perf}: Net: no model file; pass --model 'Net=FILE'" in str(caught.value)
    with pytest.raises(TableError) as caught:
        invoke(*arguments, "--model", "Net")
    assert str(caught.value) == "Expected --model to be NAME=VALUE, but got 'Net'."


def test_ground_truth_runs_at_its_batch(tmp_path: Path) -> None:
    """From gt.txt and the model beside it to a calibrated table."""
    onnx = pytest.importorskip("onnx")
    shape = [1, 8, 4, 4]
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    (tmp_path / "onnx").mkdir()
    onnx.save(onnx.helper.make_model(graph), tmp_path / "onnx" / "relu.onnx")
    gt, runs, board = tmp_path / "gt.txt", tmp_path / "runs.csv", tmp_path / "board.parquet"
    gt.write_text("1 onnx/relu.onnx 4 2.0 relu 3 train\n2 onnx/none.onnx 4 2.0 relu 3 train\n")
    assert run("table", "runs", gt, "-o", runs) == (
        f"{runs}: 1 runs\nnot used: {gt}: onnx/none.onnx: no model file; pass --model 'onnx/none.onnx=FILE'\n"
    )
    assert runs.read_text().splitlines()[1] == f'{tmp_path / "onnx" / "relu.onnx"},"4,8,4,4",2.0'
    run("table", "runs", gt, "-o", runs, "--input-shape", "1,8,2,2")
    assert runs.read_text().splitlines()[1] == f'{tmp_path / "onnx" / "relu.onnx"},"4,8,2,2",2.0'
    run("table", "runs", gt, "-o", runs)
    relu = Kernel.of("relu", [(4, 8, 4, 4)], [(4, 8, 4, 4)])
    sheet = Datasheet(device="Board", engine="MNN", method="measured", threads=1, batch=4)
    save_table(LatencyTable.of({relu: Entry(latency_ms=0.5)}, sheet), board)
    run("calibrate", board, runs, "-o", tmp_path / "slow.parquet", "--device", "Slow", "--other-device")
    assert load_table(tmp_path / "slow.parquet")[relu].latency_ms == pytest.approx(2.0)
