"""`restored`: undoes what a forward, or a function of the user's, sets while a network is read.

State is all that can be changed and is reached from the network's modules: attributes, slots, random generators, and
the items of dictionaries, lists, sets and arrays, at any depth, also through tuples and objects of the user's own
classes. Objects of the standard library and of the frameworks, such as loggers, are not followed, except modules.
"""

from __future__ import annotations

import contextlib
import random
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from types import MemberDescriptorType, MethodType
from typing import Any

import numpy as np

__all__ = ["State", "restored"]

_PLAIN = frozenset({"argparse", "collections", "types"})  # packages whose objects are no more than their attributes
_ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes})
_NOT_FOLLOWED = (sys.stdlib_module_names - _PLAIN) | {"numpy", "torch", "paddle", "scipy"}


@contextlib.contextmanager
def restored(modules: Iterable[Any]) -> Iterator[None]:
    """Restore the state of all modules after the block, and the random states of Python and NumPy.

    Args:
        modules: All modules of a network, with the root.
    """
    state = State(modules)
    states = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        state.restore()
        random.setstate(states[0])
        np.random.set_state(states[1])


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of object with state.

    Args:
        copy: Function that gives the state of an object.
        held: Function that gives the objects in a state.
        restore: Function that gives an object a state; None if the object itself cannot be changed.
    """

    copy: Callable[[Any], Any]
    held: Callable[[Any], Iterable[Any]]
    restore: Callable[[Any, Any], None] | None = None


class State:
    """The state of some objects, and of all that they hold.

    Args:
        roots: Objects whose attributes are kept, whatever their classes are.
        held: Objects that are kept if they can be changed and are followed.
        n_at_most: Number of objects to keep, the nearest first.
    """

    def __init__(self, roots: Iterable[Any], held: Iterable[Any] = (), *, n_at_most: float = inf) -> None:
        self._kept: list[tuple[Any, Any, _Kind]] = []
        self._empty: list[dict[Any, Any]] = []  # most of the dictionaries: hooks
        self._seen: set[int] = set()
        waiting = deque(held)
        for root in roots:
            self._keep(root, (_ATTRIBUTES,), waiting)
        while waiting and len(self._kept) < n_at_most:
            item = waiting.popleft()
            if id(item) in self._seen:
                continue
            if type(item) in (dict, OrderedDict) and not item:
                self._seen.add(id(item))
                self._empty.append(item)
            elif kinds := _kinds_of(type(item)):  # type: ignore[arg-type]
                self._keep(item, kinds, waiting)

    def _keep(self, item: Any, kinds: tuple[_Kind, ...], waiting: deque[Any]) -> None:
        """Keep the state of an object; what it holds waits for the same."""
        self._seen.add(id(item))
        for kind in kinds:
            before = kind.copy(item)
            self._kept.append((item, before, kind))
            waiting.extend([part for part in kind.held(before) if type(part) not in _ATOMS])

    def restore(self, where: Callable[[Iterable[Any]], bool] | None = None) -> None:
        """Give the objects the state that they had.

        Args:
            where: Function that says by what an object holds now whether it is restored; None for all.
        """
        for item in self._empty:
            if item and (where is None or where(item.values())):
                item.clear()
        for item, before, kind in self._kept:
            if kind.restore is not None and (where is None or where(kind.held(kind.copy(item)))):
                kind.restore(item, before)


def _attributes(item: Any) -> dict[str, Any]:
    """The attributes and slots of an object."""
    own = getattr(item, "__dict__", None)
    found = dict(own) if isinstance(own, dict) else {}
    for name, slot in _slots_of(type(item)).items():  # type: ignore[arg-type]
        with contextlib.suppress(AttributeError):  # a slot that is not set
            found[name] = slot.__get__(item)
    return found


@lru_cache(maxsize=10_000)
def _slots_of(kind: Any) -> dict[str, MemberDescriptorType]:
    return {
        name: value
        for parent in kind.__mro__
        for name, value in vars(parent).items()
        if isinstance(value, MemberDescriptorType)
    }


def _restore_attributes(item: Any, before: dict[str, Any]) -> None:
    slots = _slots_of(type(item))  # type: ignore[arg-type]
    if isinstance(own := getattr(item, "__dict__", None), dict):
        _restore_dict(own, {name: value for name, value in before.items() if name not in slots} if slots else before)
    for name, slot in slots.items():
        with contextlib.suppress(AttributeError):  # a slot of a base in C
            if name in before:
                slot.__set__(item, before[name])
            else:
                slot.__delete__(item)


def _restore_dict(item: dict[Any, Any], before: dict[Any, Any]) -> None:
    """Restore a dictionary past the methods of its class, which may refuse."""
    if [*map(id, item)] == [*map(id, before)] and [*map(id, item.values())] == [*map(id, before.values())]:
        return
    base = OrderedDict if isinstance(item, OrderedDict) else dict
    base.clear(item)
    for key, value in before.items():
        base.__setitem__(item, key, value)


def _restore_list(base: Any) -> Callable[[Any, list[Any]], None]:
    def restore(item: Any, before: list[Any]) -> None:
        if list(map(id, item)) != list(map(id, before)):
            base.clear(item)
            (base.update if base is set else base.extend)(item, before)

    return restore


def _restore_array(item: Any, before: Any) -> None:
    if item.flags.writeable:
        item[...] = before


def _nothing(_: Any) -> tuple[Any, ...]:
    return ()


_ATTRIBUTES = _Kind(_attributes, dict.values, _restore_attributes)
# class -> the kind of its objects
_CONTAINERS: dict[type, _Kind] = {
    dict: _Kind(lambda item: dict(dict.items(item)), dict.values, _restore_dict),
    **{base: _Kind(lambda item: [*item], lambda held: held, _restore_list(base)) for base in (list, deque, set)},
    tuple: _Kind(lambda item: item, lambda held: held),
    MethodType: _Kind(lambda item: (item.__self__,), lambda held: held),
    np.ndarray: _Kind(np.copy, _nothing, _restore_array),
}
# class of a random generator -> its kind
_GENERATORS: dict[str, _Kind] = {
    "random.Random": _Kind(lambda item: item.getstate(), _nothing, lambda item, state: item.setstate(state)),
    "numpy.random._generator.Generator": _Kind(
        lambda item: item.bit_generator.state, _nothing, lambda item, state: setattr(item.bit_generator, "state", state)
    ),
    "numpy.random.mtrand.RandomState": _Kind(
        lambda item: item.get_state(), _nothing, lambda item, state: item.set_state(state)
    ),
    "torch._C.Generator": _Kind(lambda item: item.get_state(), _nothing, lambda item, state: item.set_state(state)),
}


@lru_cache(maxsize=10_000)
def _kinds_of(kind: Any) -> tuple[_Kind, ...]:
    """The kinds of the objects of a class; none if nothing of them can be changed, or they are not followed."""
    found = [container for base, container in _CONTAINERS.items() if issubclass(kind, base)]
    generator = _GENERATORS.get(f"{kind.__module__}.{kind.__qualname__}")
    if generator is not None:
        found.append(generator)
    is_module = hasattr(kind, "named_parameters")
    package = kind.__module__.partition(".")[0]
    if is_module or (package not in _NOT_FOLLOWED and not issubclass(kind, type)):
        found.append(_ATTRIBUTES)
    return tuple(found)
