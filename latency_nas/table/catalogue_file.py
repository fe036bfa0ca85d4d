"""A user's own catalogue: a YAML file that gives names to files and URLs of tables.

A table beside the catalogue, and one on the net with its checksum::

    tables:
      my-phone:
        file: phone.parquet
      my-phone/threads=4:
        url: https://example.org/phone_t4.parquet
        sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08

`load_table("my-phone/threads=4")` loads the second, if `LATENCY_NAS_TABLES` names the catalogue file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from latency_nas.errors import CatalogueError
from latency_nas.table.download import Download
from latency_nas.table.formats.yaml_data import read_yaml

__all__ = ["read_catalogue"]


class _Entry(BaseModel):
    """The place of a table: a file, or a URL with a checksum."""

    model_config = ConfigDict(extra="forbid")

    file: Path | None = None
    url: Annotated[str, Field(pattern=r"^https?://\S+$")] | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.file is None) == (self.url is None):
            raise ValueError("Expected either `file` or `url`")
        if (self.url is None) != (self.sha256 is None):
            raise ValueError("Expected `sha256` beside `url`, and only there")
        return self


class _Catalogue(BaseModel):
    model_config = ConfigDict(extra="forbid")

    tables: dict[Annotated[str, Field(pattern=r"^[^\s/]+(/[^\s/=]+=[^\s/=]+)*$")], _Entry]


def read_catalogue(path: Path) -> dict[str, Path | Download]:
    """Read a catalogue file: the names of its tables -> their places.

    Raises:
        CatalogueError: if the file cannot be read or a field of it is wrong. The message names the file and the field.
    """
    try:
        data = read_yaml(path, error=CatalogueError, typed=True)
    except OSError as error:
        raise CatalogueError(f"Expected a catalogue of tables at {path}, but it cannot be read: {error}.") from error
    try:
        entries = _Catalogue.model_validate(data).tables
    except ValidationError as error:
        raise CatalogueError(_faults_message(path, error)) from error
    return {name: _place(path, entry) for name, entry in entries.items()}


def _place(path: Path, entry: _Entry) -> Path | Download:
    if entry.file is not None:
        return path.parent / entry.file.expanduser()
    return Download(url=str(entry.url), sha256=str(entry.sha256).lower())


def _faults_message(path: Path, error: ValidationError) -> str:
    """A message that lists each fault with its place in the file, ``tables.my-phone.sha256``."""
    faults = []
    for fault in error.errors(include_url=False):
        place = ".".join(str(part) for part in fault["loc"] if part != "[key]")
        message = fault["msg"].removeprefix("Value error, ")
        given = "" if isinstance(fault["input"], dict | _Entry) else f", but got {fault['input']!r}"
        faults.append(f"{place or 'the file'}: {message}{given}")
    return f"Expected a valid catalogue of tables in {path}, but {'; '.join(faults)}."
