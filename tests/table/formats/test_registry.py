"""Which format a file is of: by suffix, by content, by name, or none; and formats of other packages."""

from __future__ import annotations

import os
import pickle
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from latency_nas import (
    Datasheet,
    Kernel,
    LatencyTable,
    export_table,
    import_table,
    load_table,
    plan_of_candidates,
    save_table,
)
from latency_nas.errors import TableError, TableFileError, UnsafePickleError
from latency_nas.table import Entry, Format, table_formats
from latency_nas.table.formats import registry
from latency_nas.table.formats.content import looks_like
from tests.table.formats.test_paddle_texts import LITE

RELU, LINEAR = Kernel.of("relu", [(1, 8)], [(1, 8)]), Kernel.of("linear", [(1, 8)], [(1, 9)], bias=1)
SHEET = Datasheet(device="SD710", engine="Paddle-Lite", method="measured", threads=4, power_mode="HIGH")
TABLE = LatencyTable.of({RELU: Entry(latency_ms=0.5, std_ms=0.1), LINEAR: Entry(latency_ms=0.25)}, SHEET, name="mine")
EVALUATOR = "anakin\tRK3288\t20190801\nrelu,1,8,4,4\t0.5\n"
PLUGIN = """
from latency_nas import Datasheet, Kernel, LatencyTable
from latency_nas.table import Entry, Format

SHEET = Datasheet(device="Other", engine="MNN", method="imported", threads=1)
LINEAR, RELU = Kernel.of("linear", [(1, 1000)], [(1, 1000)]), Kernel.of("relu", [(1, 8)], [(1, 8)])

def read(path, scale=1.0):
    times = {LINEAR: 0.5, RELU: 1e6} if float(scale) == 1 else {LINEAR: 1e-9}
    return LatencyTable.of({kernel: Entry(latency_ms=time) for kernel, time in times.items()}, SHEET, name="other")

FORMAT = Format(title="a file of another package", suffixes=(".other",), recognises=lambda head, _: b"other" in head,
                read=read, read_options={"scale": "of the times"})
NO_FORMAT = object()
"""
POINTS = '[project.entry-points."latency_nas.formats"]\n'
LISTED = (
    "parquet (.parquet), csv (.csv), paddleslim (.pkl), evaluator-text (.txt .csv), lite-text (.txt), mmt (.pkl), "
    "blocks (.yaml .yml .json), tf-nas (.pkl), nni-lut (.txt), fbnet-text (.txt), ai-hub (.yaml .yml), nnlqp (.txt)"
)


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Formats of other packages are looked for once."""
    registry._of_other_packages.cache_clear()
    yield
    registry._of_other_packages.cache_clear()


def install(folder: Path, name: str, module: str, toml: str) -> None:
    """What a package with this module and this part of a pyproject.toml leaves in `folder` when it is installed."""
    (folder / f"{name}.py").write_text(module)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    groups = tomllib.loads(toml)["project"]["entry-points"]
    lines = [line for group, points in groups.items() for line in (f"[{group}]", *_lines(points))]
    (info / "entry_points.txt").write_text("\n".join(lines))
    registry._of_other_packages.cache_clear()


def _lines(points: dict[str, str]) -> list[str]:
    return [f"{name} = {place}" for name, place in points.items()]


def written(folder: Path, name: str) -> Path:
    """A file of each format under a name."""
    path = folder / name
    {
        "parquet": lambda: save_table(TABLE, path),
        "csv": lambda: export_table(TABLE, path, file_format="csv"),
        "paddleslim": lambda: export_table(TABLE, path, file_format="paddleslim"),
        "evaluator-text": lambda: path.write_text(EVALUATOR),
        "lite-text": lambda: path.write_text(LITE),
    }[name.partition(".")[0]]()
    return path


@pytest.mark.parametrize("name", ["parquet", "csv", "paddleslim", "evaluator-text", "lite-text"])
@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".pkl", ".txt", ".dat", ""])
def test_a_file_is_known_by_its_suffix_or_by_its_content(tmp_path: Path, name: str, suffix: str) -> None:
    path = written(tmp_path, name + suffix)
    options = {"unit": "ms"} if name == "evaluator-text" else {}
    table, report = import_table(path, **options)
    assert table.name == str(path)
    assert any(kernel.op == "relu" for kernel in table)
    assert dict(load_table(path, **options).entries) == dict(table.entries)
    again, _ = import_table(path, file_format=name, **options)
    assert dict(again.entries) == dict(table.entries)
    assert (report is None) == (name == "parquet")
    if name in ("parquet", "csv"):
        assert table.fingerprint() == TABLE.fingerprint()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "an empty file"),
        (b"\n \n", "an empty file"),
        (b"tables:\n  a: 1\n", "YAML"),
        (b"# mine\n\n---\n- 1\n", "YAML"),
        (b"- relu: 0.5\n- add: 0.25\n", "YAML"),
        (b"'conv2d in=(1, 3)': 0.5\n", "YAML"),
        (b'{"relu": 0.5}', "JSON"),
        (b'[\n  {"op": "relu"}\n]', "JSON"),
        (b"[[1, 2], [3]]", "JSON"),
        (b"{}", "JSON"),
        (b"op,ms\nrelu,0.5\n", "CSV"),
        (b"# mine\nop,ms\nrelu,0.5\n", "CSV"),
        (b"op\tms\nrelu\t0.5\n", "text in columns between tabs"),
        (b"relu 0.5\n", "text"),
        ("größer".encode(), "text"),
        ("relu 0.5 größ".encode()[:-1], "text"),
        (b"<!DOCTYPE html><html>", "a web page (HTML or XML): was it downloaded?"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS: fetch the file itself"),
        (pickle.dumps([1]), "a pickle"),
        (b"SQLite format 3\0...", "a metering session (SQLite); `latency-nas table build` makes a table of it"),
        (b"PK\x03\x04", "a ZIP archive, which has to be unpacked"),
        (b"\x93NUMPY\x01\x00", "an array of NumPy (.npy): write it as JSON or CSV"),
        (b"\x1f\x8b\x08", "a gzip archive, which has to be unpacked"),
        (b"\x08\x07\x12\x07pytorch\x00", "binary data of no known kind"),
        (b"\xff\xfe\xfd\xfc\xfb", "binary data of no known kind"),
    ],
)
def test_messages_describe_a_file_that_is_no_table(tmp_path: Path, content: bytes, kind: str) -> None:
    assert looks_like(content) == kind
    for name in ("t.dat", "t.parquet", "t.csv", "t.txt"):
        path = tmp_path / name
        path.write_bytes(content)
        if kind == "a pickle":
            continue  # whatever its name, PaddleSlim's reader says what it holds
        with pytest.raises(TableFileError) as caught:
            load_table(path)
        assert str(caught.value) == (
            f"Expected {path} to be a latency table, but it looks like {kind}. Formats that can be read: {LISTED}. "
            f"docs/adding-an-importer.md says how to add one."
        )


def test_archives_are_told_apart(tmp_path: Path) -> None:
    plan_of_candidates({"a": [1.0, 2.0]}).save(tmp_path / "plan.npz")
    for name, first in (("book.xlsx", "[Content_Types].xml"), ("net.pt", "net/data.pkl"), ("tables.zip", "a.csv")):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr(first, "x" * 1000)
    kinds = {path.name: looks_like(path.read_bytes()) for path in tmp_path.iterdir()}
    assert kinds == {
        "plan.npz": "arrays of NumPy (.npz), as CostPlan.save writes a plan",
        "book.xlsx": "a spreadsheet or document of an office program: save it as CSV",
        "net.pt": "a file of torch.save",
        "tables.zip": "a ZIP archive, which has to be unpacked",
    }


def test_long_blank_files_are_recognised_quickly() -> None:
    for content in (b"\n" * 60_000 + b"x", b" " * 60_000 + b"x", b"# \n" * 20_000 + b"x", b"a" * 60_000):
        assert looks_like(content) in {"text", "YAML"}


def test_no_pickle_runs_whatever_its_name(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path}/ran",)

    for protocol in (0, 2, 5):
        for name in ("t.pkl", "t.parquet", "t.csv"):
            path = tmp_path / name
            path.write_bytes(pickle.dumps({"relu": Hostile()}, protocol=protocol))
            with pytest.raises(TableFileError if protocol == 0 and name != "t.pkl" else UnsafePickleError):
                load_table(path)
    assert not (tmp_path / "ran").exists()


def test_mmts_pickles_are_known_and_say_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "meta_latency.pkl"
    path.write_bytes(b"\x80\x04]\x8c\tmmt.utils\x8c\x08ops_meta\x93.")
    with pytest.raises(TableFileError) as caught:
        load_table(path)
    assert str(caught.value) == (
        f"Expected a table of kernels, but {path} is MMT's, which times modules: what an engine makes of them next to "
        f"others is not known. Price a model by it with latency_nas.compat.mmt.predict_latency, or measure the same "
        f"ops.yaml with latency-nas measure."
    )


def test_stated_conditions_replace_those_of_the_file(tmp_path: Path) -> None:
    path = save_table(TABLE, tmp_path / "t.parquet")
    table, _ = import_table(path, device="My phone", threads=2)
    sheet = table.datasheet
    assert (sheet.device, sheet.threads, sheet.method, sheet.engine) == ("My phone", 2, "imported", "Paddle-Lite")
    with pytest.raises(TableError) as caught:
        import_table(path, treads=2)
    assert str(caught.value) == (
        "Expected options of a table of this library in Parquet (device, engine, engine_version, dialect, soc, "
        "architecture, backend, threads, precision, power_mode, batch), but got treads."
    )


def test_the_unit_of_a_text_without_one_is_required(tmp_path: Path) -> None:
    path = written(tmp_path, "evaluator-text.txt")
    for unit in ({}, {"unit": "s"}):
        with pytest.raises(TableFileError) as caught:
            load_table(path, **unit)
        assert str(caught.value) == (
            f"Expected the unit of the latencies in {path}, which the file does not state, to be ms or us, but got "
            f"{unit.get('unit')!r}: pass unit='us', or --unit us on the command line."
        )


def test_formats_by_name_and_by_suffix_alone(tmp_path: Path) -> None:
    with pytest.raises(TableError) as caught:
        import_table(written(tmp_path, "parquet.parquet"), file_format="yaml")
    assert str(caught.value) == (
        "Expected `file_format` to be one of parquet, csv, paddleslim, evaluator-text, lite-text, mmt, blocks, tf-nas, "
        "nni-lut, fbnet-text, ai-hub, nnlqp, but got 'yaml'."
    )
    can_write = "parquet (.parquet), csv (.csv), paddleslim (.pkl)"
    with pytest.raises(TableError) as caught:
        export_table(TABLE, tmp_path / "t.txt")
    assert str(caught.value) == (
        f"Expected {tmp_path / 't.txt'} to end in the suffix of one format that can be written ({can_write}), but it "
        f"ends in .txt: name the format, by file_format= or by --format."
    )
    with pytest.raises(TableError) as caught:
        export_table(TABLE, tmp_path / "t.txt", file_format="lite-text")
    assert str(caught.value) == (
        f"Expected a format that can be written ({can_write}), but got latency_lookup_table.txt of Paddle-Lite's "
        f"benchmark of operators."
    )
    with pytest.raises(TableError) as caught:
        export_table(TABLE, tmp_path / "t.csv", partial=True)
    assert str(caught.value) == (
        "Expected options of CSV, as `latency-nas table export` writes it, or with the columns kernel and latency_ms "
        "(it has none), but got partial."
    )


def test_an_export_says_what_is_lost(tmp_path: Path) -> None:
    for suffix in (".parquet", ".csv"):
        report = export_table(TABLE, tmp_path / f"t{suffix}")
        assert (report.path, report.n_rows, report.lost) == (tmp_path / f"t{suffix}", 2, ())
        assert load_table(report.path).fingerprint() == TABLE.fingerprint()
    report = export_table(TABLE, tmp_path / "t.pkl", dialect="2021")
    assert str(report) == (
        f"{tmp_path / 't.pkl'}: 2 kernels\n"
        f"lost: the datasheet: device, threads and power mode are only in the file's name\n"
        f"lost: the spread and the number of samples of each row"
    )


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        import_table(tmp_path / "t.csv")
    assert str(caught.value) == f"Expected a latency table at {tmp_path / 't.csv'}, but there is no such file."


def test_formats_of_other_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    points = [f'{name} = "registry_plugin:FORMAT"' for name in ("other", "csv")]
    broken = ['broken = "no_such_module:FORMAT"', 'wrong = "registry_plugin:NO_FORMAT"']
    install(tmp_path, "registry_plugin", PLUGIN, POINTS + "\n".join([*points, *broken]))
    path = tmp_path / "t.other"
    path.write_text("other")
    table, report = import_table(path)
    assert [kernel.op for kernel in table] == ["linear"]
    assert report is not None
    assert (report.n_keys, report.n_used, len(report.skipped)) == (2, 1, 1)
    assert "slower than any processor" in report.skipped[str(RELU)]
    assert list(table_formats())[-1] == "other"
    assert table_formats()["csv"].title.startswith("CSV")
    assert sorted(message.partition(":")[0] for message in caplog.messages) == [
        "The format broken of no_such_module",
        "csv of registry_plugin",
        "wrong of registry_plugin",
    ]
    with pytest.raises(TableFileError) as caught:
        import_table(path, scale="1e-9")
    assert str(caught.value) == (
        "Expected times that can be in other, but none is: linear [1,1000] -> [1,1000] dtype=fp32: 1e-09 ms for 1e+06 "
        "multiply-accumulates is faster than any processor: the time is of another unit, or of another kernel."
    )


def test_a_file_that_two_formats_recognise_needs_a_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    install(tmp_path, "twice", PLUGIN, POINTS + 'one = "twice:FORMAT"\ntwo = "twice:FORMAT"')
    path = tmp_path / "t.other"
    path.write_text("other")
    with pytest.raises(TableFileError) as caught:
        load_table(path)
    assert str(caught.value) == (
        f"Expected {path} to be of one format, but it could be one or two: name the one that is meant, by "
        f"file_format= or by --format."
    )
    assert len(load_table(path, file_format="two")) == 1


def test_a_format_can_be_given_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "t.any"
    path.write_text("0.5")
    form = Format(
        title="a number", suffixes=(".any",), recognises=lambda *_: True,
        read=lambda path: LatencyTable.of({RELU: Entry(latency_ms=float(path.read_text()))}, SHEET, name=str(path)),
        write=lambda table, path: path,
    )  # fmt: skip
    assert load_table(path, file_format=form)[RELU].latency_ms == 0.5
    assert export_table(TABLE, path, file_format=form).path == path
