"""The registry: which engines there are, and which is meant where none is named."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import entry_points

from latency_nas.engine.engine import Engine
from latency_nas.errors import GraphError

__all__ = ["ENTRY_POINTS", "default_engine", "engine_names", "get_engine"]

ENTRY_POINTS = "latency_nas.engines"  # of other packages: name = "package.module:Class"

# name -> where its class is. The first that is there is the default.
_ENGINES: dict[str, str] = {
    "mnn": "latency_nas.engine.mnn.mnn_engine:MNN",
    "paddle-lite": "latency_nas.engine.paddle_lite.lite_engine:PaddleLite",
}


def _places() -> dict[str, str]:
    """Name -> place of every engine, this library's first."""
    return _ENGINES | {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}


@cache
def _load(place: str) -> Engine | None:
    """The engine at a place; None if its folder is not there."""
    module_name, _, attribute = place.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and module_name.startswith(error.name):
            return None
        raise
    engine: Engine = getattr(module, attribute)()
    return engine


def _engines() -> Iterator[Engine]:
    return (engine for engine in map(_load, _places().values()) if engine is not None)


def engine_names() -> tuple[str, ...]:
    """The names of all engines: this library's, then those of other packages.

    Example:
        >>> engine_names()[:2]
        ('mnn', 'paddle-lite')
    """
    return tuple(engine.name for engine in _engines())


def default_engine() -> Engine:
    """The engine where none is named: the registry's first."""
    return next(_engines())


def get_engine(engine: str | Engine | None = None) -> Engine:
    """An engine by its name, or by its title as datasheets spell it; the default for None.

    Raises:
        GraphError: if no engine of that name is known; the message lists those that are.

    Example:
        >>> get_engine("Paddle-Lite").name
        'paddle-lite'
    """
    if engine is None:
        return default_engine()
    if isinstance(engine, Engine):
        return engine
    folded = engine.casefold()
    place = _places().get(folded)  # quick: no other engine is imported
    found = _load(place) if place is not None else None
    if found is None:
        found = next((item for item in _engines() if folded in (item.name, item.title.casefold())), None)
    if found is None:
        raise GraphError(
            f"Expected an engine whose fusion rules are known ({', '.join(item.title for item in _engines())}), but "
            f"got {engine!r}: its tables can be read, but no model can be priced by them yet."
        )
    return found
