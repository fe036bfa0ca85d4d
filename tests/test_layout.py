"""Files stay short, and folders can be taken in at a glance."""

from __future__ import annotations

from pathlib import Path

import pytest

import latency_nas

PACKAGE = Path(latency_nas.__file__).parent
MAX_LINES, MAX_FILES = 300, 12


def test_no_file_is_long() -> None:
    lengths = {
        str(path.relative_to(PACKAGE)): len(path.read_text(encoding="utf-8").splitlines())
        for path in PACKAGE.rglob("*.py")
    }
    assert len(lengths) > 100
    assert {path: length for path, length in lengths.items() if length > MAX_LINES} == {}


@pytest.mark.parametrize("folder", ["graph", "measure", "search", "table"])
def test_no_stage_has_many_files_at_its_top(folder: str) -> None:
    assert 1 <= len(list((PACKAGE / folder).glob("*.py"))) <= MAX_FILES
