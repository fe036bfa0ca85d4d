"""``latency-nas table import``, ``export`` and ``formats``."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from latency_nas import Datasheet, Kernel, LatencyTable, load_table, save_table
from latency_nas.cli.main import app
from latency_nas.table import Entry
from tests.cli.test_main import run_main

RELU, LINEAR = Kernel.of("relu", [(1, 8)], [(1, 8)]), Kernel.of("linear", [(1, 8)], [(1, 9)], bias=1)
RASTER = Kernel.of("raster", [(1, 8)], [(1, 8)], source="packed", target="plain")
SHEET = Datasheet(device="SD710", engine="Paddle-Lite", method="measured", threads=4, power_mode="HIGH")


def table_file(folder: Path, *kernels: Kernel) -> Path:
    rows = {kernel: Entry(latency_ms=0.5 + number, n_samples=3) for number, kernel in enumerate(kernels)}
    return save_table(LatencyTable.of(rows, SHEET), folder / "t.parquet")


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_csv_and_back(tmp_path: Path) -> None:
    table, csv, back = table_file(tmp_path, RELU, LINEAR), tmp_path / "t.csv", tmp_path / "back.parquet"
    assert run("table", "export", table, csv) == f"{csv}: 2 kernels\n"
    assert run("table", "import", csv, "-o", back) == (
        f"{back}: 2 kernels. SD710: Paddle-Lite on CPU, fp32, 4 threads, batch 1, measured\n"
        f"2 of 2 keys used; 0 kernels have several keys.\n"
    )
    assert load_table(back).fingerprint() == load_table(table).fingerprint()


def test_what_is_lost_and_what_is_refused(tmp_path: Path) -> None:
    table, file = table_file(tmp_path, RELU, RASTER), tmp_path / "t.pkl"
    refused = run_main("table", "export", str(table), str(file))
    assert refused.returncode == 1
    assert "(PaddleSlim has no key for raster). Pass partial=True (--partial) to write the others." in refused.stderr
    assert run("table", "export", table, file, "--partial", "--option", "dialect=2021") == (
        f"{file}: 1 kernels\n"
        f"lost: the datasheet: device, threads and power mode are only in the file's name\n"
        f"lost: the spread and the number of samples of each row\n"
        f"lost: kernels that PaddleSlim has no key for (1)\n"
    )
    assert run("table", "import", file, "-o", tmp_path / "b.parquet", "--device", "SD710", "--threads", 4) == (
        f"{tmp_path / 'b.parquet'}: 1 kernels. SD710: Paddle-Lite 2.11 on CPU, fp32, 4 threads, batch 1, imported\n"
        f"1 of 1 keys used; 0 kernels have several keys.\n"
    )


def test_options_of_a_format(tmp_path: Path) -> None:
    file, table = tmp_path / "latency.dat", tmp_path / "t.parquet"
    file.write_text("relu;1;8;4;4\t500\nlstm;1;8\t2\n")
    output = run(
        "table", "import", file, "-o", table, "--format", "evaluator-text", "--unit", "us", "--option", "delimiter=;",
        "--device", "SD855", "--engine", "Paddle-Lite", "--engine-version", "2.9", "--soc", "Snapdragon 855",
    )  # fmt: skip
    assert output == (
        f"{table}: 1 kernels. SD855: Paddle-Lite 2.9 on CPU, fp32, threads not stated, batch 1, imported\n"
        f"1 of 2 keys used; 0 kernels have several keys.\n"
        f"not used: 'lstm;1;8': the op type 'lstm' is not known\n"
    )
    assert load_table(table).datasheet.soc == "Snapdragon 855"


def test_errors_are_one_line(tmp_path: Path) -> None:
    yaml = tmp_path / "t.yaml"
    yaml.write_text("relu: 0.5\n")
    failed = run_main("table", "import", str(yaml), "-o", str(tmp_path / "t.parquet"))
    assert failed.returncode == 1
    assert failed.stderr.startswith(
        f"error: TableFileError: Expected {yaml} to be a latency table, but it looks like YAML."
    )
    failed = run_main("table", "import", str(yaml), "-o", str(tmp_path / "t.parquet"), "--option", "unit")
    assert failed.stderr == "error: TableError: Expected --option to be NAME=VALUE, but got 'unit'.\n"
    failed = run_main("predict", "x.onnx", "--table", str(yaml))
    assert "looks like YAML" in failed.stderr


def test_formats_are_listed_with_their_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    output = run("table", "formats")
    lines = [" ".join(line.split()) for line in output.splitlines()]
    assert "parquet .parquet read, written a table of this library in Parquet" in lines
    assert "evaluator-text .txt .csv read a text of PaddleSlim's TableLatencyEvaluator" in lines
    assert "unit: unit of the latencies, ms or us" in lines
