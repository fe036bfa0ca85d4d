"""The file of evaluations, whole, cut off at every byte, damaged, and in use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from latency_nas.errors import SearchError
from latency_nas.search.select.evaluation_file import EvaluationFile

ARGUMENTS: dict[str, Any] = {"seed": 1, "base": {"a": 0}}
VALUES = {(0, 1): 0.1 + 0.2, ("blocks.0", 3): -1e-300, (5,): 7.0}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "evaluations.jsonl"
    with EvaluationFile(path, ARGUMENTS) as opened:
        for key, value in VALUES.items():
            opened.add(key, value)
    return path


def refusal(path: Path, arguments: dict[str, Any] = ARGUMENTS) -> str:
    before = path.read_bytes()
    with pytest.raises(SearchError) as caught, EvaluationFile(path, arguments):
        pass
    assert path.read_bytes() == before, "a file that is refused is not changed"
    return str(caught.value)


def test_numbers_come_back_to_the_last_bit(file: Path) -> None:
    with EvaluationFile(file, ARGUMENTS) as opened:
        assert opened.values == VALUES


def test_a_file_cut_off_anywhere_keeps_whole_lines_and_goes_on(file: Path) -> None:
    content = file.read_bytes()
    for length in range(len(content)):
        file.write_bytes(content[:length])
        n_whole = max(0, content[:length].count(b"\n") - 1)
        with EvaluationFile(file, ARGUMENTS) as opened:
            assert opened.values == dict(list(VALUES.items())[:n_whole])
            for key, value in list(VALUES.items())[n_whole:]:
                opened.add(key, value)
        assert file.read_bytes() == content


def test_without_a_file_values_are_in_memory() -> None:
    with EvaluationFile(None, ARGUMENTS) as opened:
        opened.add((1,), 2.0)
        assert opened.values == {(1,): 2.0}


def test_other_arguments_are_refused(file: Path) -> None:
    assert refusal(file, {**ARGUMENTS, "base": {"a": 1}}) == (
        f"Expected {file} to be of the same arguments, but its base is {{'a': 0}} instead of {{'a': 1}}: name a new "
        f"file, or give these arguments."
    )
    assert refusal(file, {"base": {"a": 0}}) == (
        f"Expected {file} to be of the same arguments, but its seed is 1 instead of None: name a new file, or give "
        f"these arguments."
    )


@pytest.mark.parametrize("content", [b"choices,latency\n", b"[1, 2]\n", b'{"other": 1}\n', b"\x89PNG", b"\n"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    assert refusal(path) == (
        f"Expected {path} to be a file of evaluations, but it is another one: it was not changed, name a new file."
    )


@pytest.mark.parametrize("line", [b"", b"[[1], 2", b"[[1], null]", b"[1, 2]", b"[[1]]", b"[[[1]], 2]", b"\xff"])
def test_a_damaged_line_is_named(file: Path, line: bytes) -> None:
    lines = file.read_bytes().splitlines()
    file.write_bytes(b"\n".join([*lines[:2], line, *lines[3:], b""]))
    assert refusal(file) == (
        f"Expected line 3 of {file} to be an evaluation, but got {line!r}: remove this line to evaluate it again."
    )


def test_a_file_in_use_is_refused(file: Path) -> None:
    with EvaluationFile(file, ARGUMENTS):
        assert refusal(file) == f"{file} is in use by another process: wait for it, or end it."
    with EvaluationFile(file, ARGUMENTS) as opened:
        assert opened.values == VALUES
