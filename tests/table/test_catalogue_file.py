"""A user's own catalogue of tables: what it may say, and what a mistake in it answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from latency_nas import Datasheet, Kernel, LatencyTable, load_table, named_tables, save_table
from latency_nas.errors import CatalogueError, UnknownTableError
from latency_nas.table import Entry, catalogue
from latency_nas.table.catalogue_file import read_catalogue
from latency_nas.table.download import Download

RELU = Kernel.of("relu", [(1, 8)], [(1, 8)])
SHEET = Datasheet(device="Example board", engine="MNN", method="measured")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of the user's catalogue file, beside a library without tables of its own."""
    path = tmp_path / "mine" / "tables.yaml"
    path.parent.mkdir()
    monkeypatch.setenv(catalogue.FOLDER_VARIABLE, str(path))
    monkeypatch.setattr(catalogue, "_PACKAGE", tmp_path / "site-packages" / "latency_nas")
    return path


def test_names_by_file_and_by_url(file: Path) -> None:
    save_table(LatencyTable.of({RELU: Entry(latency_ms=0.5)}, SHEET), file.parent / "phone.parquet")
    url = "https://example.org/phone_t4.parquet"
    file.write_text(
        f"tables:\n  phone: {{file: phone.parquet}}\n  phone/threads=4: {{url: {url}, sha256: {'AB' * 32}}}\n"
        f"  board/threads=4/power=low: {{file: /elsewhere/board.parquet}}\n"
    )
    assert named_tables() == {
        "board": Path("/elsewhere/board.parquet"),
        "board/threads=4/power=low": Path("/elsewhere/board.parquet"),
        "phone": file.parent / "phone.parquet",
        "phone/threads=4": Download(url=url, sha256="ab" * 32),
    }
    assert load_table("phone")[RELU].latency_ms == 0.5


def test_table_that_is_not_where_the_catalogue_says(file: Path) -> None:
    file.write_text("tables: {phone: {file: phone.parquet}}")
    with pytest.raises(UnknownTableError) as caught:
        load_table("phone")
    assert str(caught.value) == (
        f"Expected the table 'phone' at {file.parent / 'phone.parquet'}, where a catalogue file places it, but there "
        f"is no such file."
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "the file: Input should be a valid dictionary or instance of _Catalogue, but got None"),
        ("table: {}", "tables: Field required; table: Extra inputs are not permitted"),
        ("tables: {phone: {}}", "tables.phone: Expected either `file` or `url`"),
        (
            "tables: {phone: {file: a.parquet, url: 'https://example.org/a'}}",
            "tables.phone: Expected either `file` or `url`",
        ),
        (
            "tables: {phone: {url: 'https://example.org/a'}}",
            "tables.phone: Expected `sha256` beside `url`, and only there",
        ),
        (
            "tables: {phone: {url: 'https://example.org/a', sha256: abc}}",
            "tables.phone.sha256: String should match pattern '^[0-9a-fA-F]{64}$', but got 'abc'",
        ),
        (
            "tables: {phone: {url: 'file:///etc/passwd', sha256: abc}}",
            (
                "tables.phone.url: String should match pattern '^https?://\\S+$', but got 'file:///etc/passwd'; "
                "tables.phone.sha256: String should match pattern '^[0-9a-fA-F]{64}$', but got 'abc'"
            ),
        ),
        (
            "tables: {my phone: {file: a.parquet}}",
            "tables.my phone: String should match pattern '^[^\\s/]+(/[^\\s/=]+=[^\\s/=]+)*$', but got 'my phone'",
        ),
        (
            "tables: {phone: {file: a.parquet, threads: 4}}",
            "tables.phone.threads: Extra inputs are not permitted, but got 4",
        ),
    ],
)  # fmt: skip
def test_messages_give_the_place_of_mistakes(file: Path, text: str, complaint: str) -> None:
    file.write_text(text)
    with pytest.raises(CatalogueError) as caught:
        load_table("phone")
    assert str(caught.value) == f"Expected a valid catalogue of tables in {file}, but {complaint}."
    assert isinstance(caught.value, ValueError)


def test_what_is_no_yaml(file: Path) -> None:
    file.write_text("tables:\n  phone: {file: a.parquet\n  other: ]")
    with pytest.raises(CatalogueError) as caught:
        read_catalogue(file)
    assert str(caught.value) == (
        f"Expected {file} to be YAML of plain data, but in line 3: did not find expected ',' or '}}'."
    )


def test_yaml_runs_nothing(file: Path) -> None:
    file.write_text("tables: !!python/object/apply:os.system ['true']")
    with pytest.raises(CatalogueError) as caught:
        read_catalogue(file)
    assert str(caught.value) == (
        f"Expected {file} to be YAML of plain data, but in line 1: could not determine a constructor for the tag "
        f"'tag:yaml.org,2002:python/object/apply:os.system'."
    )


def test_catalogue_file_that_is_not_there(file: Path) -> None:
    with pytest.raises(CatalogueError) as caught:
        named_tables()
    assert str(caught.value) == (
        f"Expected a catalogue of tables at {file}, but it cannot be read: [Errno 2] No such file or directory: "
        f"'{file}'."
    )
