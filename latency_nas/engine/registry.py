"""The registry of engines, and the default engine."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import entry_points

from latency_nas.engine.engine import Engine
from latency_nas.errors import GraphError

__all__ = ["ENTRY_POINTS", "default_engine", "engine_names", "get_engine", "title_of"]

logger = logging.getLogger(__name__)

ENTRY_POINTS = "latency_nas.engines"  # group of the entry points of other packages: name = "package.module:Class"

# name -> place of the class. The first engine whose folder exists is the default.
_ENGINES: dict[str, str] = {
    "mnn": "latency_nas.engine.mnn.mnn_engine:MNN",
    "paddle-lite": "latency_nas.engine.paddle_lite.lite_engine:PaddleLite",
}
_REQUIRED = ("name", "title", "install", "suffixes", "device_side")  # abstract methods are checked by Python itself


@cache
def _of_other_packages() -> Mapping[str, str]:
    """The engines of other packages, name -> place. Cached, since this reads the metadata of every package."""
    return {point.name: point.value for point in entry_points(group=ENTRY_POINTS) if point.name not in _ENGINES}


@cache
def _load(place: str) -> Engine | None:
    """Import the engine at a place. None if it is one of this library's own and its folder has been removed.

    Raises:
        GraphError: if another package's engine cannot be loaded.
    """
    module_name, _, attribute = place.partition(":")
    try:
        engine = getattr(importlib.import_module(module_name), attribute)()
        if not isinstance(engine, Engine):
            raise TypeError(f"{attribute} is no subclass of Engine")
        if lacking := [name for name in _REQUIRED if not hasattr(engine, name)]:
            raise TypeError(f"{attribute} lacks {', '.join(lacking)}")
    except Exception as error:
        if place not in _ENGINES.values():
            raise GraphError(f"Expected an engine at {place}, but it cannot be loaded: {error!r}.") from error
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}."):
            return None
        raise
    return engine


def _engines() -> Iterator[Engine]:
    """All engines, this library's first. One of another package that cannot be loaded is left out with a warning."""
    for place in (*_ENGINES.values(), *_of_other_packages().values()):
        try:
            engine = _load(place)
        except GraphError as error:
            logger.warning("An engine is left out. %s", error)
            continue
        if engine is not None:
            yield engine


def engine_names() -> tuple[str, ...]:
    """The names of all engines: this library's, then those of other packages.

    Example:
        >>> engine_names()[:2]
        ('mnn', 'paddle-lite')
    """
    return tuple(engine.name for engine in _engines())


def default_engine() -> Engine:
    """The engine to use where none is named: the first of the registry."""
    return next(_engines())


def get_engine(engine: str | Engine | None = None) -> Engine:
    """The engine of a name, or of a title as datasheets have it; for None, the default engine.

    Raises:
        GraphError: if no engine of that name is known; the message lists the known ones. Or if the engine is of another
            package and cannot be loaded.

    Example:
        >>> get_engine("Paddle-Lite").name
        'paddle-lite'
    """
    if engine is None:
        return default_engine()
    if isinstance(engine, Engine):
        return engine
    folded = engine.casefold()
    place = _ENGINES.get(folded) or _of_other_packages().get(folded)  # by name first: this imports no other engine
    found = _load(place) if place is not None else None
    if found is None:
        found = next((item for item in _engines() if folded in (item.name, item.title.casefold())), None)
    if found is None:
        raise GraphError(
            f"Expected an engine whose fusion rules are known ({', '.join(item.title for item in _engines())}), but "
            f"got {engine!r}: its tables can be read, but no model can be priced by them yet."
        )
    return found


def title_of(engine: str) -> str:
    """The title of an engine, as datasheets have it. The text of an unknown engine is returned unchanged.

    Example:
        >>> title_of("paddle-lite"), title_of("TensorRT")
        ('Paddle-Lite', 'TensorRT')
    """
    try:
        return get_engine(engine).title
    except GraphError:
        return engine
