"""Tables by name: from the library, from the user's folders and catalogue files, and from URLs.

A name may have variants: ``SD855/threads=2`` is the file ``SD855/threads=2.parquet`` in a folder. The name alone,
``SD855``, means its first variant, the one with the fewest threads.
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import Any

from latency_nas.errors import UnknownTableError
from latency_nas.table.download import Download, fetch, parse_url
from latency_nas.table.formats.exchange import import_table, log_report
from latency_nas.table.formats.format import Format
from latency_nas.table.latency_table import LatencyTable

__all__ = ["FOLDER_VARIABLE", "load_table", "named_tables"]

FOLDER_VARIABLE = "LATENCY_NAS_TABLES"
_PACKAGE = Path(__file__).resolve().parents[1]
_CATALOGUES = (".yaml", ".yml")


def _places() -> list[Path]:
    """Folders and catalogue files to search: the user's, then those of the library (installed, or in a checkout)."""
    own = [Path(part).expanduser() for part in os.environ.get(FOLDER_VARIABLE, "").split(os.pathsep) if part]
    checkout = [_PACKAGE.parent / "tables"] if (_PACKAGE.parent / "pyproject.toml").is_file() else []
    return [*own, _PACKAGE / "tables", *checkout]


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts ``threads=2`` before ``threads=10``."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


def _names_in(place: Path) -> dict[str, Path | Download]:
    if place.suffix in _CATALOGUES:
        from latency_nas.table.catalogue_file import read_catalogue  # late, since it imports pydantic

        return read_catalogue(place)
    files = [*place.glob("*.parquet"), *place.glob("*/*=*.parquet")]
    return {path.relative_to(place).with_suffix("").as_posix(): path for path in files}


def named_tables() -> dict[str, Path | Download]:
    """All named tables, name -> place. If only variants of a name have files, the name means the first of them.

    Names come from the files (``NAME.parquet``, ``NAME/threads=2.parquet``) in the folders of `LATENCY_NAS_TABLES` and
    of the library, and from the catalogue files (``.yaml``) of `LATENCY_NAS_TABLES`. If several places have a name, the
    first one counts.

    Raises:
        CatalogueError: if a catalogue file is wrong.

    Example:
        >>> sorted(name for name in named_tables() if name.startswith("SD8"))[:3]
        ['SD835', 'SD835/threads=1', 'SD845']
    """
    found: dict[str, Path | Download] = {}
    for place in _places():
        names = _names_in(place)
        for name in sorted(names, key=_natural):
            found.setdefault(name, names[name])
    for name in sorted(found, key=_natural):
        found.setdefault(name.partition("/")[0], found[name])
    return {name: found[name] for name in sorted(found, key=_natural)}


def load_table(
    name_or_path: str | os.PathLike[str], *, file_format: str | Format | None = None, **options: Any
) -> LatencyTable:
    """Load a table by its name, its file, or its URL.

    Args:
        name_or_path: Name that `named_tables` lists (``"SD865"``, ``"SD855/threads=2"``), path to a file in any format
            that `import_table` reads, or URL with the file's checksum, ``https://host/table.parquet#sha256=...``. A URL
            is downloaded once and kept.
        file_format: Format of the file, as in `import_table`.
        **options: Options of the format and conditions, as in `import_table`: ``unit="us"``, ``threads=4``.

    Raises:
        UnknownTableError: if there is no such name or file. The message lists the names, and the ways to get a table.
        CatalogueError: if a catalogue file is wrong.
        DownloadError: if a URL cannot be downloaded.
        TableFileError: if the file is damaged, or of no known format.
        TableError: if there is no such format or option.
        UnsafePickleError: if a pickle holds more than plain data.

    Example:
        >>> table = load_table("SD865")
        >>> table.datasheet.engine, table.datasheet.threads
        ('Paddle-Lite', 1)
    """
    name, path = str(name_or_path), Path(name_or_path)
    place: Path | Download | None = parse_url(name)
    if place is None:
        named = named_tables()
        place = named.get(name, path if _is_file(path) else None)
        if place is None or (isinstance(place, Path) and not _is_file(place)):
            raise UnknownTableError(
                _unknown_name_message(name, list(named)) if place is None else _missing_file_message(name, place)
            )
    file = fetch(place) if isinstance(place, Download) else place
    table, report = import_table(file, file_format=file_format, **options)
    log_report(file, report)
    return table


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # the text cannot be the name of a file
        return False


def _missing_file_message(name: str, path: Path) -> str:
    return f"Expected the table {name!r} at {path}, where a catalogue file places it, but there is no such file."


def _unknown_name_message(name: str, names: list[str]) -> str:
    folded = {known.casefold(): known for known in names}
    close = [folded[match] for match in difflib.get_close_matches(name.casefold(), folded, n=1)]
    variants = [known for known in names if known.startswith(f"{name.partition('/')[0]}/")]
    hint = f" Did you mean {close[0]!r}?" if close else ""
    if "/" in name and variants:
        hint = f" Its variants are {', '.join(variants)}."
    there = ", ".join(names) if names else "none"
    return (
        f"Expected the name or the file of a latency table, but got {name!r}.{hint} Named tables here: {there}. "
        f"To get one: measure this machine with latency_nas.measure_table(...) and save_table(table, 'NAME.parquet'); "
        f"or give the path of a table in another format (latency-nas table formats lists them); "
        f"or put NAME.parquet into a folder that {FOLDER_VARIABLE} names."
    )
