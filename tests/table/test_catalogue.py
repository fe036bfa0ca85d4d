"""Named tables: where they are looked for, and what an unknown name answers."""

from __future__ import annotations

import logging
import os
import pickle
from pathlib import Path

import pytest

from latency_nas import Datasheet, Kernel, LatencyTable, load_table, named_tables, save_table
from latency_nas.errors import TableFileError, UnknownTableError
from latency_nas.table import Entry, catalogue
from latency_nas.table.formats import exchange

RELU = Kernel.of("relu", [(1, 8)], [(1, 8)])
KEY = "relu in=(1, 8) out=(1, 8)"


def table_of(device: str) -> LatencyTable:
    sheet = Datasheet(device=device, engine="MNN", method="measured")
    return LatencyTable.of({RELU: Entry(latency_ms=0.5)}, sheet)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder, empty, beside a library without tables of its own."""
    path = tmp_path / "my tables"
    path.mkdir()
    monkeypatch.setenv(catalogue.FOLDER_VARIABLE, str(path))
    monkeypatch.setattr(catalogue, "_PACKAGE", tmp_path / "site-packages" / "latency_nas")
    return path


def unknown(name: str, *, hint: str, there: str) -> str:
    return (
        f"Expected the name or the file of a latency table, but got {name!r}.{hint} Named tables here: {there}. "
        f"To get one: measure this machine with latency_nas.measure_table(...) and save_table(table, 'NAME.parquet'); "
        f"or give the path of a table in another format (latency-nas table formats lists them); or put NAME.parquet "
        f"into a folder that LATENCY_NAS_TABLES names."
    )


def test_names_are_those_of_the_files(folder: Path) -> None:
    assert named_tables() == {}
    paths = {name: save_table(table_of(name), folder / f"{name}.parquet") for name in ("SD855", "RK3288")}
    (folder / "README.md").write_text("none of these is a table")
    (folder / "old.pkl").write_bytes(pickle.dumps({KEY: 1.0}))
    assert named_tables() == paths


def test_table_by_name_by_path_and_by_text(folder: Path) -> None:
    path = save_table(table_of("SD855"), folder / "SD855.parquet")
    for given in ("SD855", path, str(path)):
        table = load_table(given)
        assert table.fingerprint() == table_of("SD855").fingerprint()
        assert table.name == str(path)


def test_first_folder_wins_and_the_library_comes_last(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = tmp_path / "site-packages" / "latency_nas" / "tables"
    other = tmp_path / "other"
    for place, names in ((folder, ["a"]), (other, ["a", "b"]), (shipped, ["a", "b", "c"])):
        for name in names:
            save_table(table_of(place.name), place / f"{name}.parquet")
    variable = os.pathsep.join([str(tmp_path / "missing"), "", str(folder), str(other)])
    monkeypatch.setenv(catalogue.FOLDER_VARIABLE, variable)
    assert {name: load_table(name).datasheet.device for name in named_tables()} == {
        "a": folder.name,
        "b": "other",
        "c": "tables",
    }


def test_home_is_written_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_table(table_of("SD855"), folder / "SD855.parquet")
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.setenv("USERPROFILE", str(folder.parent))
    monkeypatch.setenv(catalogue.FOLDER_VARIABLE, f"~/{folder.name}")
    assert named_tables().keys() == {"SD855"}


def test_pickle_of_paddleslim_by_path(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = folder / "sd710_threads_4_power_mode_0.pkl"
    path.write_bytes(pickle.dumps({KEY: 0.5, "clip in=(1, 8) out=(1, 8)": 0.25}))
    with caplog.at_level(logging.DEBUG):
        table = load_table(path)
    assert table[RELU].latency_ms == 0.5
    assert (table.datasheet.device, table.datasheet.method) == ("SD710", "imported")
    assert caplog.messages == []


def test_keys_that_could_not_be_used_are_logged(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = folder / "table.pkl"
    path.write_bytes(pickle.dumps({KEY: 0.5, "fc in=(1, 8)": 0.25, "clip": 0.25}))
    with caplog.at_level(logging.DEBUG):
        load_table(path)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.name == exchange.__name__
    assert record.getMessage() == f"{path}: 2 of 3 keys could not be used; latency-nas table import says which."


@pytest.mark.parametrize("name", ["SD865", "", "no/such/file.parquet", "no/such/file.pkl"])
def test_unknown_name_without_any_table(folder: Path, name: str) -> None:
    with pytest.raises(UnknownTableError) as caught:
        load_table(name)
    assert str(caught.value) == unknown(name, hint="", there="none")
    assert isinstance(caught.value, LookupError)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("SD865", " Did you mean 'SD855'?"),
        ("sd855", " Did you mean 'SD855'?"),
        ("rk3288_", " Did you mean 'RK3288'?"),
        ("my phone", ""),
    ],
)
def test_unknown_name_among_others(folder: Path, name: str, hint: str) -> None:
    for known in ("SD855", "RK3288"):
        save_table(table_of(known), folder / f"{known}.parquet")
    with pytest.raises(LookupError) as caught:
        load_table(name)
    assert str(caught.value) == unknown(name, hint=hint, there="RK3288, SD855")


def test_folder_is_no_table(folder: Path) -> None:
    with pytest.raises(UnknownTableError) as caught:
        load_table(folder)
    assert str(caught.value) == unknown(str(folder), hint="", there="none")


def test_message_names_the_file_of_a_damaged_named_table(folder: Path) -> None:
    path = folder / "SD855.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(TableFileError) as caught:
        load_table("SD855")
    assert str(caught.value).startswith(f"Expected {path} to be a latency table in Parquet, but it cannot be read (")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", ["SD865" * 100, "SD\0865"], ids=["long", "NUL"])
def test_name_that_no_file_can_have_is_as_unknown_as_any(name: str) -> None:
    with pytest.raises(UnknownTableError) as caught:
        load_table(name)
    assert str(caught.value) == unknown(name, hint="", there="none")


def test_variants_of_a_name(folder: Path) -> None:
    for name in ("SD855/threads=10", "SD855/threads=2", "SD710/threads=4", "RK3288", "RK3288/threads=1"):
        save_table(table_of(name), folder / f"{name}.parquet")
    (folder / "SD855" / "notes").mkdir()
    save_table(table_of("too deep"), folder / "SD855" / "notes" / "threads=1.parquet")
    devices = {name: load_table(name).datasheet.device for name in named_tables()}
    assert list(devices.items()) == [
        ("RK3288", "RK3288"),
        ("RK3288/threads=1", "RK3288/threads=1"),
        ("SD710", "SD710/threads=4"),
        ("SD710/threads=4", "SD710/threads=4"),
        ("SD855", "SD855/threads=2"),
        ("SD855/threads=2", "SD855/threads=2"),
        ("SD855/threads=10", "SD855/threads=10"),
    ]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("SD855/threads=8", " Its variants are SD855/threads=1, SD855/threads=2."),
        ("sd855/threads=2", " Did you mean 'SD855/threads=2'?"),
        ("SD856", " Did you mean 'SD855'?"),
    ],
)
def test_unknown_variant(folder: Path, name: str, hint: str) -> None:
    for known in ("SD855/threads=1", "SD855/threads=2"):
        save_table(table_of(known), folder / f"{known}.parquet")
    with pytest.raises(UnknownTableError) as caught:
        load_table(name)
    assert str(caught.value) == unknown(name, hint=hint, there="SD855, SD855/threads=1, SD855/threads=2")
