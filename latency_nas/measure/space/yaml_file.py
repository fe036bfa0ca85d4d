"""YAML files from strangers: only plain data, of limited size and depth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from latency_nas.errors import OpSpaceError

__all__ = ["read_yaml"]

_MAX_BYTES = 32 * 2**20
_MAX_NODES = 2_000_000  # with every alias expanded
_MAX_LEVELS = 32

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(path: Path) -> Any:
    """The plain data of a YAML file.

    Raises:
        FileNotFoundError: if there is no such file.
        OpSpaceError: if it is no YAML, holds more than plain data, or is too large when its aliases are expanded.
    """
    if not path.is_file():
        raise FileNotFoundError(f"Expected an op space at {path}, but there is no such file.")
    if path.stat().st_size > _MAX_BYTES:
        raise OpSpaceError(f"Expected {path} to be of at most {_MAX_BYTES >> 20} MB, but it is larger.")
    loader = _Loader(path.read_bytes())
    try:
        node = loader.get_single_node()
        if node is not None:
            _count_nodes(path, node, {}, 0)
        return None if node is None else loader.construct_document(node)
    except (yaml.YAMLError, UnicodeError, ValueError, RecursionError) as error:
        if isinstance(error, OpSpaceError):
            raise
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or str(error).strip().splitlines()[0]
        raise OpSpaceError(f"Expected {path} to be YAML of plain data, but{where}: {reason}.") from error
    finally:
        loader.dispose()


def _count_nodes(path: Path, node: Any, known: dict[int, int], level: int) -> int:
    """The number of nodes below `node` with every alias expanded; a node below itself is an error."""
    if level > _MAX_LEVELS:
        raise OpSpaceError(f"Expected at most {_MAX_LEVELS} levels in {path}, but there are more.")
    if id(node) in known:
        if not known[id(node)]:
            raise OpSpaceError(f"Expected {path} to be a tree, but an alias in line {_line(node)} holds itself.")
        return known[id(node)]
    known[id(node)] = 0  # being counted
    below: list[Any] = []
    if isinstance(node, yaml.MappingNode):
        below = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        below = node.value
    count = 1 + sum(_count_nodes(path, part, known, level + 1) for part in below)
    if count > _MAX_NODES:
        raise OpSpaceError(
            f"Expected at most {_MAX_NODES:,} values in {path} once its aliases are written out, "
            f"but those of line {_line(node)} are more."
        )
    known[id(node)] = count
    return count


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1
