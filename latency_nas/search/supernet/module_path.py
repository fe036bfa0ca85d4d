"""Finds a module of a supernet by its name, in torch and in Paddle."""

from __future__ import annotations

from typing import Any

__all__ = ["module_at"]


def module_at(supernet: Any, path: str) -> Any:
    """The module that has this name; the supernet itself for an empty one."""
    module = supernet
    for key in filter(None, path.split(".")):
        module = getattr(module, key) if hasattr(module, key) else module[int(key)]
    return module
