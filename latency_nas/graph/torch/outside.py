"""Removes the fake tensors that a forward left in variables and caches outside of its model."""

from __future__ import annotations

import gc
from collections.abc import Iterable, MutableMapping, MutableSequence, MutableSet, Sequence
from types import CellType, FrameType, FunctionType
from typing import Any

from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from latency_nas.graph.restored import State

__all__ = ["Outside"]

_N_KEPT = 500  # objects; from those that are further away, fakes are removed
_MAX_DEPTH = 4  # of tuples and objects around a fake in a cache
_UNSET = object()


class Outside:
    """What the classes and functions of a model can write to outside of it.

    These are the globals of the modules in which they are defined, attributes of the classes, variables of closures,
    default arguments, and what all of them hold.

    Args:
        modules: All modules of the model.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        roots = [*modules]
        classes = {cls for kind in {type(module) for module in roots} for cls in kind.__mro__ if not _is_torchs(cls)}
        namespaces = [*map(vars, roots), *map(vars, classes)]
        functions = {item for names in namespaces for item in names.values() if isinstance(item, FunctionType)}
        scopes = {id(function.__globals__): function.__globals__ for function in functions}
        self._classes = [(cls, dict(vars(cls))) for cls in classes]
        self._cells = [(cell, _content(cell)) for function in functions for cell in function.__closure__ or ()]
        defaults = [item for function in functions for item in function.__defaults__ or ()]
        held = [value for _, attributes in self._classes for value in attributes.values()]
        reached = [*scopes.values(), *held, *defaults, *(content for _, content in self._cells)]
        self._state = State((), reached, n_at_most=_N_KEPT)

    def clear(self, fakes: Sequence[Tensor]) -> None:
        """Give back what variables and containers held that hold fakes now; remove the fakes from all other caches.

        Args:
            fakes: The fakes that are still alive.
        """
        self._state.restore(_holds_fake)
        for cls, before in self._classes:
            for name, value in [*vars(cls).items()]:
                if _holds_fake((value,)):
                    setattr(cls, name, before[name]) if name in before else delattr(cls, name)
        for cell, content in self._cells:
            if _holds_fake((_content(cell),)) and content is not _UNSET:
                cell.cell_contents = content
        _forget(fakes)


def _is_torchs(cls: type) -> bool:
    return cls.__module__.partition(".")[0] in ("torch", "builtins", "typing", "abc")


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not yet set
        return _UNSET


def _holds_fake(held: Iterable[Any]) -> bool:
    return any(isinstance(item, FakeTensor) or (isinstance(item, tuple) and _holds_fake(item)) for item in held)


def _forget(items: Sequence[Any], depth: int = _MAX_DEPTH) -> None:
    """Remove objects from all that hold them, or the holders from theirs where these cannot be changed."""
    gone = {id(items), *map(id, items)}
    fixed = []
    for holder in gc.get_referrers(*items):
        if id(holder) in gone or isinstance(holder, FrameType):
            continue
        if callable(clear := getattr(holder, "cache_clear", None)):
            clear()
        elif isinstance(holder, MutableMapping):
            for key in [key for key, value in holder.items() if id(value) in gone or id(key) in gone]:
                del holder[key]
        elif isinstance(holder, MutableSequence):
            holder[:] = [part for part in holder if id(part) not in gone]
        elif isinstance(holder, MutableSet):
            holder -= {part for part in holder if id(part) in gone}
        elif isinstance(holder, CellType):
            holder.cell_contents = None
        else:
            fixed.append(holder)
    if fixed and depth:
        _forget(fixed, depth - 1)
