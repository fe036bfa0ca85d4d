"""JSON and text of others: hostile files end in one error, quickly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from latency_nas.errors import TableFileError
from latency_nas.table.formats.plain_data import MAX_JSON_BYTES, MAX_TEXT_BYTES, read_json, read_text


def written(folder: Path, content: str) -> Path:
    path = folder / "t.file"
    path.write_text(content, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a": 1, "a": 2}', "to have each key once"),
        ('{"a": NaN}', "NaN is no number of JSON"),
        ('{"a": 1' + "0" * 5000 + "}", "cannot be parsed"),
        ('{"a": ', "cannot be parsed"),
    ],
)
def test_json_that_is_refused(tmp_path: Path, content: str, problem: str) -> None:
    with pytest.raises(TableFileError) as caught:
        read_json(written(tmp_path, content))
    assert problem.replace("to have each key once", "each key once") in str(caught.value)


def test_sizes_are_bounded_before_anything_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    for read, n_bytes, limit in ((read_text, MAX_TEXT_BYTES, 64), (read_json, MAX_JSON_BYTES, 16)):
        with path.open("wb") as file:
            file.truncate(n_bytes + 1)
        with pytest.raises(TableFileError) as caught:
            read(path)
        assert str(caught.value) == f"Expected {path} to have at most {limit} MiB, but it has {limit}.0 MiB."


def test_text_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(TableFileError) as caught:
        read_text(path)
    assert str(caught.value) == f"Expected {path} to be text in UTF-8, but byte 0 is not."
    data = {"a": [1, 2.5, None, {"b": "ä"}]}
    path.write_text("\ufeff" + json.dumps(data), encoding="utf-8")
    assert read_json(path) == data
