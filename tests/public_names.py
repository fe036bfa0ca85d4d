"""The public names of the library and their signatures, as text: ``python -m tests.public_names``."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import latency_nas

STUB = Path(latency_nas.__file__).with_suffix(".pyi")


def names() -> list[str]:
    """Every public name, as the stub lists them."""
    tree = ast.parse(STUB.read_text(encoding="utf-8"))
    return sorted(alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names)


def lines() -> Iterator[str]:
    """A line for each name, and for each public method and property of a class."""
    for name in names():
        value = getattr(latency_nas, name)
        yield f"{name}{_signature(value)}"
        if inspect.isclass(value):
            yield from (f"    {line}" for line in _members(value))


def _members(cls: type) -> Iterator[str]:
    """What this library's classes define, themselves or by their bases of this library."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("latency_nas"):
            found |= {name: value for name, value in vars(base).items() if not name.startswith("_")}
    for name, value in sorted(found.items()):
        if isinstance(value, cached_property):
            yield name
        elif isinstance(value, property):
            yield f"{name}{' (can be set)' if value.fset else ''}"
        elif isinstance(value, classmethod | staticmethod):
            yield f"{name}{_signature(value.__func__)}"
        elif inspect.isfunction(value):
            yield f"{name}{_signature(value)}"


def _signature(value: Any) -> str:
    try:
        return str(inspect.signature(value)).replace("'", "")
    except (TypeError, ValueError):
        return ""


if __name__ == "__main__":
    print("\n".join(lines()))
