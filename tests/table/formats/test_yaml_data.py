"""YAML of others: what is read, and that hostile files end in one error, quickly."""

from __future__ import annotations

from pathlib import Path

import pytest

from latency_nas.errors import OpSpaceError, TableFileError
from latency_nas.table.formats.yaml_data import MAX_BYTES, read_yaml
from tests.table.formats.test_plain_data import written

YAML = """? a-key
: {count: 3, mean: 1e-3}
list: [1, 'x', ~]
time: 1:30
date: 2026-11-27
object: !!python/name:os.system x
"""


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
            "Expected at most 2,000,000 values in {} once its aliases are written out, but those of line 7 are more.",
        ),
        ("a: &a\n  b: *a", "Expected {} to be a tree, but an alias in line 1 holds itself."),
        ("[" * 100_000, "Expected at most 32 levels in {}, but there are more."),
        ("- " * 100_000, "Expected at most 32 levels in {}, but there are more."),
        (
            "a: " + "1:" * 50_000 + "1",
            "Expected values of at most 65,536 characters in {}, but that of line 1 is longer.",
        ),
        ("a: [1\n", "Expected {} to be YAML of plain data, but in line 2: did not find expected ',' or ']'."),
        ("--- a\n--- b\n", "Expected {} to be YAML of plain data, but in line 2: but found another document."),
    ],
)
def test_yaml_that_is_refused(tmp_path: Path, content: str, problem: str) -> None:
    path = written(tmp_path, content)
    for typed in (False, True):
        with pytest.raises(TableFileError) as caught:
            read_yaml(path, typed=typed)
        assert str(caught.value) == problem.format(path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("a: 1\nb: 2\na: 3\n", "Expected each key once in {}, but 'a' is there again."),
        ("? [a, b]\n: 1\n", "Expected {} to be YAML of plain data, but: a key of a mapping is no text."),
    ],
)
def test_keys_are_texts_and_distinct(tmp_path: Path, content: str, problem: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(TableFileError) as caught:
        read_yaml(path)
    assert str(caught.value) == problem.format(path)


def test_aliases_stand_for_what_they_name(tmp_path: Path) -> None:
    path = written(tmp_path, "a: &a {mean: 1.5}\nb: *a\n")
    assert read_yaml(path) == {"a": {"mean": "1.5"}, "b": {"mean": "1.5"}}
    assert read_yaml(path, typed=True) == {"a": {"mean": 1.5}, "b": {"mean": 1.5}}
    path.write_text("a: !!python/name:os.system x\n")
    with pytest.raises(OpSpaceError) as caught:
        read_yaml(path, typed=True, error=OpSpaceError)
    assert str(caught.value) == (
        f"Expected {path} to be YAML of plain data, but in line 1: could not determine a constructor for the tag "
        f"'tag:yaml.org,2002:python/name:os.system'."
    )


def test_the_size_is_bounded_before_anything_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(TableFileError) as caught:
        read_yaml(path)
    assert str(caught.value) == f"Expected {path} to have at most 8 MiB, but it is larger."
