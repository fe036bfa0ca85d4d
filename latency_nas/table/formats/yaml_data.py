"""Reads YAML of others. Size, depth and aliases are checked before anything is built.

It is imported when it is needed, since PyYAML takes a while to import.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from latency_nas.errors import TableFileError
from latency_nas.table.formats.plain_data import mapping_of, read_text

__all__ = ["MAX_YAML_BYTES", "read_yaml"]

MAX_YAML_BYTES = 1 << 23  # parsing YAML takes about a second for each megabyte without libyaml
_MAX_DEPTH = 32
_Loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


class _TextLoader(_Loader):  # type: ignore[misc]
    """Makes mappings, lists and texts alone. No tag is followed; numbers and dates remain texts."""

    source: Path

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        pairs = [(self.construct_object(key, True), self.construct_object(value, deep)) for key, value in node.value]
        if not all(isinstance(key, str) for key, _ in pairs):
            raise yaml.YAMLError("a key of a mapping is no text")
        return mapping_of(self.source, pairs)


def read_yaml(source: Path) -> Any:
    """The data of a YAML file: mappings, lists, and texts; numbers are texts, too.

    Raises:
        TableFileError: if it is too large, nested too deeply, is not YAML, has aliases, or has a key twice in one
            mapping.
    """
    text = read_text(source, max_bytes=MAX_YAML_BYTES)
    try:
        _check_events(source, text)
        loader = _TextLoader(text)
        loader.source = source
        return loader.get_single_data()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise TableFileError(f"Expected {source} to be YAML, but it cannot be parsed{where}: {problem}.") from error


def _check_events(source: Path, text: str) -> None:
    """Refuse aliases, which can stand for far more data than the file has, and deep nesting."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            raise TableFileError(
                f"Expected {source} to be YAML without aliases, but line {event.start_mark.line + 1} refers to "
                f"*{event.anchor}: write its data out, or save the table as JSON."
            )
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise TableFileError(
                f"Expected {source} to be nested at most {_MAX_DEPTH} deep, but line {event.start_mark.line + 1} is "
                f"deeper."
            )
