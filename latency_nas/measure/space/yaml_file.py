"""YAML files of op spaces: only plain data, of limited size and depth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latency_nas.errors import OpSpaceError
from latency_nas.table.formats import yaml_data

__all__ = ["read_yaml"]

_MAX_BYTES = 1 << 25


def read_yaml(path: Path) -> Any:
    """The plain data of a YAML file.

    Raises:
        FileNotFoundError: if there is no such file.
        OpSpaceError: if it is no YAML, holds more than plain data, or is too large when its aliases are expanded.
    """
    if not path.is_file():
        raise FileNotFoundError(f"Expected an op space at {path}, but there is no such file.")
    return yaml_data.read_yaml(path, error=OpSpaceError, typed=True, max_bytes=_MAX_BYTES)
