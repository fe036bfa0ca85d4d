"""The code of every page in docs/ runs from top to bottom."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))


def blocks(page: str, language: str) -> list[str]:
    """The blocks of a page in one language, in order."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def importer_page(scope: dict[str, Any], folder: Path) -> None:
    """The importer's table is the file's, and another package can make it known as the page says."""
    from latency_nas import load_table
    from tests.table.formats.test_registry import install

    table, report = scope["table"], scope["report"]
    assert [kernel.op for kernel in table] == ["conv2d", "relu"]
    assert [row.latency_ms for row in table.entries.values()] == [1.8, 0.095]
    assert str(table.datasheet) == "Example board: MNN on CPU, fp16, 4 threads, batch 1, imported"
    assert table.datasheet.soc == "Example chip"
    assert str(report).startswith("2 of 3 keys used;")
    module = "\n".join(blocks("adding-an-importer.md", "python")[1:3])
    install(folder, "opbench_tables", module, blocks("adding-an-importer.md", "toml")[0])
    known = load_table("board.latency.json")
    assert dict(known.entries) == dict(table.entries)


# page -> what holds of its names once its code has run
CHECKS: dict[str, Callable[[dict[str, Any], Path], None]] = {"adding-an-importer.md": importer_page}


def test_every_check_is_of_a_page() -> None:
    assert set(CHECKS) <= set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_the_code_runs_from_top_to_bottom(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    scope: dict[str, Any] = {"__name__": Path(page).stem}
    for block in blocks(page, "python"):
        exec(compile(block, str(DOCS / page), "exec"), scope)  # noqa: S102
    if page in CHECKS:
        CHECKS[page](scope, tmp_path)
