"""Each entry under ``Args:`` is a noun phrase: it begins with a capital letter and ends with a full stop."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import latency_nas

PACKAGE = Path(latency_nas.__file__).parent

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_SECTION = re.compile(r"^Args:\n((?:(?: .*)?\n)*)", re.MULTILINE)
_ENTRY = re.compile(r"(\*{0,2}\w+(?:, \*{0,2}\w+)*): (.*)")
# An entry that begins so lacks its noun: `threads: Of the engine.`
_HEADLESS = frozenset({"and", "as", "at", "by", "for", "from", "if", "in", "of", "on", "that", "to", "which", "with"})


def _entries(docstring: str) -> Iterator[str]:
    """Each entry under `Args:` on one line; continuation lines are indented by more than four spaces."""
    for section in _SECTION.findall(docstring + "\n"):
        yield from (" ".join(entry.split()) for entry in re.split(r"^ {4}(?! )", section, flags=re.MULTILINE)[1:])


def _problem(entry: str) -> str:
    """What is wrong with an entry; empty for a good one."""
    parts = _ENTRY.fullmatch(entry)
    if parts is None:
        return "is no `name: Text.`; are its continuation lines indented by four more spaces?"
    text = parts[2]
    if not (text[0].isupper() or text[0].isdigit() or text[0] in "`\"'"):
        return "does not begin with a capital letter"
    if text.split()[0].lower() in _HEADLESS:
        return "is no noun phrase"
    return "" if text.endswith(".") else "does not end with a full stop"


def problems(source: str) -> list[str]:
    """The entries of a module's source that are not ``name: Text.``, each with its line and what is wrong."""
    documented = [node for node in ast.walk(ast.parse(source)) if isinstance(node, _DOCUMENTED)]
    return [
        f"{getattr(node, 'lineno', 1)}: `{entry}` {problem}"
        for node in documented
        for entry in _entries(ast.get_docstring(node) or "")
        if (problem := _problem(entry))
    ]


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_args_are_noun_phrases(path: Path) -> None:
    assert problems(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("threads: Number of threads.", ""),
        ("threads: 1 to 4.", ""),
        ("threads: ``None`` for all.", ""),
        ('threads: "all", or a number.', ""),
        ("**options: Options of the engine.", ""),
        ("low, high: Bounds of the interval.", ""),
        ("threads: Number of threads, and\n        a line more.", ""),
        ("threads: number of threads.", "does not begin with a capital letter"),
        ("threads: Of the engine.", "is no noun phrase"),
        ("threads: Number of threads", "does not end with a full stop"),
        ("threads: Number of threads, and\n        a line more", "does not end with a full stop"),
        ("threads", "is no `name: Text.`; are its continuation lines indented by four more spaces?"),
        ("threads:", "is no `name: Text.`; are its continuation lines indented by four more spaces?"),
    ],
)
@pytest.mark.parametrize("kind", ["def measure():", "class Engine:", "async def measure():"])
def test_the_check_can_fail(kind: str, entry: str, problem: str) -> None:
    source = (
        f'"""A module."""\n\n{kind}\n    """Do something.\n\n    Args:\n        {entry}\n        batch: Size of it.\n\n'
        f'    Raises:\n        EngineError: if it fails\n    """\n'
    ).replace("\n        a line", "\n            a line")
    one_line = " ".join(entry.split())
    assert problems(source) == ([f"3: `{one_line}` {problem}"] if problem else [])


def test_a_continuation_line_that_is_not_indented_fails() -> None:
    assert problems('"""A module.\n\nArgs:\n    threads: Number of threads,\n    and more.\n"""') == [
        "1: `threads: Number of threads,` does not end with a full stop",
        "1: `and more.` is no `name: Text.`; are its continuation lines indented by four more spaces?",
    ]
