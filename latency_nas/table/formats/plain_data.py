"""Reads text and JSON of others. Size is bounded before anything is built."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from latency_nas.errors import TableFileError, short_repr

__all__ = ["MAX_JSON_BYTES", "MAX_TEXT_BYTES", "mapping_of", "read_json", "read_text"]

MAX_TEXT_BYTES = 1 << 26
MAX_JSON_BYTES = 1 << 24  # Python's objects take some thirty times as much


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
    text = read_text(source, max_bytes=MAX_JSON_BYTES)
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: mapping_of(source, pairs), parse_constant=_no_number)
    except TableFileError:
        raise
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise TableFileError(f"Expected {source} to be JSON, but it cannot be parsed: {reason}.") from error


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def mapping_of(source: Path, pairs: Sequence[tuple[Any, Any]]) -> dict[Any, Any]:
    """A dict of the pairs.

    Raises:
        TableFileError: if a key is there twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise TableFileError(f"Expected each key once in {source}, but {short_repr(twice)} is there again.")
    return found
