"""The public names and their signatures are those that were agreed on, documented, and typed."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import latency_nas
from tests.public_names import STUB, lines, names

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden" / "public_names.txt"
TYPED = ROOT / "tests" / "typed_use.py"
SEPARATE = {  # need an extra of their own
    "ArchitectureProblem",
    "LatencyCallback",
    "PaddleLatencyCallback",
    "PaddleLatencyLoss",
    "write_page",
}


def test_names_and_signatures() -> None:
    """A change on purpose: ``python -m tests.public_names > tests/golden/public_names.txt``."""
    assert list(lines()) == GOLDEN.read_text(encoding="utf-8").splitlines()


def test_all_leaves_out_what_needs_an_extra() -> None:
    assert set(names()) - set(latency_nas.__all__) == SEPARATE
    assert set(latency_nas.__all__) <= set(names())


@pytest.mark.parametrize("name", names())
def test_a_name_is_that_of_its_home_and_documented(name: str) -> None:
    value = getattr(latency_nas, name)
    (home,) = [
        node.module
        for node in ast.parse(STUB.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom) and node.names[0].name == name
    ]
    module = importlib.import_module(f"latency_nas.{home}")
    assert value is getattr(module, name)
    assert name in module.__all__
    assert value.__doc__
    assert not value.__doc__.startswith(f"{name}("), "a dataclass's made-up signature is no documentation"


def test_all_names_are_used_in_the_typed_file() -> None:
    tree = ast.parse(TYPED.read_text(encoding="utf-8"))
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and _is_root(node.value)}
    assert set(names()) <= used


def _is_root(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "nas"


def test_mypy_is_content_with_it() -> None:
    command = [sys.executable, "-m", "mypy", "--strict", str(TYPED)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
    assert result.stdout.startswith("Success: no issues found"), result.stdout
    assert result.returncode == 0
