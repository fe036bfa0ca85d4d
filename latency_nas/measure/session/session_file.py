"""The file of a session: its tables, its lock, its upgrade from version 1, and SQLite's errors made clear."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from latency_nas.errors import SessionError

__all__ = ["SCHEMA", "VERSION", "checked", "clear_errors", "locked"]

VERSION = 2
SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE work_items (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, label TEXT NOT NULL, text TEXT NOT NULL,
    problem TEXT);
CREATE TABLE kernels (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE);
CREATE TABLE networks (id INTEGER PRIMARY KEY, chunk INTEGER NOT NULL, branches TEXT NOT NULL, kernels TEXT NOT NULL,
    problem TEXT);
CREATE INDEX networks_by_chunk ON networks (chunk);
CREATE TABLE repetitions (id INTEGER PRIMARY KEY, network INTEGER NOT NULL REFERENCES networks, ended_s REAL NOT NULL,
    yardstick_before_ms BLOB NOT NULL, yardstick_after_ms BLOB NOT NULL, whole_ms BLOB NOT NULL, ops_ms BLOB NOT NULL,
    memory_mb REAL);
CREATE INDEX repetitions_by_network ON repetitions (network);
"""

# version 1 -> 2: names of tables, facts and options
_UPGRADE = """
ALTER TABLE pieces RENAME TO work_items;
ALTER TABLE visits RENAME TO repetitions;
DROP INDEX visits_by_network;
CREATE INDEX repetitions_by_network ON repetitions (network);
UPDATE facts SET name = 'n_work_items' WHERE name = 'n_pieces';
UPDATE facts SET name = 'n_composed' WHERE name = 'n_planned';
"""
_OPTIONS = {"visit": "repetition", "least_rounds": "min_rounds", "n_pieces": "items_per_network"}


def checked(connection: sqlite3.Connection, path: Path, *, read_only: bool) -> sqlite3.Connection:
    """A connection to an undamaged session of the version that this library writes.

    Args:
        connection: Connection to the file.
        path: Path of the file.
        read_only: Whether the file must not change; a file of version 1 is then upgraded in a copy in memory.

    Raises:
        SessionError: if the session is of another version.
        sqlite3.Error: if the file is damaged.
    """
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(str(verdict).splitlines()[-1])
    found = connection.execute("SELECT value FROM facts WHERE name = 'version'").fetchone()
    version = found[0] if found else ""
    if version == "1":
        return _upgraded(connection, in_memory=read_only)
    if version != str(VERSION):
        raise SessionError(
            f"Expected {path} to be a session of version {VERSION}, but it is of version {version or 'none'}."
        )
    return connection


def _upgraded(connection: sqlite3.Connection, *, in_memory: bool) -> sqlite3.Connection:
    """Rename what had other names in version 1, in the file or in a copy of it in memory."""
    if in_memory:
        with contextlib.closing(connection):
            copy = sqlite3.connect(":memory:")
            connection.backup(copy)
        connection = copy
    (text,) = connection.execute("SELECT value FROM facts WHERE name = 'options'").fetchone()
    options = {_OPTIONS.get(name, name): value for name, value in json.loads(text).items()}
    facts = [(json.dumps(options), "options"), (str(VERSION), "version")]
    with connection:  # all of it or nothing
        connection.execute("BEGIN")
        for statement in filter(str.strip, _UPGRADE.split(";")):
            connection.execute(statement)
        connection.executemany("UPDATE facts SET value = ? WHERE name = ?", facts)
    return connection


def locked(path: Path) -> int:
    """A descriptor that holds the session's lock for this process."""
    lock = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise SessionError(f"{path} is being metered by another process: wait for it, or end it.") from error
    return lock


@contextlib.contextmanager
def clear_errors(path: Path) -> Iterator[None]:
    """Raise SQLite's errors as errors that say what to do."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        if name == "SQLITE_FULL" or "full" in str(error):
            raise SessionError(
                f"The disk that holds {path} is full. Every finished repetition is kept: make room, and run the same "
                f"command again to go on."
            ) from error
        if name.startswith(("SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN")):
            raise SessionError(
                f"{path} cannot be written ({error}). Every finished repetition is kept: see to the disk, and run the "
                f"same command again to go on."
            ) from error
        raise SessionError(
            f"Expected {path} to be a session, but it is damaged or of another format ({error}). It was not changed: "
            f"what can be read of it, `sqlite3 {path} .recover` writes into a new file."
        ) from error
