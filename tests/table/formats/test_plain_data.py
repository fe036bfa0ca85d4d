"""YAML, JSON and text of others: what is read, and that hostile files end in one error, quickly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from latency_nas.errors import TableFileError
from latency_nas.table.formats.plain_data import MAX_TEXT_BYTES, MAX_YAML_BYTES, read_json, read_text, read_yaml

YAML = """? a-key
: {count: 3, mean: 1e-3}
list: [1, 'x', ~]
time: 1:30
date: 2026-11-27
object: !!python/name:os.system x
"""


def written(folder: Path, content: str) -> Path:
    path = folder / "t.file"
    path.write_text(content, encoding="utf-8")
    return path


def test_yaml_gives_mappings_lists_and_texts(tmp_path: Path) -> None:
    assert read_yaml(written(tmp_path, YAML)) == {
        "a-key": {"count": "3", "mean": "1e-3"}, "list": ["1", "x", "~"], "time": "1:30", "date": "2026-11-27",
        "object": "x",
    }  # fmt: skip


def bomb(levels: int = 9) -> str:
    """A text of a few hundred bytes that stands for 9 ** levels items."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            bomb(),
            "to be YAML without aliases, but line 2 refers to *a0: write its data out, or save the table as JSON.",
        ),
        ("a: &a {x: 1}\nb: {<<: *a}\n", "to be YAML without aliases, but line 2 refers to *a: write its data out"),
        ("[" * 100_000, "to be nested at most 32 deep, but line 1 is deeper."),
        ("a: 1\nb: 2\na: 3\n", "Expected each key once in"),
        ("? [a, b]\n: 1\n", "it cannot be parsed: a key of a mapping is no text."),
        ("a: [1\n", "it cannot be parsed, line 2: "),
        ("a: \x07\n", "it cannot be parsed"),
        ("--- a\n--- b\n", "it cannot be parsed, line 2: "),
    ],
)
def test_yaml_that_is_refused(tmp_path: Path, content: str, problem: str) -> None:
    with pytest.raises(TableFileError) as caught:
        read_yaml(written(tmp_path, content))
    assert problem in str(caught.value)
    assert str(tmp_path / "t.file") in str(caught.value)


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
    for read, limit in ((read_text, MAX_TEXT_BYTES), (read_json, MAX_TEXT_BYTES), (read_yaml, MAX_YAML_BYTES)):
        with path.open("wb") as file:
            file.truncate(limit + 1)
        with pytest.raises(TableFileError) as caught:
            read(path)
        mebibytes = limit >> 20
        assert str(caught.value) == f"Expected {path} to have at most {mebibytes} MiB, but it has {mebibytes}.0 MiB."


def test_text_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(TableFileError) as caught:
        read_text(path)
    assert str(caught.value) == f"Expected {path} to be text in UTF-8, but byte 0 is not."
    data = {"a": [1, 2.5, None, {"b": "ä"}]}
    path.write_text("\ufeff" + json.dumps(data), encoding="utf-8")
    assert read_json(path) == data
