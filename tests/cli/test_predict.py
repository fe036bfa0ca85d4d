"""``latency-nas predict``: the figures, the table that adds up, JSON, and what it says of a miss."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import torch
from onnx import parser
from torch import nn
from typer.testing import CliRunner

from latency_nas import Kernel, LatencyTable, save_table
from latency_nas.cli.main import app
from latency_nas.graph.torch.onnx_export import export_onnx
from latency_nas.table import Datasheet, Entry
from tests.cli.test_main import run_main

RELU = Kernel.of("relu", [(1, 8)], [(1, 8)])


@pytest.fixture
def table(tmp_path: Path) -> Path:
    sheet = Datasheet(device="Example board", engine="MNN", method="measured", threads=1)
    entries = {RELU: Entry(latency_ms=0.5, std_ms=0.125)}
    return save_table(LatencyTable.of(entries, sheet), tmp_path / "board.parquet")


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["predict", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_total_and_kernels(table: Path) -> None:
    output = run("torch.nn:ReLU", "--table", str(table), "--input-shape", "1,8")
    lines = [" ".join(line.split()) for line in output.splitlines()]
    assert lines == [
        "kernel layer ms ± ms source",
        "relu [1,8] -> [1,8] dtype=fp32 0.5000 0.1250 table",
        "total 0.5000 0.1250 100.0% from the table",
        f"torch.nn:ReLU by {table} (Example board: MNN on CPU, fp32, 1 thread, batch 1, measured):",
        "0.500 ± 0.125 ms, coverage 100.0% of 1 kernels",
        "kernels by the rules of MNN (the engine is not asked: it takes files only (.mnn, .onnx))",
    ]


def test_json(table: Path) -> None:
    plain = json.loads(run("torch.nn:ReLU", "-t", str(table), "--input-shape", "1,8", "--json"))
    assert plain["latency_ms"] == math.fsum(item["latency_ms"] for item in plain["kernels"]) == 0.5
    assert (plain["std_ms"], plain["coverage"], plain["model"]) == (0.125, 1.0, "torch.nn:ReLU")
    assert plain["sources"] == {"table": 1, "regressed": 0, "missing": 0}
    assert plain["table"]["datasheet"]["device"] == "Example board"
    assert Kernel.parse(plain["kernels"][0]["kernel"]) == RELU
    assert {"layer", "source", "std_ms", "extrapolated"} <= plain["kernels"][0].keys()


BRANCHED = (
    '<ir_version: 9, opset_import: ["": 18]> g (float[N, 8] x, float[N, 8] z, bool c) => (float[N, 8] y) {'
    "y = If(c) <then_branch = g1 () => (float[N, 8] a) { a = Relu(x) },"
    "else_branch = g2 () => (float[N, 8] a) { b = Relu(x)\n a = Relu(b) }> }"
)


def test_several_inputs_and_a_branch_that_one_of_them_decides(table: Path, tmp_path: Path) -> None:
    onnx.save(parser.parse_model(BRANCHED), tmp_path / "net.onnx")
    shapes = ("--input-shape", "x=1,8", "--input-shape", "z=1,8")
    output = run(str(tmp_path / "net.onnx"), "-t", str(table), *shapes)
    assert output.splitlines()[-2] == (
        "1.000 ± 0.177 ms, down to 0.500 ms by the condition of If `y` on `c`, coverage 100.0% of 2 kernels"
    )
    plain = json.loads(run(str(tmp_path / "net.onnx"), "-t", str(table), *shapes, "--json"))
    assert (plain["low_ms"], plain["latency_ms"], plain["conditions"]) == (0.5, 1.0, ["If `y` on `c`"])


def test_errors_are_one_message(table: Path) -> None:
    missing = run_main("predict", "torch.nn:ReLU", "-t", str(table), "--input-shape", "1,9")
    assert missing.returncode == 1
    assert missing.stderr.startswith("error: MissingKernelError: 1 of 1 different kernels have no price in")
    shape = run_main("predict", "torch.nn:ReLU", "-t", str(table), "--input-shape", "1x9")
    assert shape.stderr == (
        "error: InputMismatchError: Expected --input-shape to be positive integers such as 1,3,224,224, but got "
        "'1x9'.\n"
    )
    policy = run_main("predict", "torch.nn:ReLU", "-t", str(table), "--on-missing", "guess")
    assert policy.stderr == (
        "error: TableError: Expected `on_missing` to be error, regress or warn, but got 'guess'.\n"
    )


def test_a_file_is_priced_without_torch_or_scikit_learn(tmp_path: Path) -> None:
    """By a named table, in a process of its own: both would take longer than all of the prediction."""
    export_onnx(nn.Conv2d(5, 7, 3), torch.zeros(1, 5, 9, 9), tmp_path / "net.onnx")
    code = (
        "import sys; from latency_nas.cli.main import app; "
        f"app(['predict', {str(tmp_path / 'net.onnx')!r}, '--table', 'SD865', '--json'], standalone_mode=False); "
        "print([name for name in ('torch', 'sklearn', 'scipy.optimize', 'scipy.stats') if name in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)  # noqa: S603
    assert '"regressed": 1' in printed.stdout
    assert printed.stdout.splitlines()[-1] == "[]"
