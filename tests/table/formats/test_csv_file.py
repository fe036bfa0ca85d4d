"""CSV: our own export and import without a loss, changed files, and foreign ones."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings

from latency_nas import Datasheet, Kernel, LatencyTable, load_table
from latency_nas.errors import TableFileError
from latency_nas.table import Entry
from latency_nas.table.formats.csv_file import export_csv, import_csv, recognises_csv
from tests.table.formats.test_parquet_file import entries, kernels
from tests.table.test_datasheet import datasheets, st

RELU, GELU = (Kernel.of(op, [(1, 8)], [(1, 8)]) for op in ("relu", "gelu"))
LINEAR = Kernel.of("linear", [(1, 1024)], [(1, 1000)], bias=1)
ROWS = {RELU: Entry(latency_ms=0.1 + 0.2, std_ms=0.01, n_samples=9), LINEAR: Entry(latency_ms=0.25)}
SHEET = Datasheet(
    device="Board", engine="Paddle-Lite", dialect="2.11", method="measured", threads=4, sources=("a, b", 'c "d"'),
    expected_error=0.02, error_90=0.05, unrecorded=("conv2d.act",), notes="ä, 文\nand # a line",
)  # fmt: skip


def exported(folder: Path, sheet: Datasheet = SHEET) -> Path:
    return export_csv(LatencyTable.of(ROWS, sheet), folder / "t.csv")


@given(st.dictionaries(kernels, entries, max_size=5), datasheets)
@settings(deadline=None, max_examples=60)
def test_there_and_back(tmp_path_factory: pytest.TempPathFactory, rows: dict[Kernel, Entry], sheet: Datasheet) -> None:
    table = LatencyTable.of(rows, sheet)
    path = export_csv(table, tmp_path_factory.getbasetemp() / "new csv" / "there.csv")
    assert recognises_csv(path.read_bytes()[:1000], path)
    back, report = import_csv(path)
    assert (back.entries, list(back), back.datasheet) == (table.entries, list(table), sheet)
    assert back.fingerprint() == table.fingerprint()
    assert (report.n_keys, report.n_used, report.skipped) == (len(rows), len(rows), {})


def test_a_spreadsheet_that_saved_it_as_it_was_changed_nothing(tmp_path: Path) -> None:
    path = exported(tmp_path)
    cells = list(csv.reader(io.StringIO(path.read_text())))
    width = max(map(len, cells))
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([*row, *[""] * (width - len(row))] for row in cells)
    assert '"# sources: [""a' in path.read_text()
    table, report = import_csv(path)
    assert table.fingerprint() == LatencyTable.of(ROWS, SHEET).fingerprint()
    assert report.remarks == ()


@pytest.mark.parametrize(
    ("old", "new"),
    [("0.25", "0.125"), ('"Board"', '"Phone"'), ("# fingerprint", "# notes")],
    ids=["row", "datasheet", "fingerprint"],
)
def test_what_was_changed_is_no_measured_table(tmp_path: Path, old: str, new: str) -> None:
    path = exported(tmp_path)
    path.write_text(path.read_text().replace(old, new))
    table, report = import_csv(path)
    sheet = table.datasheet
    assert (sheet.method, sheet.expected_error, sheet.error_90) == ("imported", None, None)
    assert (sheet.threads, sheet.dialect, sheet.unrecorded) == (4, "2.11", ("conv2d.act",))
    assert report.remarks == (
        "Its rows or its datasheet are not those that were exported, so that it is no longer a measured table.",
    )


def test_rows_that_cannot_be_used_are_left_out_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(
        f'kernel,latency_ms,n_samples\n"{RELU}",0.5,3\n"{RELU}",0.6,3\nrelu,0.5,3\n"{GELU}",fast,3\n"{GELU}",-1,3\n'
        f'"{GELU}"\n"{LINEAR}",1e-9,3\n"{GELU}",5000,3\n'
    )
    table, report = import_csv(path)
    assert dict(table.items()) == {RELU: Entry(latency_ms=0.5, n_samples=3)}
    sheet = table.datasheet
    assert (sheet.device, sheet.engine, sheet.method) == ("not stated (t.csv)", "not stated", "imported")
    assert (report.n_keys, report.n_used) == (8, 1)
    another = "the time is of another unit, or of another kernel"
    assert report.skipped == {
        "line 3": "the kernel is there again",
        "line 4": "Expected a kernel key such as 'linear [1,128] -> [1,10] bias=1 dtype=fp32', but got 'relu'.",
        "line 5": "a field cannot be read (could not convert string to float: 'fast')",
        "line 6": "Expected `latency_ms` to be a positive finite number, but got -1.0.",
        "line 7": "a field cannot be read (could not convert string to float: '')",
        str(LINEAR): f"line 8: 1e-09 ms for 1.02e+06 multiply-accumulates is faster than any processor: {another}",
        str(GELU): f"line 9: 5000 ms for 0 multiply-accumulates and 64 bytes is slower than any processor: {another}",
    }


def test_an_impossible_row_of_an_unchanged_table_stays_and_is_reported(tmp_path: Path) -> None:
    rows = {RELU: Entry(latency_ms=0.5), GELU: Entry(latency_ms=1e6)}
    table, report = import_csv(export_csv(LatencyTable.of(rows, SHEET), tmp_path / "t.csv"))
    assert dict(table.items()) == rows
    assert [remark.partition(":")[0] for remark in report.remarks] == ["line 27"]


def test_an_older_export_says_what_to_do(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f'# device: Board\n# engine: MNN\n# threads: 1\nkernel,op,latency_ms\n"{RELU}",relu,0.5\n')
    table = load_table(path)
    assert table.datasheet.method == "imported"
    assert caplog.messages == [
        (
            f"{path}: It does not state how it was measured, so that no model can be priced by it: pass device, engine "
            f"and threads to load_table, or to latency-nas table import."
        )
    ]
    caplog.clear()
    sheet = load_table(path, device="Board", engine="MNN", threads=1).datasheet
    assert (sheet.device, sheet.engine, sheet.threads, sheet.method) == ("Board", "MNN", 1, "imported")
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"model,latency_ms\nx,1\n", "Expected the columns kernel, latency_ms in {path}, but got 'model, latency_ms'."),
        (b"", "Expected the columns kernel, latency_ms in {path}, but got ''."),
        (b"kernel,latency_ms\n\xe4,1\n", "Expected {path} to be text in UTF-8, but byte 18 is not."),
        (
            b"kernel,latency_ms\nrelu,1\n",
            (
                "Expected rows of kernels in {path}, but none of 1 can be used (line 2: Expected a kernel key such as "
                "'linear [1,128] -> [1,10] bias=1 dtype=fp32', but got 'relu')."
            ),
        ),
        (b"kernel,latency_ms\n", "Expected rows of kernels in {path}, but none of 0 can be used."),
        (
            b"# latency_nas: 2\nkernel,latency_ms\n",
            "Expected {path} to have version 1, but it has 2: it was written by another version of latency_nas.",
        ),
        (
            b"# latency_nas#: 1\nkernel,latency_ms\n",
            "Expected {path} to have version 1, but it has None: it was written by another version of latency_nas.",
        ),
        (
            b"# latency_nas: 1\n# device: Board\nkernel,latency_ms\n",
            "Expected line 2 of {path} to be `# name: value` with the value in JSON, but got '# device: Board\\n'.",
        ),
        (
            b"# latency_nas: 1\n# device: " + b"[" * 100_000 + b"\nkernel,latency_ms\n",
            "Expected line 2 of {path} to be `# name: value` with the value in JSON, but got '# device: "
            + "[" * 87
            + "..."
            + "[" * 96
            + "\\n'.",
        ),
        (
            b'# latency_nas: 1\n# device: "Board"\nkernel,latency_ms\n',
            (
                "Expected a valid datasheet in {path}: Expected a complete datasheet, but Datasheet.__init__() missing "
                "2 required keyword-only arguments: 'engine' and 'method'."
            ),
        ),
        (
            b"kernel,latency_ms\n" + b"x" * 200_000 + b",1\n",
            "Expected {path} to be CSV, but line 2 is not: field larger than field limit (131072).",
        ),
    ],
    ids=[
        "columns", "empty", "bytes", "no kernel", "no row", "version", "no version", "no JSON", "deep", "datasheet",
        "long",
    ],
)  # fmt: skip
def test_files_that_are_no_such_tables(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(TableFileError) as caught:
        import_csv(path)
    assert str(caught.value) == message.format(path=path)


def test_row_with_an_unrecorded_attribute_is_refused(tmp_path: Path) -> None:
    path = exported(tmp_path, replace(SHEET, unrecorded=("conv2d.act",)))
    path.write_text(path.read_text().replace("conv2d.act", "linear.bias"))
    with pytest.raises(TableFileError) as caught:
        import_csv(path)
    assert str(caught.value) == (
        f"{path} is not valid: Expected rows without what the datasheet calls unrecorded, but got {LINEAR}."
    )


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = exported(tmp_path)
    before = path.read_bytes()

    def broken(_: Kernel) -> int:
        raise OSError("full")

    monkeypatch.setattr("latency_nas.table.formats.csv_file.n_flops", broken)
    with pytest.raises(OSError, match="full"):
        exported(tmp_path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def conv(width: int) -> Kernel:
    window = {"kernel": (3, 3), "stride": (1, 1), "pad": (1,) * 4, "dilation": (1, 1), "group": 1}
    return Kernel.of("conv2d", [(1, width, 56, 56)], [(1, width, 56, 56)], **window)


@pytest.mark.parametrize(
    ("column", "unit", "factor"),
    [
        ("latency_ms", None, 1.0), ("latency_us", None, 1e-3), ("latency", "us", 1e-3), ("latency", "ms", 1.0),
        ("latency_ms", "us", 1e-3),
    ],
)  # fmt: skip
def test_the_unit_of_a_column(tmp_path: Path, column: str, unit: Literal["ms", "us"] | None, factor: float) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f'kernel,{column}\n"{conv(64)}",2.5\n')
    table, _ = import_csv(path, unit=unit)
    assert table[conv(64)].latency_ms == pytest.approx(2.5 * factor)
    assert load_table(path, unit=unit)[conv(64)] == table[conv(64)]


def test_a_unit_that_is_unsaid_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f'kernel,latency\n"{conv(64)}",2.5\n')
    with pytest.raises(TableFileError) as caught:
        load_table(path)
    assert str(caught.value) == (
        f"Expected the unit of the latencies in {path}, which the file does not state, to be ms or us, but got None: "
        f"pass unit='us', or --unit us on the command line."
    )


@pytest.mark.parametrize(("factor", "word"), [(1e6, "slower"), (1e-6, "faster")])
def test_a_file_in_another_unit_is_refused_as_a_whole(tmp_path: Path, factor: float, word: str) -> None:
    """The times of kernels that do not multiply are possible in any unit, and would be kept."""
    path = tmp_path / "t.csv"
    rows = {**{conv(width): 2.5 * width / 64 for width in (32, 64, 96, 128)}, RELU: 0.01, GELU: 0.02}
    path.write_text("kernel,latency_ms\n" + "".join(f'"{kernel}",{ms * factor!r}\n' for kernel, ms in rows.items()))
    with pytest.raises(TableFileError) as caught:
        load_table(path)
    message = str(caught.value)
    assert message.startswith(f"Expected times of kernels in {path}, but 4 of 4 are impossible (line 2: ")
    assert f"{word} than any processor" in message
    assert message.endswith("): state their unit by unit='us', or by --unit us on the command line, or convert them to "
                            "milliseconds.")  # fmt: skip
