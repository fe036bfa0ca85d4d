"""YAML of others: what is read, and that hostile files end in one error, quickly."""

from __future__ import annotations

from pathlib import Path

import pytest

from latency_nas.errors import TableFileError
from latency_nas.table.formats.yaml_data import MAX_YAML_BYTES, read_yaml
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


def test_the_size_is_bounded_before_anything_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(MAX_YAML_BYTES + 1)
    with pytest.raises(TableFileError) as caught:
        read_yaml(path)
    assert str(caught.value) == f"Expected {path} to have at most 8 MiB, but it has 8.0 MiB."
