"""Two tables: their differences, and joining those that are of one kind."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from latency_nas.errors import TableError
from latency_nas.kernel import Kernel, n_flops
from latency_nas.table import Datasheet, Entry, LatencyTable
from latency_nas.table.comparison import diff_tables, merge_tables
from latency_nas.table.formats.csv_file import export_csv

SHEET = Datasheet(device="Board", engine="MNN", method="measured", threads=1, date="2026-01-02", yardstick_ms=2.0)
A, B, C = (Kernel.of("relu", [(1, n)], [(1, n)]) for n in (1, 2, 3))


def table(entries: dict[Kernel, float], name: str, **fields: object) -> LatencyTable:
    rows = {kernel: Entry(latency_ms=ms, std_ms=0.0, n_samples=10) for kernel, ms in entries.items()}
    return LatencyTable.of(rows, replace(SHEET, **fields), name=name)  # type: ignore[arg-type]


def test_a_diff_names_fields_kernels_and_ratios() -> None:
    found = diff_tables(table({A: 1.0, B: 2.0}, "one"), table({B: 3.0, C: 4.0}, "two", threads=2))
    assert found.fields == {"threads": (1, 2)}
    assert (found.only_first, found.only_second, found.ratios) == ((A,), (C,), {B: 1.5})


def test_tables_of_one_kind_are_joined_at_the_first_ones_speed() -> None:
    second = table({B: 3.0, C: 4.0}, "two", yardstick_ms=1.0, date="2026-03-04")
    merged = merge_tables([table({A: 1.0, B: 2.0}, "one"), second])
    assert {kernel: row.latency_ms for kernel, row in merged.items()} == {A: 1.0, B: (2.0 + 6.0) / 2, C: 8.0}
    assert merged[B] == Entry(latency_ms=4.0, std_ms=2.0, n_samples=20)
    assert (merged.datasheet.date, merged.datasheet.yardstick_ms) == ("2026-03-04", 2.0)
    assert merge_tables([second, second])[C] == Entry(latency_ms=4.0, std_ms=0.0, n_samples=20)


def test_unlike_tables_are_refused_with_the_field() -> None:
    with pytest.raises(TableError) as caught:
        merge_tables([table({A: 1.0}, "one"), table({B: 1.0}, "two", threads=4, batch=8)])
    assert str(caught.value) == (
        "Expected tables of the same conditions, but `threads` is 1 in one and 4 in two (and so do batch): "
        "times of unlike conditions are not joined."
    )
    with pytest.raises(TableError) as empty:
        merge_tables([])
    assert str(empty.value) == "Expected at least one table to merge, but got none."


def test_csv_holds_the_datasheet_and_each_kernels_work(tmp_path: Path) -> None:
    conv = Kernel.of(
        "conv2d", [(1, 3, 8, 8)], [(1, 4, 8, 8)], kernel=(1, 1), stride=(1, 1), pad=(0,) * 4, dilation=(1, 1), group=1
    )
    path = export_csv(table({A: 1.0, conv: 2.5}, "one", notes="two\nlines"), tmp_path / "t.csv")
    lines = path.read_text().splitlines()
    assert "# threads: 1" in lines
    assert '# notes: "two\\nlines"' in lines
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    assert [(row["kernel"], float(row["latency_ms"])) for row in rows] == [(A.key, 1.0), (conv.key, 2.5)]
    assert int(rows[1]["flops"]) == n_flops(conv) == 2 * 3 * 4 * 64
    assert (rows[1]["macs"], rows[1]["parameters"]) == ("768", "12")
