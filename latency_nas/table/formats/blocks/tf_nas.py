"""Imports TF-NAS's pickles: the latency of each inverted residual at each number of its inner channels.

A pickle is a dict: ``base`` -> latency of what is not searched, and
``{block}_{size}_{in}_{squeeze}_{out}_k{kernel}_s{stride}_{activation}`` -> inner channels -> latency. The latencies are
in milliseconds, by the script beside them. Those of few channels were extrapolated by TF-NAS, some to below zero.

References:
    TF-NAS, ``latency_pkl/make_lat_lut_example.py`` and ``models/model_search.py``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from latency_nas.errors import TableFileError
from latency_nas.table.block_table import BlockTable
from latency_nas.table.formats.blocks.block_rows import block_table, foreign_sheet
from latency_nas.table.formats.content import is_pickle
from latency_nas.table.formats.format import ImportReport
from latency_nas.table.formats.plain_pickle import load_plain_pickle
from latency_nas.table.formats.unit import ms_per_unit

__all__ = ["import_tf_nas", "recognises_tf_nas"]

_KEY = re.compile(rb"[A-Za-z]\w*Block_\d+_\d+_\d+_\d+_k\d+_s\d+_\w")


def recognises_tf_nas(head: bytes, path: Path) -> bool:
    """Whether the file is a pickle with keys of TF-NAS's blocks."""
    return is_pickle(head, path.suffix) and _KEY.search(head) is not None


def import_tf_nas(path: str | os.PathLike[str], *, unit: Literal["ms", "us"] = "ms") -> tuple[BlockTable, ImportReport]:
    """Import a table of TF-NAS's, without running anything in the pickle.

    Args:
        path: Pickle to read.
        unit: Unit of the latencies; TF-NAS's script writes milliseconds.

    Returns:
        The table, with the keys ``base`` and ``block/channels``, and a report on its rows. Latencies below zero are
        left out.

    Raises:
        UnsafePickleError: if the pickle holds more than plain data.
        TableFileError: if it is not such a dict, or no row can be used.
    """
    source = Path(path)
    data = load_plain_pickle(source)
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise TableFileError(f"Expected {source} to hold a dict of blocks, but got {type(data).__name__}.")
    return block_table(source, _rows(data), foreign_sheet(source, "TF-NAS"), ms_per_unit(source, unit))


def _rows(data: dict[str, Any]) -> Iterator[tuple[str, object]]:
    for key, value in data.items():
        if isinstance(value, dict):
            for channels, latency in value.items():
                yield f"{key}/{channels}", latency
        else:
            yield key, value
