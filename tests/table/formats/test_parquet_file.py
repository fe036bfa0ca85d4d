"""Tables as files: there and back, readable by others, and what a damaged file does."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency_nas import Datasheet, Kernel, LatencyTable, save_table
from latency_nas.errors import TableError, TableFileError
from latency_nas.table import Entry, read_table

SHEET = Datasheet(
    device="Example board",
    engine="MNN",
    method="measured",
    threads=4,
    sources=("a paper", "a benchmark"),
    expected_error=0.05,
    notes="ä, 文 and \N{SNOWMAN}",
)
KEYS = ["relu [1,8] -> [1,8] dtype=fp32", "gelu [1,8] -> [1,8] dtype=fp16"]
CONV: dict[str, Any] = {"stride": (1, 1), "dilation": (1, 1), "group": 1}
COLUMNS = {"kernel": pa.string(), "latency_ms": pa.float64(), "std_ms": pa.float64(), "n_samples": pa.int64()}
ROWS: dict[str, list[Any]] = {"kernel": KEYS, "latency_ms": [0.5, 0.25], "std_ms": [0.01, None], "n_samples": [9, 0]}
ENTRIES = {
    KEYS[0]: Entry(latency_ms=0.5, std_ms=0.01, n_samples=9),
    KEYS[1]: Entry(latency_ms=0.25, std_ms=None, n_samples=0),
}
HEADER = {
    "schema_version": 1,
    "datasheet": SHEET.to_dict(),
    "fingerprint": LatencyTable(ENTRIES, SHEET).fingerprint(),
}

# no file may grow past 2,000 bytes: what a full disk does to a writer
FULL_DISK = """
import resource, sys
from latency_nas import Datasheet, Kernel, LatencyTable, save_table
from latency_nas.table import Entry
sheet = Datasheet(device="Another board", engine="MNN", method="measured")
rows = {Kernel.of("relu", [(1, size)], [(1, size)]): Entry(latency_ms=size) for size in range(1, 1000)}
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    save_table(LatencyTable.of(rows, sheet), sys.argv[1])
except OSError as error:
    print("OSError", error.errno)
"""

positive = st.floats(0, exclude_min=True, allow_nan=False, allow_infinity=False)
entries = st.builds(
    Entry,
    latency_ms=positive,
    std_ms=st.none() | st.floats(0, allow_nan=False, allow_infinity=False),
    n_samples=st.integers(0, 2**62),
)
kernels = st.builds(
    lambda op, shape, alpha: Kernel.of(op, [shape], [shape], alpha=alpha),
    st.sampled_from(["foo", "aten.roll"]),
    st.lists(st.integers(0, 512), max_size=4).map(tuple),
    st.floats(allow_nan=False, allow_infinity=False),
)


@pytest.fixture
def table() -> LatencyTable:
    convs = (
        Kernel.of("conv2d", [(1, c, s, s)], [(1, 2 * c, s, s)], kernel=(k, k), pad=(k // 2,) * 4, **CONV)
        for c in (3, 8, 16, 32)
        for s in (7, 14, 28)
        for k in (1, 3)
    )
    rows = {kernel: Entry(latency_ms=1 / n, std_ms=0.01 / n, n_samples=n) for n, kernel in enumerate(convs, start=1)}
    return LatencyTable.of(rows, SHEET)


def write(path: Path, header: object = HEADER, rows: dict[str, Any] | None = None, **types: pa.DataType) -> Path:
    """A file as `save_table` would write it, with pyarrow alone."""
    metadata = {"latency_nas": header if isinstance(header, bytes) else json.dumps(header)}
    schema = pa.schema(list((COLUMNS | types).items()), metadata=metadata)
    pq.write_table(pa.table(ROWS | (rows or {}), schema=schema), path)
    return path


def refusal(path: Path) -> str:
    """The text with which a file is refused."""
    with pytest.raises(TableFileError) as caught:
        read_table(path)
    return str(caught.value)


def assert_unreadable(path: Path) -> None:
    """The file is refused by a message that holds pyarrow's own."""
    with pytest.raises(TableFileError) as caught:
        read_table(path)
    reason = str(caught.value.__cause__).strip().splitlines()[0].rstrip(".")
    unreadable = (
        f"Expected {path} to be a latency table in Parquet, but it cannot be read ({reason}): the file is truncated or "
        f"of another format. Copy or build it again."
    )
    damaged = f"Expected {path} to hold whole columns, but it is damaged ({reason}). Copy or build it again."
    assert str(caught.value) in {unreadable, damaged}


@given(st.dictionaries(kernels, entries, max_size=5))
@settings(deadline=None, max_examples=40)
def test_there_and_back(tmp_path_factory: pytest.TempPathFactory, rows: dict[Kernel, Entry]) -> None:
    path = tmp_path_factory.getbasetemp() / "new folder" / "there.parquet"
    table = LatencyTable.of(rows, SHEET)
    assert save_table(table, path) == path
    back = read_table(path)
    assert dict(back.items()) == rows
    assert list(back) == list(rows)
    assert back.datasheet == SHEET
    assert back.name == str(path)
    assert back.fingerprint() == table.fingerprint()


def test_plain_pyarrow_reads_it(tmp_path: Path, table: LatencyTable) -> None:
    path = save_table(table, tmp_path / "table.parquet")
    foreign = pq.read_table(path)
    assert dict(zip(foreign.schema.names, foreign.schema.types, strict=True)) == COLUMNS
    assert foreign.to_pydict() == {
        "kernel": [kernel.key for kernel in table],
        "latency_ms": [1 / n for n in range(1, 25)],
        "std_ms": [0.01 / n for n in range(1, 25)],
        "n_samples": list(range(1, 25)),
    }
    assert json.loads(foreign.schema.metadata[b"latency_nas"]) == json.loads(
        json.dumps(
            {"schema_version": 1, "datasheet": SHEET.to_dict(), "fingerprint": table.fingerprint(), "sound": True}
        )
    )
    group = pq.ParquetFile(path).metadata.row_group(0)
    assert {group.column(number).compression for number in range(group.num_columns)} == {"ZSTD"}


def test_file_of_plain_pyarrow_is_read(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "table.parquet"))
    assert table.datasheet == SHEET
    assert table.entries == ENTRIES
    assert list(table.entries) == KEYS


@pytest.mark.parametrize("tenths", range(10))
def test_truncated_file_is_refused(tmp_path: Path, table: LatencyTable, tenths: int) -> None:
    path = save_table(table, tmp_path / "table.parquet")
    os.truncate(path, path.stat().st_size * tenths // 10)
    assert_unreadable(path)


def test_random_bytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    for seed in range(20):
        noise = hashlib.shake_256(bytes([seed])).digest(200)
        for content in (noise, b"PAR1" + noise + b"PAR1"):
            path.write_bytes(content)
            assert_unreadable(path)


def damaged_files(path: Path, mask: int) -> list[Path]:
    """Copies of a file with one byte changed, at 50 places."""
    content = path.read_bytes()
    copies = []
    for number in range(50):
        place = len(content) * number // 50
        copies.append(path.with_name(f"{place}.parquet"))
        copies[-1].write_bytes(content[:place] + bytes([content[place] ^ mask]) + content[place + 1 :])
    return copies


@pytest.mark.parametrize("mask", [0xFF, 0x80, 0x10, 0x01])
def test_changed_byte_gives_the_same_table_or_a_table_file_error(
    tmp_path: Path, table: LatencyTable, mask: int
) -> None:
    refused = 0
    for path in damaged_files(save_table(table, tmp_path / "t.parquet"), mask):
        try:
            back = read_table(path)
        except TableFileError as error:
            assert str(path) in str(error)  # noqa: PT017 - most are refused, and not each
            refused += 1
        else:
            assert dict(back.items()) == dict(table.items())
            assert back.datasheet == table.datasheet
            assert back.fingerprint() == table.fingerprint()
    assert refused >= 10


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ({}, {"latency_ms": [0.5, 0.250001]}),
        ({}, {"kernel": [KEYS[0], KEYS[1].replace("gelu", "tanh")]}),
        ({}, {"std_ms": [0.01, 0.02]}),
        ({}, {"n_samples": [9, 1]}),
        ({}, {name: values[:1] for name, values in ROWS.items()}),
        ({"datasheet": SHEET.to_dict() | {"device": "Exbmple board"}}, {}),
        ({"fingerprint": "0" * 64}, {}),
        ({"fingerprint": None}, {}),
    ],
    ids=["latency", "kernel", "deviation", "count", "row", "datasheet", "fingerprint", "none"],
)
def test_table_that_does_not_fit_its_fingerprint_is_refused(
    tmp_path: Path, header: dict[str, Any], rows: dict[str, Any]
) -> None:
    path = write(tmp_path / "table.parquet", HEADER | header, rows)
    assert refusal(path) == (
        f"Expected {path} to be as it was written, but its fingerprint differs: a part of it was changed or damaged. "
        f"Copy or build it again."
    )


def test_a_sound_table_that_was_changed_is_refused(tmp_path: Path) -> None:
    """Rows of a table that was sound when it was written are not parsed, but still those that were written."""
    path = write(tmp_path / "table.parquet", HEADER | {"sound": True}, {"latency_ms": [0.5, 0.250001]})
    assert refusal(path) == (
        f"Expected {path} to be as it was written, but its fingerprint differs: a part of it was changed or damaged. "
        f"Copy or build it again."
    )


def test_fitted_forms_lie_beside_the_table(tmp_path: Path, table: LatencyTable) -> None:
    path, forms = tmp_path / "table.parquet", tmp_path / "table.forms.npz"
    save_table(replace(table, fitted=b"forms"), path)
    assert forms.read_bytes() == b"forms"
    assert read_table(path).fitted == forms
    save_table(read_table(path), tmp_path / "copy.parquet")
    assert (tmp_path / "copy.forms.npz").read_bytes() == b"forms"
    save_table(table, path)
    assert not forms.exists()
    assert read_table(path).fitted is None


def test_header_without_a_fingerprint_is_refused(tmp_path: Path) -> None:
    header = {name: value for name, value in HEADER.items() if name != "fingerprint"}
    path = write(tmp_path / "table.parquet", header)
    assert refusal(path) == (
        f"Expected {path} to hold its fingerprint, but it does not: it was not written by `save_table`."
    )


def test_row_with_an_unrecorded_attribute_is_refused(tmp_path: Path) -> None:
    key = "linear [1,8] -> [1,8] act=relu dtype=fp32"
    header = HEADER | {"datasheet": SHEET.to_dict() | {"unrecorded": ["linear.act"]}}
    path = write(tmp_path / "table.parquet", header, {"kernel": [KEYS[0], key]})
    assert refusal(path) == (
        f"{path} is not valid: Expected rows without what the datasheet calls unrecorded, but got {key}."
    )


def test_foreign_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.parquet"
    pq.write_table(pa.table({"op": ["conv2d"], "ms": [1.5]}), path)
    assert refusal(path) == (
        f"Expected {path} to be a latency table, but it is a Parquet file without a datasheet of this library."
    )


def test_other_columns_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    foreign = pa.table({"op": ["conv2d"], "ms": [1.5]})
    pq.write_table(foreign.replace_schema_metadata({"latency_nas": json.dumps(HEADER)}), path)
    assert refusal(path) == f"Expected the columns kernel, latency_ms, std_ms, n_samples in {path}, but got op, ms."


def test_column_of_another_type_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "typed.parquet", rows={"latency_ms": ["fast", "slow"]}, latency_ms=pa.string())
    assert_unreadable(path)


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_other_schema_version_is_refused(tmp_path: Path, version: object) -> None:
    path = write(tmp_path / "table.parquet", HEADER | {"schema_version": version})
    assert refusal(path) == (
        f"Expected {path} to have schema version 1, but it has {version!r}: it was written by another version of "
        f"latency_nas. Install that version, or build the table again."
    )


def test_impossible_datasheet_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "table.parquet", HEADER | {"datasheet": SHEET.to_dict() | {"threads": 0}})
    assert refusal(path) == (
        f"Expected a valid datasheet in {path}: Expected `threads` to be a positive integer, but got 0."
    )


def test_header_that_is_no_json_is_refused(tmp_path: Path) -> None:
    assert_unreadable(write(tmp_path / "table.parquet", b"{"))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"kernel": [KEYS[0], KEYS[0]]}, f"Expected each kernel once, but {KEYS[0]!r} is there again."),
        ({"kernel": [KEYS[0], None]}, "Expected a kernel, a latency and a number of samples, but one is null."),
        ({"latency_ms": [0.5, None]}, "Expected a kernel, a latency and a number of samples, but one is null."),
        ({"n_samples": [1, None]}, "Expected a kernel, a latency and a number of samples, but one is null."),
        ({"latency_ms": [0.5, -1.5]}, "Expected `latency_ms` to be a positive finite number, but got -1.5."),
        ({"std_ms": [None, -1.5]}, "Expected `std_ms` to be a finite number >= 0, but got -1.5."),
        ({"n_samples": [1, -1]}, "Expected `n_samples` to be an integer >= 0, but got -1."),
        (
            {"kernel": [KEYS[0], "relu 1x8"]},
            "Expected a kernel key such as 'linear [1,128] -> [1,10] bias=1 dtype=fp32', but got 'relu 1x8'.",
        ),
    ],
    ids=["twice", "no kernel", "no latency", "no count", "negative", "negative deviation", "negative count", "no key"],
)
def test_impossible_row_is_refused_with_its_number(tmp_path: Path, rows: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "table.parquet", rows=rows)
    assert refusal(path) == f"Row 2 of {path} is not valid: {message}"


def test_missing_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.parquet", tmp_path):
        with pytest.raises(FileNotFoundError) as caught:
            read_table(path)
        assert str(caught.value) == f"Expected a latency table at {path}, but there is no such file."


def test_full_disk_leaves_the_old_file(tmp_path: Path, table: LatencyTable) -> None:
    pytest.importorskip("resource")
    path = save_table(table, tmp_path / "table.parquet")
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", FULL_DISK, str(path)], check=True, capture_output=True, text=True
    )
    assert done.stdout == "OSError 27\n"  # EFBIG: the write itself broke off
    assert list(tmp_path.iterdir()) == [path]
    assert read_table(path).fingerprint() == table.fingerprint()


def test_failed_write_leaves_nothing_behind(tmp_path: Path, table: LatencyTable) -> None:
    folder = tmp_path / "table.parquet"
    folder.mkdir()
    with pytest.raises(OSError, match="directory"):
        save_table(table, folder)
    assert list(tmp_path.rglob("*")) == [folder]


def test_save_replaces_the_old_table(tmp_path: Path, table: LatencyTable) -> None:
    path = save_table(table, tmp_path / "table.parquet")
    newer = LatencyTable.of({Kernel.parse(KEYS[0]): Entry(latency_ms=2.0)}, SHEET)
    save_table(newer, str(path))
    assert read_table(path).fingerprint() == newer.fingerprint() != table.fingerprint()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("datasheet", "kind"), [(["Example board"], "list"), ("Example board", "str"), (855, "int"), (None, "NoneType")]
)
def test_datasheet_that_is_no_dict_is_refused(tmp_path: Path, datasheet: object, kind: str) -> None:
    path = write(tmp_path / "table.parquet", HEADER | {"datasheet": datasheet})
    assert refusal(path) == (
        f"Expected a valid datasheet in {path}: Expected the datasheet to be a mapping of fields, but got {kind}."
    )


def test_header_of_endless_depth_is_refused(tmp_path: Path) -> None:
    assert_unreadable(write(tmp_path / "table.parquet", b"[" * 100_000))


def test_key_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    key = b"relu \xff"
    offsets = pa.array([0, len(key)], pa.int32()).buffers()[1]
    broken = pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(key)])
    rows = {"kernel": broken, "latency_ms": [1.0], "std_ms": [None], "n_samples": [1]}
    assert_unreadable(write(tmp_path / "table.parquet", rows=rows))


def test_datasheet_with_a_number_past_every_float_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "table.parquet", HEADER | {"datasheet": SHEET.to_dict() | {"yardstick_ms": 10**400}})
    assert refusal(path) == (
        f"Expected a valid datasheet in {path}: Expected `yardstick_ms` to be a finite number >= 0, but got "
        f"1{'0' * 17}...{'0' * 19}."
    )


@pytest.mark.parametrize("n_samples", [9.0, np.int64(9), True], ids=["float", "numpy", "true"])
def test_table_that_was_saved_can_be_read(tmp_path: Path, n_samples: Any) -> None:
    try:
        entry = Entry(latency_ms=1, n_samples=n_samples)
    except TableError:
        return  # refused from the start is as good
    table = LatencyTable.of({Kernel.parse(KEYS[0]): entry}, SHEET)
    assert read_table(save_table(table, tmp_path / "table.parquet")).entries == table.entries


RELU = Kernel.of("relu", [(1, 8)], [(1, 8)])


def test_a_key_that_is_repeated_millions_of_times_takes_no_memory(tmp_path: Path) -> None:
    """A megabyte of a key, 20,000 times: 20 GB if it were written out."""
    path = save_table(LatencyTable.of({RELU: Entry(latency_ms=0.5)}, SHEET), tmp_path / "t.parquet")
    schema = pq.read_schema(path)
    n_rows = 20_000
    keys = pa.DictionaryArray.from_arrays(pa.array([0] * n_rows, pa.int32()), pa.array(["relu " + "x" * (1 << 20)]))
    columns = [keys, pa.array([0.5] * n_rows), pa.array([0.5] * n_rows), pa.array([1] * n_rows)]
    pq.write_table(pa.table(columns, names=schema.names).replace_schema_metadata(schema.metadata), path)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(TableFileError) as caught:
        read_table(path)
    assert str(caught.value).startswith(f"Row 1 of {path} is not valid: ")
    assert len(str(caught.value)) < 1000


def test_the_number_of_rows_is_bounded_before_they_are_read(tmp_path: Path) -> None:
    path = save_table(LatencyTable.of({RELU: Entry(latency_ms=0.5)}, SHEET), tmp_path / "t.parquet")
    schema = pq.read_schema(path)
    n_rows = (1 << 22) + 1
    keys = pa.DictionaryArray.from_arrays(pa.array(np.zeros(n_rows, np.int32)), pa.array([str(RELU)]))
    columns = [keys, *[pa.array(np.ones(n_rows))] * 2, pa.array(np.ones(n_rows, np.int64))]
    pq.write_table(pa.table(columns, names=schema.names).replace_schema_metadata(schema.metadata), path)
    with pytest.raises(TableFileError) as caught:
        read_table(path)
    assert str(caught.value).startswith(f"Expected {path} to have at most 4,194,304 rows and 1024 MiB, but it has ")
