"""``latency-nas tables``."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from latency_nas import Datasheet, Kernel, LatencyTable, save_table
from latency_nas.cli.main import app
from latency_nas.table import Entry, catalogue

RELU = Kernel.of("relu", [(1, 8)], [(1, 8)])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(catalogue, "_PACKAGE", tmp_path / "site-packages" / "latency_nas")
    monkeypatch.setenv(catalogue.FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def test_no_table() -> None:
    assert CliRunner().invoke(app, ["tables"]).output == "There are no named tables.\n"


def test_each_table_has_one_row(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for threads in (1, 2):
        sheet = Datasheet(
            device="SD855", engine="Paddle-Lite", method="derived", threads=threads,
            expected_error=0.041 * threads, expected_error_method="12 networks left out",
        )  # fmt: skip
        save_table(LatencyTable.of({RELU: Entry(latency_ms=0.5)}, sheet), folder / f"SD855/threads={threads}.parquet")
    sheet = Datasheet(device="My board", engine="MNN", method="measured", threads=1)
    save_table(LatencyTable.of({RELU: Entry(latency_ms=0.5)}, sheet), folder / "board.parquet")
    yaml = folder / "mine.yaml"
    yaml.write_text(f"tables: {{far: {{url: 'http://127.0.0.1:1/far.parquet', sha256: {'ab' * 32}}}}}")
    monkeypatch.setenv(catalogue.FOLDER_VARIABLE, f"{folder}:{yaml}")
    result = CliRunner().invoke(app, ["tables"], catch_exceptions=False)
    lines = [line.rstrip() for line in result.output.splitlines()]
    engine = "SD855: Paddle-Lite on CPU, fp32"
    assert [" ".join(line.split()) for line in lines] == [
        "name kernels conditions expected error",
        f"SD855 1 {engine}, 1 thread, batch 1, derived 4.1% (12 networks left out)",
        f"SD855/threads=2 1 {engine}, 2 threads, batch 1, derived 8.2% (12 networks left out)",
        "board 1 My board: MNN on CPU, fp32, 1 thread, batch 1, measured unknown",
        "far at http://127.0.0.1:1/far.parquet",
    ]
