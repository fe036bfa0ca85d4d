"""The code of every page in docs/ runs from top to bottom."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from latency_nas.engine import registry
from tests.cli.test_measure import run as run_command
from tests.other_package import install

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))


# A block whose first line is a comment with a name is that file.
_NAMED = re.compile(r"# (\S+\.(?:py|toml|yaml))\n")


def blocks(page: str, language: str = r"\w+") -> list[str]:
    """The blocks of a page in one language, or in all, in order."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def write(file: Path, text: str) -> None:
    """Write a file that a page shows; a ``pyproject.toml`` is that of a package, which is then installed."""
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    if file.name == "pyproject.toml":
        (file.parent / "scratch" / "__init__.py").touch()
        install(file.parent, file.parent)
        registry._of_other_packages.cache_clear()


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


def engine_page(scope: dict[str, Any], folder: Path) -> None:
    """What the page prints is so, and its commands end in a table."""
    assert str(scope["table"].datasheet).endswith(": Scratch 1.0 on CPU, fp32, 1 thread, batch 1, measured")
    assert scope["verdict"].estimate.coverage == 1.0
    assert ", with random weights" in str(scope["verdict"])
    commands = [line for block in blocks("adding-an-engine.md", "console") for line in block.splitlines()]
    assert commands[0] == "pip install --editable ."
    output = "".join(run_command(*_short(shlex.split(line)[1:])) for line in commands[1:])
    assert "9 combinations: 9 ops, 0 illegal, 0 that fail" in output
    assert "put aside: torch.nn.Tanh() on [1, 8, 16, 16]: MeasureError: Expected ops out of conv2d without " in output
    assert "scratch.parquet: 8 kernels. " in output
    assert sorted(path.stem for path in (folder / "scratch").glob("*.py")) == [
        "__init__", "device_side", "engine", "rules", "writer",
    ]  # fmt: skip


def _short(command: list[str]) -> list[str]:
    """The command; one that measures makes a single repetition of each network, however unstable."""
    return [*command, "--rounds", "1", "--max-drift", "9"] if command[0] == "measure" else command


def penalty_page(scope: dict[str, Any], folder: Path) -> None:
    """The constraint moved its multiplier, the factors took part in a search, and the own one gave a gradient."""
    del folder
    assert float(scope["constrained"].penalty.multiplier) > 0
    assert abs(scope["constrained"].argmax_ms() / scope["constrained"].target_ms - 1) < 0.2
    assert scope["multiplied"].multiplies
    assert scope["multiplied"].n_terms == 101
    assert all(bool(block.alpha.grad.any()) for block in scope["supernet"][2:])


def tables_page(scope: dict[str, Any], folder: Path) -> None:
    """The comments of the page are true, and its command converts the table."""
    assert scope["plan"].latency_ms({"layer 1": "5x5 e6", "layer 2": "skip"}) == 18.0
    assert float(scope["latency"].expected().detach()) == pytest.approx(6.5 + 8.75 + 11.5 / 3)
    assert all(bool(alpha.grad.any()) for alpha in scope["alphas"])
    assert scope["solution"].architecture == {"layer 1": 1, "layer 2": 2}
    commands = [line for block in blocks("tables-of-others.md", "console") for line in block.splitlines()]
    (command,) = (line for line in commands if line.startswith("latency-nas table import"))
    output = run_command(*shlex.split(command)[1:])
    assert output.startswith("phone.json: 6 blocks. Example phone: TFLite on a processor that is not stated, ")


# page -> what holds of its names once its code has run
CHECKS: dict[str, Callable[[dict[str, Any], Path], None]] = {
    "adding-a-penalty.md": penalty_page,
    "adding-an-engine.md": engine_page,
    "adding-an-importer.md": importer_page,
    "tables-of-others.md": tables_page,
}


def test_every_check_is_of_a_page() -> None:
    assert set(CHECKS) <= set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_the_code_runs_from_top_to_bottom(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    scope: dict[str, Any] = {"__name__": Path(page).stem}
    python = blocks(page, "python")
    for block in blocks(page):
        named = _NAMED.match(block)
        if named:
            write(tmp_path / named[1], block)
        elif block in python:
            exec(compile(block, str(DOCS / page), "exec"), scope)  # noqa: S102
    if page in CHECKS:
        CHECKS[page](scope, tmp_path)
    registry._of_other_packages.cache_clear()
