"""Finds the JSON of an exported program in its archive."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from latency_nas.errors import GraphError

__all__ = ["is_exported", "program_in"]

_MAX_BYTES = 1 << 28


def is_exported(names: Sequence[str]) -> bool:
    """Whether an archive with entries of these names holds an exported program."""
    return any(_is_program(name) for name in names)


def _is_program(name: str) -> bool:
    return name == "serialized_exported_program.json" or name.endswith("/models/model.json")


def program_in(path: Path) -> Mapping[str, Any]:
    """The graph and the signature of the program in an archive.

    Raises:
        GraphError: if its description is too large.
        zipfile.BadZipFile: if it is no archive.
    """
    with zipfile.ZipFile(path) as archive:
        [entry] = [item for item in archive.infolist() if _is_program(item.filename)]
        if entry.file_size > _MAX_BYTES:
            raise GraphError(f"Expected {path} to describe its program in at most {_MAX_BYTES >> 20} MiB.")
        read = json.loads(archive.read(entry))
    return {name: read["graph_module"][name] for name in ("graph", "signature")}
