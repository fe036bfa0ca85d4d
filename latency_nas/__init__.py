"""Latency-aware neural architecture search: tables, estimates and a differentiable loss.

The public names are listed in ``__init__.pyi``. Each is imported when first used, so that ``import latency_nas``
imports neither torch nor an engine. ``from latency_nas import *`` leaves out the names that need an extra of their own.
"""

from __future__ import annotations

import random
from typing import Any

import lazy_loader

__version__ = "0.1.0"

_NEED_AN_EXTRA = {"ArchitectureProblem", "LatencyCallback", "PaddleLatencyCallback", "PaddleLatencyLoss", "write_page"}

_import_name, __dir__, _names = lazy_loader.attach_stub(__name__, __file__)
__all__ = [name for name in _names if name not in _NEED_AN_EXTRA]


def __getattr__(name: str) -> Any:
    state = random.getstate()  # rich draws a number when it is imported: a seeded program must not notice
    try:
        return _import_name(name)
    finally:
        random.setstate(state)
        globals().pop("LatencyCallback", None)  # not kept: its base is whichever Lightning is imported by then
