"""Tables of blocks in JSON and YAML: of Once-for-All, DynamicOFA, of one's own; and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from latency_nas import BlockTable, Datasheet, load_block_table, load_table
from latency_nas.errors import MissingKernelError, TableError, TableFileError
from latency_nas.table import import_blocks, save_block_table

MBV3 = "expanded_conv-input:10x10x96-output:10x10x136-expand:288-kernel:3-stride:1-idskip:0-se:1-hs:1"
PROXYLESS = "expanded_conv-input:7x7x192-output:7x7x320-expand:6-kernel:5-stride:1-idskip:0"
POOL = "AvgPool2D-input:7x7x1152-output:1x1x1152"


def written(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.yaml", f"{MBV3}: {{count: 9, mean: 5.25, var: 0.2}}\n{POOL}:\n  count: 3\n  mean: 0.5\n  var: 0.1\n"),
        ("t.yml", f"'{POOL}':\n  mean: 5e-1\n? {MBV3}\n: mean: 5.25\n"),
        ("t.json", json.dumps({POOL: {"count": 3, "mean": 0.5, "std": 0.1}, MBV3: {"mean": 5.25}}, indent=1)),
        ("t.dat", json.dumps({MBV3: {"mean": 5.25}, POOL: {"mean": 0.5}})),
        ("t", f"# on a phone\n{POOL}: 0.5\n{MBV3}: 5.25\n"),
    ],
)
def test_rows_of_once_for_all_are_recognised(tmp_path: Path, name: str, content: str) -> None:
    path = written(tmp_path, name, content)
    table, report = import_blocks(path, unit="ms")
    assert dict(table.latencies_ms) == {MBV3: 5.25, POOL: 0.5}
    assert (report.n_keys, report.n_used, dict(report.skipped)) == (2, 2, {})
    assert report.remarks == (
        "It does not state the error of its latencies, so that the ± of a plan of its blocks is unknown.",
    )
    assert str(table.datasheet) == (
        f"not stated ({name}): not stated on a processor that is not stated, precision not stated, "
        f"threads not stated, batch 1, imported"
    )
    in_us = load_block_table(
        path, unit="us", device="Phone", engine="TFLite", backend="GPU", precision="fp16", threads=1
    )
    assert in_us[MBV3] == pytest.approx(0.00525)
    assert str(in_us.datasheet) == "Phone: TFLite on GPU, fp16, 1 thread, batch 1, imported"


def test_a_unit_that_is_unsaid_is_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path, "t.yaml", f"{PROXYLESS}: {{count: 154, mean: 5.26, var: 0.195}}\n")
    for options in ({}, {"unit": "s"}):
        with pytest.raises(TableFileError) as caught:
            load_block_table(path, **options)
        assert str(caught.value) == (
            f"Expected the unit of the latencies in {path}, which the file does not state, to be ms or us, but got "
            f"{options.get('unit')!r}: pass unit='us', or --unit us on the command line. "
            f"ProxylessNAS's and Once-for-All's own tables are in ms; others of the same form are not."
        )


def test_blocks_are_no_kernels(tmp_path: Path) -> None:
    path = written(tmp_path, "t.yaml", f"{PROXYLESS}: {{mean: 5.26}}\n")
    with pytest.raises(TableFileError) as caught:
        load_table(path)
    assert str(caught.value) == (
        f"Expected a table of kernels, but {path} is blocks in JSON or YAML: of Once-for-All and ProxylessNAS, of this "
        f"library, or {{group: {{candidate: ms}}}}: load_block_table reads it, and plan_of_candidates makes a plan of "
        f"its blocks."
    )
    kernels = written(tmp_path, "t.csv", "kernel,latency_ms\n")
    with pytest.raises(TableFileError) as caught:
        load_block_table(kernels)
    assert str(caught.value) == (
        f"Expected a table of blocks, but {kernels} is CSV, as `latency-nas table export` writes it, or with the "
        f"columns kernel and latency_ms: load_table reads it."
    )


def test_mappings_of_ones_own(tmp_path: Path) -> None:
    layers = [None, [2.0, 0.0], None, [1.5, 3.0, 2.5]]
    listed = load_block_table(written(tmp_path, "a.json", json.dumps(layers)), file_format="blocks", unit="ms")
    assert {group: dict(names) for group, names in listed.groups.items()} == {
        "layer 1": {"0": 2.0, "1": 0.0}, "layer 3": {"0": 1.5, "1": 3.0, "2": 2.5},
    }  # fmt: skip
    content = "head: 4\nblock 1:\n  3x3: 2\n  skip: 0\n"
    named = load_block_table(written(tmp_path, "b.yaml", content), unit="ms")
    assert (named["head"], dict(named.groups["block 1"])) == (4.0, {"3x3": 2.0, "skip": 0.0})
    for load, path in ((load_table, tmp_path / "b.yaml"), (load_block_table, written(tmp_path, "b.txt", content))):
        with pytest.raises(TableFileError) as caught:
            load(path)
        assert "but it looks like YAML. Formats that can be read: " in str(caught.value)
    with pytest.raises(TableFileError) as caught:
        load_block_table(written(tmp_path, "c.yaml", "just a text\n"), unit="ms")
    assert str(caught.value) == f"Expected {tmp_path / 'c.yaml'} to hold a mapping of blocks, but got 'just a text'."


def test_rows_that_are_no_latencies_are_named(tmp_path: Path) -> None:
    content = f"{POOL}: {{mean: -1}}\n{MBV3}: {{mean: 5.25}}\nConv-input:4x4x3-output:2x2x8: {{mean: fast}}\nb: ~\n"
    _, report = import_blocks(written(tmp_path, "t.yaml", content), unit="ms")
    assert (report.n_keys, report.n_used) == (4, 1)
    assert dict(report.skipped) == {
        POOL: "Expected `latency` to be a finite number >= 0, but got -1.0.",
        "Conv-input:4x4x3-output:2x2x8": "Expected a number, but got 'fast'.",
        "b": "Expected a number, but got '~'.",
    }
    with pytest.raises(TableFileError) as caught:
        load_block_table(written(tmp_path, "none.yaml", f"{POOL}: {{mean: x}}\n"), unit="ms")
    assert str(caught.value) == (
        f"Expected blocks and latencies in {tmp_path / 'none.yaml'}, but none of 1 can be used ({POOL}: Expected a "
        f"number, but got 'x')."
    )


def test_a_saved_table_is_read_as_the_same(tmp_path: Path) -> None:
    sheet = Datasheet(device="Telefon ä", engine="TFLite", method="imported", threads=2, sources=("a", "b"))
    table = BlockTable({"stem": 1.25, "layer 0/3x3": 0.1, "layer 0/skip": 0.0}, sheet)
    path = save_block_table(table, tmp_path / "t.json")
    back = load_block_table(path)
    assert back.fingerprint() == table.fingerprint()
    assert (back.datasheet, dict(back.latencies_ms), back.name) == (sheet, dict(table.latencies_ms), str(path))
    renamed = load_block_table(path, device="Other")
    assert renamed.fingerprint() != table.fingerprint()
    content = json.loads(path.read_text(encoding="utf-8"))
    for changed, message in (
        ({"latency_nas blocks": 2}, "to have version 1, but it has 2"),
        ({"latencies_ms": [1]}, "Expected `latencies_ms` in"),
        ({"datasheet": {"device": ""}}, "Expected a valid datasheet in"),
    ):
        path.write_text(json.dumps({**content, **changed}, indent=1), encoding="utf-8")
        with pytest.raises(TableFileError) as caught:
            load_block_table(path)
        assert message in str(caught.value)


def test_a_missing_block_says_what_there_is() -> None:
    sheet = Datasheet(device="Phone", engine="TFLite", method="imported")
    table = BlockTable({MBV3: 1.0, "layer 0/3x3": 1.0, "layer 0/5x5": 2.0}, sheet, name="phone")
    assert MBV3 in table
    assert len(table) == len(list(table)) == 3
    for key, hint in (
        ("layer 0/7x7", ": the candidates of 'layer 0' are ['3x3', '5x5']"),
        (MBV3.replace("288", "289"), f"; similar ones are {MBV3!r}"),
        ("?", ""),
    ):
        with pytest.raises(MissingKernelError) as caught:
            table[key]
        assert str(caught.value) == f"phone has no block {key!r}{hint}."
    for rows in ({}, {"a": -1.0}, {"a": float("inf")}, {"a": "1"}):
        with pytest.raises(TableError):
            BlockTable(rows, sheet)  # type: ignore[arg-type]
