"""Reads YAML, JSON and text of others. Size and depth are bounded before anything is built."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

from latency_nas.errors import TableFileError, short_repr

__all__ = ["MAX_TEXT_BYTES", "MAX_YAML_BYTES", "read_json", "read_text", "read_yaml"]

MAX_TEXT_BYTES = 1 << 26
MAX_YAML_BYTES = 1 << 23  # parsing YAML takes about a second for each megabyte without libyaml
_MAX_DEPTH = 32


def read_text(source: Path, *, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """The text of a file in UTF-8.

    Raises:
        TableFileError: if the file is larger than `max_bytes`, or is not text.
    """
    size = source.stat().st_size
    if size > max_bytes:
        raise TableFileError(
            f"Expected {source} to have at most {max_bytes >> 20} MiB, but it has {size / (1 << 20):.1f} MiB."
        )
    try:
        return source.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise TableFileError(f"Expected {source} to be text in UTF-8, but byte {error.start} is not.") from error


def read_json(source: Path) -> Any:
    """The data of a JSON file.

    Raises:
        TableFileError: if it is too large, nested too deeply, is not JSON, or has a key twice in one mapping.
    """
    text = read_text(source)
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: _mapping(source, pairs), parse_constant=_no_number)
    except TableFileError:
        raise
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise TableFileError(f"Expected {source} to be JSON, but it cannot be parsed: {reason}.") from error


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _mapping(source: Path, pairs: Sequence[tuple[Any, Any]]) -> dict[Any, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise TableFileError(f"Expected each key once in {source}, but {short_repr(twice)} is there again.")
    return found


_Loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


class _TextLoader(_Loader):  # type: ignore[misc]
    """Makes mappings, lists and texts alone. No tag is followed; numbers and dates remain texts."""

    source: Path

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        pairs = [
            (self.construct_object(key, deep=True), self.construct_object(value, deep)) for key, value in node.value
        ]
        keys = [key for key, _ in pairs]
        if not all(isinstance(key, str) for key in keys):
            raise yaml.YAMLError("a key of a mapping is no text")
        return _mapping(self.source, pairs)


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
