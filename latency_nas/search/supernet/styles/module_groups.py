"""The lists of modules in which supernets hold their candidates, and the vectors beside them."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

from latency_nas.search.supernet.framework import Framework

__all__ = ["module_groups", "names_in", "vectors_of"]


def module_groups(module: Any, framework: Framework) -> Iterator[tuple[str, Any]]:
    """The lists and dictionaries of two or more modules inside `module`, with their names."""
    for name, group in framework.named_modules(module):
        if isinstance(group, framework.lists) and len(group) > 1:
            yield name, group


def names_in(path: str, group: Any, framework: Framework) -> tuple[str | None, ...]:
    """The names of the modules of a list; None for those that are None."""
    prefix = f"{path}." if path else ""
    return tuple(None if module is None else f"{prefix}{key}" for key, module in framework.children(group).items())


def vectors_of(module: Any, framework: Framework) -> dict[str, int]:
    """The parameter vectors that a module owns itself: name -> length."""
    return {
        key: prod(parameter.shape)
        for key, parameter in framework.parameters(module).items()
        if len(parameter.shape) and prod(parameter.shape) == max(parameter.shape)
    }
