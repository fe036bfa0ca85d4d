"""Validation of foreign data against a pydantic type; errors name the file and the path in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from latency_nas.errors import OpSpaceError, short_repr

__all__ = ["validated"]

T = TypeVar("T")

# type of pydantic's error -> what was expected, in the words of this library's messages
_EXPECTED = {
    "list_type": "a list",
    "dict_type": "a mapping",
    "string_type": "a text",
    "int_type": "an integer",
    "int_parsing": "an integer",
    "missing": "a value, and there is none",
    "extra_forbidden": "no key of this name",
    "too_short": "at least {min_length}",
    "too_long": "at most {max_length}",
    "greater_than_equal": "at least {ge}",
    "literal_error": "{expected}",
    "model_type": "a mapping",
}


def validated(adapter: TypeAdapter[T], data: Any, path: Path, where: tuple[str, ...] = ()) -> T:
    """The data as a value of the adapter's type.

    Args:
        adapter: Adapter of the pydantic type.
        data: Plain data.
        path: File that the data is from, for messages.
        where: Path of the data in the file, for messages.

    Raises:
        OpSpaceError: if the data is of another type; names the file, the path in it, and what was expected and found.
    """
    try:
        return adapter.validate_python(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, (*where, *first["loc"]))) or "the whole file"
        expected = _EXPECTED.get(first["type"], first["msg"]).format(**first.get("ctx", {}))
        raise OpSpaceError(f"{path}: {place}: Expected {expected}, but got {short_repr(first['input'])}.") from error
