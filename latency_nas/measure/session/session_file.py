"""The file of a session: its tables, its lock, and what SQLite says of it in words that help."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from latency_nas.errors import SessionError

__all__ = ["SCHEMA", "VERSION", "clear_errors", "locked"]

VERSION = 1
SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE pieces (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, label TEXT NOT NULL, text TEXT NOT NULL, problem TEXT);
CREATE TABLE kernels (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE);
CREATE TABLE networks (id INTEGER PRIMARY KEY, chunk INTEGER NOT NULL, branches TEXT NOT NULL, kernels TEXT NOT NULL,
    problem TEXT);
CREATE INDEX networks_by_chunk ON networks (chunk);
CREATE TABLE visits (id INTEGER PRIMARY KEY, network INTEGER NOT NULL REFERENCES networks, ended_s REAL NOT NULL,
    yardstick_before_ms BLOB NOT NULL, yardstick_after_ms BLOB NOT NULL, whole_ms BLOB NOT NULL, ops_ms BLOB NOT NULL,
    memory_mb REAL);
CREATE INDEX visits_by_network ON visits (network);
"""


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
    """What SQLite says, in words that help."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        if name == "SQLITE_FULL" or "full" in str(error):
            raise SessionError(
                f"The disk that holds {path} is full. Every visit that was finished is kept: make room, and run the "
                f"same command again to go on."
            ) from error
        if name.startswith(("SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN")):
            raise SessionError(
                f"{path} cannot be written ({error}). Every visit that was finished is kept: see to the disk, and run "
                f"the same command again to go on."
            ) from error
        raise SessionError(
            f"Expected {path} to be a session, but it is damaged or of another format ({error}). It was not changed: "
            f"what can be read of it, `sqlite3 {path} .recover` writes into a new file."
        ) from error
