"""The lists of modules in which supernets hold their candidates."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

__all__ = ["ModuleGroup", "module_groups", "names_in"]

ModuleGroup = nn.ModuleList | nn.ModuleDict


def module_groups(module: nn.Module) -> Iterator[tuple[str, ModuleGroup]]:
    """The lists and dictionaries of two or more modules inside `module`, with their names."""
    for name, group in module.named_modules():
        if isinstance(group, ModuleGroup) and len(group) > 1:
            yield name, group


def names_in(path: str, group: ModuleGroup) -> tuple[str | None, ...]:
    """The names of the modules of a list; None for those that are None."""
    prefix = f"{path}." if path else ""
    return tuple(None if module is None else f"{prefix}{key}" for key, module in vars(group)["_modules"].items())
