"""`restored`: undoes what a forward, or a function of the user's, sets while a network is read."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

__all__ = ["restored"]


@contextlib.contextmanager
def restored(modules: Iterable[Any]) -> Iterator[None]:
    """Restore the attributes of all modules after the block, and the items of their lists and dictionaries.

    The random states of Python and NumPy are restored, too.

    Args:
        modules: All modules of a network, with the root.
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
        for value, items in containers:
            value.clear()
            value.extend(items) if isinstance(value, list) else value.update(items)
        random.setstate(states[0])
        np.random.set_state(states[1])
