"""Reads YAML of others. Size, depth and aliases are checked before anything is built, and nothing in it is run.

It is imported when it is needed, since PyYAML takes a while to import.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from latency_nas.errors import LatencyNASError, TableFileError
from latency_nas.table.formats.plain_data import mapping_of

__all__ = ["MAX_BYTES", "read_yaml"]

MAX_BYTES = 1 << 23  # parsing takes about a second for each megabyte without libyaml
_MAX_LEVELS = 32
_MAX_VALUES = 2_000_000  # with every alias expanded
_MAX_CHARACTERS = 1 << 16  # of one value: numbers in base 60 take time that grows with the square of their length

_Typed: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Base: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


class _Texts(_Base):  # type: ignore[misc]
    """Makes mappings, lists and texts alone. No tag is followed; numbers and dates remain texts."""

    source: Path

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        pairs = [(self.construct_object(key, True), self.construct_object(value, deep)) for key, value in node.value]
        if not all(isinstance(key, str) for key, _ in pairs):
            raise yaml.YAMLError("a key of a mapping is no text")
        return mapping_of(self.source, pairs)


def read_yaml(
    path: Path, *, error: type[LatencyNASError] = TableFileError, typed: bool = False, max_bytes: int = MAX_BYTES
) -> Any:
    """The plain data of a YAML file: mappings, lists, and texts.

    Args:
        path: File to read.
        error: Class of the error if the file is refused.
        typed: Whether numbers, dates, booleans and null are more than texts. If not, a key that is twice in a mapping
            is refused.
        max_bytes: Largest size of the file.

    Raises:
        LatencyNASError: of the class `error`, if the file is no YAML, holds more than plain data, or is too large or
            nested too deeply when its aliases are expanded.
        TableFileError: if a key is twice in a mapping of texts.
    """
    if path.stat().st_size > max_bytes:
        raise error(f"Expected {path} to have at most {max_bytes >> 20} MiB, but it is larger.")
    content = path.read_bytes()
    try:
        _check_events(path, content, error)
        loader = (_Typed if typed else _Texts)(content)
        loader.source = path
        try:
            node = loader.get_single_node()
            if node is not None:
                _count_values(path, node, {}, 0, error)
            return None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except LatencyNASError:
        raise
    except (yaml.YAMLError, UnicodeError, ValueError, TypeError, RecursionError) as reason:
        mark = getattr(reason, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(reason, "problem", None) or str(reason).strip().splitlines()[0]
        raise error(f"Expected {path} to be YAML of plain data, but{where}: {problem}.") from reason


def _check_events(path: Path, content: bytes, error: type[LatencyNASError]) -> None:
    """Refuse deep nesting, which ends the process in libyaml's composer, and values that take forever to convert."""
    level = 0
    for event in yaml.parse(content, Loader=_Base):
        level += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if level > _MAX_LEVELS + 1:
            raise _too_deep(path, error)
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > _MAX_CHARACTERS:
            raise error(
                f"Expected values of at most {_MAX_CHARACTERS:,} characters in {path}, but that of line "
                f"{event.start_mark.line + 1} is longer."
            )


def _count_values(path: Path, node: Any, known: dict[int, int], level: int, error: type[LatencyNASError]) -> int:
    """The number of values below `node` with every alias expanded; a node below itself is an error."""
    if level > _MAX_LEVELS:
        raise _too_deep(path, error)
    if id(node) in known:
        if not known[id(node)]:
            raise error(f"Expected {path} to be a tree, but an alias in line {_line(node)} holds itself.")
        return known[id(node)]
    known[id(node)] = 0  # being counted
    below: list[Any] = []
    if isinstance(node, yaml.MappingNode):
        below = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        below = node.value
    count = 1 + sum(_count_values(path, part, known, level + 1, error) for part in below)
    if count > _MAX_VALUES:
        raise error(
            f"Expected at most {_MAX_VALUES:,} values in {path} once its aliases are written out, "
            f"but those of line {_line(node)} are more."
        )
    known[id(node)] = count
    return count


def _too_deep(path: Path, error: type[LatencyNASError]) -> LatencyNASError:
    return error(f"Expected at most {_MAX_LEVELS} levels in {path}, but there are more.")


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1
