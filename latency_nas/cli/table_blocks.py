"""Tables of blocks in ``latency-nas table import`` and ``latency-nas table info``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from latency_nas.errors import TableError
from latency_nas.table import Format, import_blocks, save_block_table
from latency_nas.table.formats.exchange import format_of

__all__ = ["import_to_json", "is_block_table"]


def is_block_table(file: str) -> bool:
    """Whether a text is the path of a table of blocks, as `import_to_json` writes it or as others do."""
    return Path(file).is_file() and format_of(file).read_blocks is not None


def import_to_json(file: Path, found: Format, output: Path, options: dict[str, Any]) -> None:
    """Convert a table of blocks to JSON, and report the rows that could not be used.

    Args:
        file: Table of blocks.
        found: Its format.
        output: File to write, ``.json``.
        options: Options of the format, and conditions.

    Raises:
        TableError: if `output` has another suffix.
    """
    if output.suffix.lower() != ".json":
        raise TableError(f"Expected --output to end in .json, since {file} is a table of blocks, but got {output}.")
    table, report = import_blocks(file, file_format=found, **options)
    save_block_table(table, output)
    typer.echo(f"{output}: {len(table)} blocks. {table.datasheet}\n{report}")
