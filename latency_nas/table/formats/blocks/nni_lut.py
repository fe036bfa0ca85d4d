"""Imports NNI's ``lut.txt``: a line for each candidate of a layer, as a Python dict.

    {'op_name': 'mb_k3', 'op_data_shape': (56, 56, 24, 24, 1), 'op_dtype': 'float', 'op_latency': 0.5}

The shape is width, height, input channels, output channels and stride.

References:
    NNI 2.10, ``nni/algorithms/nas/pytorch/fbnet/utils.py``.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from latency_nas.errors import TableFileError, short_repr
from latency_nas.table.block_table import BlockTable
from latency_nas.table.formats.blocks.block_rows import block_table, foreign_sheet
from latency_nas.table.formats.format import ImportReport
from latency_nas.table.formats.plain_data import read_text
from latency_nas.table.formats.unit import ms_per_unit

__all__ = ["import_nni_lut", "recognises_nni_lut"]

_FIELDS = ("op_name", "op_data_shape", "op_dtype", "op_latency")
_MAX_CHARACTERS = 2000  # of a line, since Python's parser takes deep nesting badly
_HINT = "NNI measures in us, but tables of others hold what their authors measured."


def recognises_nni_lut(head: bytes, _: Path) -> bool:
    """Whether the first line is a dict with NNI's fields."""
    first = head.lstrip().split(b"\n", 1)[0]
    return first.startswith(b"{") and all(f"'{field}'".encode() in first.replace(b'"', b"'") for field in _FIELDS)


def import_nni_lut(
    path: str | os.PathLike[str], *, unit: Literal["ms", "us"] | None = None
) -> tuple[BlockTable, ImportReport]:
    """Import a ``lut.txt`` of NNI's.

    Args:
        path: Text file.
        unit: Unit of the latencies. It is required, since the file does not state it.

    Returns:
        The table, with keys ``op-input:WxHxC-output:C-stride:S``, and ``-dtype:T`` where T is not float; and a report
        on its rows.

    Raises:
        TableFileError: if a line is no such dict, no row can be used, or the unit is not given.
    """
    source = Path(path)
    to_ms = ms_per_unit(source, unit, hint=_HINT)
    return block_table(source, _rows(source), foreign_sheet(source, "NNI's lut.txt"), to_ms)


def _rows(source: Path) -> Iterator[tuple[str, object]]:
    for number, line in enumerate(read_text(source).splitlines(), start=1):
        if line.strip():
            row = _row(source, number, line.strip())
            yield _key(source, number, row), row["op_latency"]


def _row(source: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = ast.literal_eval(line) if len(line) <= _MAX_CHARACTERS else None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        row = None
    if not isinstance(row, dict) or not set(_FIELDS) <= row.keys():
        raise TableFileError(
            f"Expected line {number} of {source} to be a dict with {', '.join(_FIELDS)}, but got {short_repr(line)}."
        )
    return row


def _key(source: Path, number: int, row: dict[str, Any]) -> str:
    shape = row["op_data_shape"]
    if not isinstance(shape, tuple | list) or len(shape) != 5 or not all(type(size) is int for size in shape):
        raise TableFileError(
            f"Expected `op_data_shape` in line {number} of {source} to be width, height, input channels, output "
            f"channels and stride, but got {short_repr(shape)}."
        )
    width, height, c_in, c_out, stride = shape
    dtype = "" if row["op_dtype"] == "float" else f"-dtype:{row['op_dtype']}"
    return f"{row['op_name']}-input:{width}x{height}x{c_in}-output:{c_out}-stride:{stride}{dtype}"
