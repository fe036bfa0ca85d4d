"""`restored`: reading a network leaves it as it was, whatever its forward or a function of the user's sets."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

__all__ = ["restored"]


@contextlib.contextmanager
def restored(modules: Iterable[Any]) -> Iterator[None]:
    """Afterwards every module has the attributes that it had, and their lists and dictionaries the same items.

    The random states of Python and NumPy are restored, too.

    Args:
        modules: Modules of a network, the root included.
    """
    attributes = [(module, dict(vars(module))) for module in modules]
    containers = [
        (value, dict(value) if isinstance(value, dict) else list(value))
        for _, before in attributes
        for value in before.values()
        if isinstance(value, dict | list)
    ]
    states = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        for module, before in attributes:
            vars(module).clear()
            vars(module).update(before)
        for value, was in containers:
            value.clear()
            value.extend(was) if isinstance(value, list) else value.update(was)
        random.setstate(states[0])
        np.random.set_state(states[1])
