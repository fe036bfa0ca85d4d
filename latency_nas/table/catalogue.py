"""Tables by name: those that come with the library, and the user's own folder."""

from __future__ import annotations

import difflib
import logging
import os
from pathlib import Path

from latency_nas.errors import UnknownTableError
from latency_nas.table.latency_table import LatencyTable
from latency_nas.table.paddleslim import import_paddleslim
from latency_nas.table.parquet_file import read_table

__all__ = ["FOLDER_VARIABLE", "load_table", "named_tables"]

logger = logging.getLogger(__name__)

FOLDER_VARIABLE = "LATENCY_NAS_TABLES"
_PACKAGE = Path(__file__).resolve().parents[1]


def _folders() -> list[Path]:
    """Where named tables lie: the user's folders first, then those of the library (installed, or a checkout's)."""
    own = [Path(part).expanduser() for part in os.environ.get(FOLDER_VARIABLE, "").split(os.pathsep) if part]
    checkout = [_PACKAGE.parent / "tables"] if (_PACKAGE.parent / "pyproject.toml").is_file() else []
    return [*own, _PACKAGE / "tables", *checkout]


def named_tables() -> dict[str, Path]:
    """Each named table and its file: ``NAME.parquet`` in a folder of `LATENCY_NAS_TABLES`, or of the library's own."""
    found: dict[str, Path] = {}
    for folder in _folders():
        for path in sorted(folder.glob("*.parquet")):
            found.setdefault(path.stem, path)
    return found


def load_table(name_or_path: str | os.PathLike[str]) -> LatencyTable:
    """Load a table by its name or its file.

    Args:
        name_or_path: a name that `named_tables` lists (``"SD865"``), or a path to a Parquet file of this library or
            to a pickle of PaddleSlim's (``.pkl``).

    Raises:
        UnknownTableError: if there is no such name or file; the message lists the names there are and how to get a
            table.
        TableFileError: if the file is damaged or foreign.
        UnsafePickleError: if a pickle holds more than plain data.
    """
    path = Path(name_or_path)
    named = named_tables()
    if str(name_or_path) in named:
        path = named[str(name_or_path)]
    elif not _is_file(path):
        raise UnknownTableError(_unknown(str(name_or_path), list(named)))
    if path.suffix != ".pkl":
        return read_table(path)
    table, report = import_paddleslim(path)
    if report.skipped:
        logger.warning(
            "%s: %d of %d keys could not be used; import_paddleslim says which.",
            path,
            len(report.skipped),
            report.n_keys,
        )
    return table


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # no name that a file can have
        return False


def _unknown(name: str, names: list[str]) -> str:
    folded = {known.casefold(): known for known in names}
    close = [folded[match] for match in difflib.get_close_matches(name.casefold(), folded, n=1)]
    hint = f" Did you mean {close[0]!r}?" if close else ""
    there = ", ".join(sorted(names)) if names else "none"
    return (
        f"Expected the name or the file of a latency table, but got {name!r}.{hint} Named tables here: {there}. "
        f"To get one: measure this machine with latency_nas.measure_table(...) and save_table(table, 'NAME.parquet'); "
        f"or give the path of a PaddleSlim table (.pkl); "
        f"or put NAME.parquet into a folder that {FOLDER_VARIABLE} names."
    )
