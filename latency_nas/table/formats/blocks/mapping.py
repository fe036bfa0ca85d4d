"""Block tables in JSON or YAML: those of Once-for-All and ProxylessNAS, this library's own, and simple mappings.

Once-for-All and ProxylessNAS have a row for each block, in YAML; DynamicOFA has the same rows in JSON, with a ``std``::

    expanded_conv-input:7x7x192-output:7x7x320-expand:6-kernel:5-stride:1-idskip:0: {count: 154, mean: 5.26, var: 0.195}

The latency is the ``mean``. What ``var`` or ``std`` is the spread of is not stated anywhere, so it is not used.

A simple mapping is ``block: latency``, or ``group: {candidate: latency}``, or a list of such groups, one for each
layer, where null stands for a layer that has no candidates.

References:
    Once-for-All, ``ofa/nas/efficiency_predictor/latency_lookup_table.py``.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from latency_nas.errors import TableError, TableFileError, short_repr
from latency_nas.table.block_table import BlockTable
from latency_nas.table.datasheet import Datasheet
from latency_nas.table.formats.blocks.block_rows import block_table, foreign_sheet
from latency_nas.table.formats.format import ImportReport
from latency_nas.table.formats.plain_data import read_json
from latency_nas.table.formats.unit import ms_per_unit
from latency_nas.table.whole_file import whole_file

__all__ = ["import_blocks_mapping", "recognises_blocks_mapping", "save_block_table"]

_MARK = "latency_nas blocks"
_VERSION = 1
_OFA_KEY = re.compile(rb"^[ \t{?]*[\"']?(expanded_conv|Conv(_\d)?|Logits|AvgPool2D)-input:\d+x\d+x\d+-output:\d+", re.M)
_HINT = "ProxylessNAS's and Once-for-All's own tables are in ms; others of the same form are not."


def save_block_table(table: BlockTable, path: str | os.PathLike[str]) -> Path:
    """Write a table of blocks as JSON, with its datasheet. `load_block_table` reads it.

    Returns:
        The path.
    """
    target = Path(path)
    content = {_MARK: _VERSION, "datasheet": table.datasheet.to_dict(), "latencies_ms": dict(table.latencies_ms)}
    with whole_file(target) as partial:
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    return target


def recognises_blocks_mapping(head: bytes, _: Path) -> bool:
    """Whether the file begins with this library's mark, or has keys of Once-for-All's blocks."""
    return head.lstrip().startswith(b'{\n "' + _MARK.encode()) or _OFA_KEY.search(head) is not None


def import_blocks_mapping(
    path: str | os.PathLike[str], *, unit: Literal["ms", "us"] | None = None
) -> tuple[BlockTable, ImportReport]:
    """Read a block table in JSON or YAML.

    Args:
        path: File to read; ``.json`` is JSON, and so is what begins with a brace or bracket.
        unit: Unit of the latencies. It is required for files of others, which do not state it.

    Returns:
        The table, and a report on its rows.

    Raises:
        TableFileError: if the file is too large, damaged or of another form, no row can be used, or the unit is not
            given.
    """
    source = Path(path)
    with source.open("rb") as file:
        first = file.read(1024).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    data = read_json(source) if first in (b"{", b"[") else _yaml(source)
    if isinstance(data, dict) and _MARK in data:
        return _own(source, data)
    if not isinstance(data, dict | list):
        raise TableFileError(f"Expected {source} to hold a mapping of blocks, but got {short_repr(data)}.")
    to_ms = ms_per_unit(source, unit, hint=_HINT)
    return block_table(source, _rows(source, data), foreign_sheet(source, "blocks in JSON or YAML"), to_ms)


def _yaml(source: Path) -> Any:
    from latency_nas.table.formats.yaml_data import read_yaml  # late, since it imports PyYAML

    return read_yaml(source)


def _own(source: Path, data: Mapping[str, Any]) -> tuple[BlockTable, ImportReport]:
    if data[_MARK] != _VERSION:
        raise TableFileError(
            f"Expected {source} to have version {_VERSION}, but it has {short_repr(data[_MARK])}: it was written by "
            f"another version of latency_nas."
        )
    blocks = data.get("latencies_ms")
    if not isinstance(blocks, dict):
        raise TableFileError(f"Expected `latencies_ms` in {source} to be a mapping, but got {short_repr(blocks)}.")
    try:
        sheet = Datasheet.from_dict(data.get("datasheet"))
    except TableError as error:
        raise TableFileError(f"Expected a valid datasheet in {source}: {error}") from error
    return block_table(source, blocks.items(), sheet, 1.0)


def _rows(source: Path, data: Mapping[str, Any] | list[Any]) -> Iterator[tuple[str, object]]:
    groups = data.items() if isinstance(data, Mapping) else _numbered(data, "layer ")
    for key, value in groups:
        if isinstance(value, Mapping) and "mean" in value:
            yield key, value["mean"]
        elif isinstance(value, Mapping | list):
            candidates = value.items() if isinstance(value, Mapping) else _numbered(value)
            for candidate, latency in candidates:
                yield f"{key}/{candidate}", latency
        else:
            yield key, value


def _numbered(items: list[Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Items with their numbers, without those that are null."""
    return [(f"{prefix}{number}", item) for number, item in enumerate(items) if item is not None and item != "null"]
