"""``latency-nas calibrate``: runs of models with several inputs, and shapes that it refuses."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import parser

from latency_nas import Kernel, LatencyTable, load_table, save_table
from latency_nas.table import Datasheet, Entry
from tests.cli.test_main import run_main

ADD = Kernel.of("add", [(1, 8), (1, 8)], [(1, 8)])
NET = '<ir_version: 9, opset_import: ["": 18]> g (float[N, 8] x, float[N, 8] z) => (float[N, 8] y) { y = Add(x, z) }'


@pytest.fixture
def board(tmp_path: Path) -> Path:
    onnx.save(parser.parse_model(NET), tmp_path / "net.onnx")
    sheet = Datasheet(device="Board", engine="MNN", method="measured", threads=1)
    return save_table(LatencyTable.of({ADD: Entry(latency_ms=0.5)}, sheet), tmp_path / "board.parquet")


def calibrate(board: Path, shapes: str) -> str:
    runs = board.with_name("runs.csv")
    runs.write_text(f'model,input_shape,latency_ms\n{board.with_name("net.onnx")},"{shapes}",1.5\n')
    output = str(board.with_name("mine.parquet"))
    return run_main("calibrate", str(board), str(runs), "-o", output, "--device", "Mine", "--other-device").stderr


def test_shapes_of_several_inputs(board: Path) -> None:
    assert calibrate(board, "x=1,8; z=1,8") == ""
    assert load_table(board.with_name("mine.parquet"))[ADD].latency_ms == pytest.approx(1.5)


def test_a_shape_that_is_none_names_the_run(board: Path) -> None:
    assert calibrate(board, "x=1,0;z=1,8") == (
        f"error: InputMismatchError: Expected input_shape of run 1 in {board.with_name('runs.csv')} of x to be "
        "positive integers such as 1,3,224,224, but got '1,0'.\n"
    )
