"""The lists of modules in which supernets hold their candidates."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

__all__ = ["ModuleGroup", "module_groups", "names_in"]

ModuleGroup = nn.ModuleList | nn.ModuleDict


def module_groups(module: nn.Module) -> Iterator[tuple[str, ModuleGroup]]:
    """The lists and dictionaries of two or more modules that `module` holds, itself or in its parts, by name."""
    for name, held in module.named_modules():
        if isinstance(held, ModuleGroup) and len(held) > 1:
            yield name, held


def names_in(path: str, held: ModuleGroup) -> tuple[str | None, ...]:
    """The names of the modules of a list; None for those that are None."""
    prefix = f"{path}." if path else ""
    return tuple(None if module is None else f"{prefix}{key}" for key, module in vars(held)["_modules"].items())
