"""Imports the text tables of FBNet's implementations in PyTorch: a row for each layer, a number for each candidate.

The first line may name the candidates, as in ``ir_k3_e1 ir_k3_s2 skip``. Without it, they are numbered from 0.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from latency_nas.errors import TableFileError
from latency_nas.table.block_table import BlockTable
from latency_nas.table.formats.blocks.block_rows import block_table, foreign_sheet
from latency_nas.table.formats.content import head_lines
from latency_nas.table.formats.format import ImportReport
from latency_nas.table.formats.text_rows import text_lines
from latency_nas.table.formats.unit import ms_per_unit

__all__ = ["import_fbnet_text", "recognises_fbnet_text"]

_NAMES = re.compile(r"[A-Za-z]\w*([ \t]+[A-Za-z]\w*)+")
_NUMBERS = re.compile(r"[\d.]+(e[-+]?\d+)?([ \t]+[\d.]+(e[-+]?\d+)?)+", re.IGNORECASE)
_HINT = "The builder of such tables measures in us."


def recognises_fbnet_text(head: bytes, _: Path) -> bool:
    """Whether the first line has names between blanks, and the second as many numbers."""
    lines = [line.strip() for line in head_lines(head)[:2]]
    if len(lines) < 2 or not _NAMES.fullmatch(lines[0]) or not _NUMBERS.fullmatch(lines[1]):
        return False
    return len(lines[0].split()) == len(lines[1].split())


def import_fbnet_text(
    path: str | os.PathLike[str], *, unit: Literal["ms", "us"] | None = None
) -> tuple[BlockTable, ImportReport]:
    """Import a text table of FBNet's.

    Args:
        path: Text file.
        unit: Unit of the latencies. It is required, since the file does not state it.

    Returns:
        The table, with keys ``layer 0/candidate``, and a report on its rows.

    Raises:
        TableFileError: if a row does not have a number for each name, a number is not finite and >= 0, or the unit is
            not given. No row is skipped, since rows are layers by their position.
    """
    source = Path(path)
    to_ms = ms_per_unit(source, unit, hint=_HINT)
    table, report = block_table(source, _rows(source), foreign_sheet(source, "FBNet's lookup table"), to_ms)
    for key, reason in report.skipped.items():
        raise TableFileError(f"Expected a latency of each candidate in {source}, but {key}: {reason}")
    return table, report


def _rows(source: Path) -> Iterator[tuple[str, object]]:
    lines = [line.split() for line in text_lines(source)]
    names = lines.pop(0) if lines and not _NUMBERS.fullmatch(" ".join(lines[0])) else None
    for layer, values in enumerate(lines):
        if names is not None and len(values) != len(names):
            raise TableFileError(
                f"Expected {len(names)} numbers for layer {layer} in {source}, one for each name, but got "
                f"{len(values)}."
            )
        for candidate, value in zip(names or map(str, range(len(values))), values, strict=True):
            yield f"layer {layer}/{candidate}", value
