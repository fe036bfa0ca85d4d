"""`Session`: a metering session as one SQLite file that holds what is to be metered and every raw sample.

Each visit is one transaction: a process that is killed loses at most the network that it was timing.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from latency_nas.errors import MeasureError, SessionError
from latency_nas.kernel import Kernel
from latency_nas.measure.compose import Branches
from latency_nas.measure.device.runner import VisitOptions
from latency_nas.measure.session.piece import Piece

__all__ = ["Session", "SessionOptions", "StoredNetwork"]

_VERSION = 1
_SCHEMA = """
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
_ARRAYS = ("yardstick_before_ms", "yardstick_after_ms", "whole_ms", "ops_ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """How a session meters.

    Args:
        visit: how a network is timed in one visit.
        context: ``"composed"``: inside several networks; ``"alone"``: each piece by itself.
        contexts: networks in which each piece is met, if composed.
        rounds: undisturbed visits of each network, at most.
        least_rounds: and at least, before `stop_at` can end it.
        stop_at: a network is not visited again once the 95 % interval of each of its kernels is at most this part of
            its time to either side; None to make every round.
        max_drift: how far the yardstick may move in a visit, or lie above its best, before the visit is made again.
        n_pieces: pieces of a composed network.
        chunk_size: pieces that are composed, and visited in interleaved rounds, together.
        device: what the datasheet calls the device.
        source: where the pieces are from.
        seed: of orders and weights.
    """

    visit: VisitOptions = field(default_factory=VisitOptions)
    context: Literal["composed", "alone"] = "composed"
    contexts: int = 3
    rounds: int = 5
    least_rounds: int = 3
    stop_at: float | None = 0.02
    max_drift: float = 0.1
    n_pieces: int = 8
    chunk_size: int = 96
    device: str = ""
    source: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("contexts", "rounds", "least_rounds", "n_pieces", "chunk_size"):
            if getattr(self, name) < 1:
                raise MeasureError(f"Expected `{name}` to be a positive integer, but got {getattr(self, name)}.")
        for name in ("stop_at", "max_drift"):
            value = getattr(self, name)
            if value is not None and not 0 < value < np.inf:
                raise MeasureError(f"Expected `{name}` to be a positive number, but got {value}.")
        if self.context not in ("composed", "alone"):
            raise MeasureError(f"Expected `context` to be one of composed, alone, but got {self.context!r}.")

    @classmethod
    def parse(cls, text: str) -> SessionOptions:
        """The inverse of ``json.dumps(asdict(options))``."""
        fields = json.loads(text)
        return cls(**{**fields, "visit": VisitOptions(**fields["visit"])})


@dataclass(frozen=True, slots=True)
class StoredNetwork:
    """A planned network: its branches of pieces, and the kernels that it runs, in order, by their ids."""

    id: int
    branches: Branches
    kernels: tuple[int, ...]


class Session:
    """An open session. Make one with `Session.create` or `Session.open`; close it, or use it as a context.

    Args:
        path: the file.
        connection: to it.
        lock: an open descriptor that keeps other writers out; None to read only.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: int | None) -> None:
        self.path = path
        self._connection, self._lock = connection, lock
        self.options = SessionOptions.parse(self.fact("options"))

    @classmethod
    def create(cls, path: str | os.PathLike[str], pieces: Iterable[Piece], options: SessionOptions) -> Session:
        """A new session; the file appears when it is whole.

        Raises:
            SessionError: if there is such a file already, there are no pieces, or it cannot be written.
        """
        target = Path(path)
        if target.exists():
            raise SessionError(
                f"Expected no session at {target} yet, but there is one: go on with it, or name another."
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
        try:
            with _clear_errors(target):
                connection = sqlite3.connect(partial)
                with contextlib.closing(connection), connection:
                    connection.executescript(_SCHEMA)
                    rows = ((piece.kind, piece.label, piece.text) for piece in pieces)
                    connection.executemany("INSERT INTO pieces (kind, label, text) VALUES (?, ?, ?)", rows)
                    (n_pieces,) = connection.execute("SELECT count(*) FROM pieces").fetchone()
                    facts = {"version": _VERSION, "options": json.dumps(asdict(options)), "n_pieces": n_pieces}
                    connection.executemany("INSERT INTO facts VALUES (?, ?)", facts.items())
                if not n_pieces:
                    raise SessionError(f"Expected something to meter in {options.source or target}, but got nothing.")
                partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        return cls.open(target)

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, read_only: bool = False) -> Session:
        """Open a session.

        Raises:
            FileNotFoundError: if there is no such file.
            SessionError: if it is no session, is damaged, or is being written by another process.
        """
        source = Path(path)
        if not source.is_file():
            raise FileNotFoundError(f"Expected a session at {source}, but there is no such file.")
        lock = None if read_only else _locked(source)
        connection = sqlite3.connect(f"{source.resolve().as_uri()}{'?mode=ro' if read_only else ''}", uri=True)
        try:
            with _clear_errors(source):
                (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
                if verdict != "ok":
                    raise sqlite3.DatabaseError(str(verdict).splitlines()[-1])
                found = connection.execute("SELECT value FROM facts WHERE name = 'version'").fetchone()
                version = found[0] if found else ""
                if version != str(_VERSION):
                    raise SessionError(
                        f"Expected {source} to be a session of version {_VERSION}, "
                        f"but it is of version {version or 'none'}."
                    )
                return cls(source, connection, lock)
        except BaseException:
            connection.close()
            if lock is not None:
                os.close(lock)
            raise

    def close(self) -> None:
        """Close the file. The lock goes last: closing any descriptor of the file would drop SQLite's own."""
        self._connection.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _rows(self, query: str, values: Sequence[Any] = ()) -> Iterator[Any]:
        with _clear_errors(self.path):
            yield from self._connection.execute(query, values)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with _clear_errors(self.path), self._connection:
            yield self._connection

    # ---- what is known of the session ----

    def fact(self, name: str, default: str = "") -> str:
        """A fact by name."""
        return next((value for (value,) in self._rows("SELECT value FROM facts WHERE name = ?", [name])), default)

    def note(self, name: str, value: str) -> None:
        """Remember a fact."""
        with self._writing() as connection:
            connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", [name, value])

    def set_options(self, options: SessionOptions) -> None:
        """Other options, for a session that has not begun.

        Raises:
            SessionError: if it has.
        """
        if self.is_planned(0):
            raise SessionError(f"Expected {self.path} not to have begun, but it has {self.n_visits} visits.")
        self.note("options", json.dumps(asdict(options)))
        self.options = options

    def pieces(self) -> Iterator[Piece]:
        """Every piece, whatever became of it."""
        for kind, label, text in self._rows("SELECT kind, label, text FROM pieces ORDER BY id"):
            yield Piece(kind=kind, label=label, text=text)

    @property
    def n_pieces(self) -> int:
        """Pieces in all."""
        return int(self.fact("n_pieces"))

    @property
    def n_chunks(self) -> int:
        """Chunks in all."""
        return -(-self.n_pieces // self.options.chunk_size)

    def chunk(self, number: int) -> dict[int, Piece]:
        """The pieces of a chunk that have no problem, by id; chunks are drawn from all over the session."""
        order = np.random.default_rng(self.options.seed).permutation(self.n_pieces) + 1
        size = self.options.chunk_size
        ids = order[number * size : (number + 1) * size].tolist()
        marks = ",".join("?" * len(ids))
        query = f"SELECT id, kind, label, text FROM pieces WHERE problem IS NULL AND id IN ({marks}) ORDER BY id"  # noqa: S608
        return {
            piece: Piece(kind=kind, label=label, text=text) for piece, kind, label, text in self._rows(query, ids)
        }  # fmt: skip

    def problems(self) -> dict[str, str]:
        """What could not be metered -> why."""
        return dict(self._rows("SELECT label, problem FROM pieces WHERE problem IS NOT NULL ORDER BY id"))

    def set_problem(self, piece: int, problem: str) -> None:
        """Put a piece aside."""
        with self._writing() as connection:
            connection.execute("UPDATE pieces SET problem = ? WHERE id = ?", [problem, piece])

    # ---- networks and kernels ----

    def kernels(self) -> dict[int, Kernel]:
        """Every kernel of the planned networks, by id."""
        return {number: Kernel.parse(key) for number, key in self._rows("SELECT id, key FROM kernels ORDER BY id")}

    def kernel_keys(self) -> set[str]:
        """The keys of the kernels of the planned networks."""
        return {key for (key,) in self._rows("SELECT key FROM kernels")}

    def networks(self, chunk: int | None = None) -> Iterator[StoredNetwork]:
        """The planned networks, of one chunk or of all, but for those that had a problem."""
        where, values = ("", []) if chunk is None else ("AND chunk = ?", [chunk])
        query = f"SELECT id, branches, kernels FROM networks WHERE problem IS NULL {where} ORDER BY id"  # noqa: S608
        for number, branches, kernels in list(self._rows(query, values)):
            yield StoredNetwork(number, tuple(map(tuple, json.loads(branches))), tuple(json.loads(kernels)))

    def is_planned(self, chunk: int) -> bool:
        """Whether the chunk's networks have been decided on."""
        return chunk < int(self.fact("n_planned", "0"))

    def plan(self, chunk: int, networks: Sequence[tuple[Branches, Sequence[Kernel]]], *, last: bool = True) -> None:
        """Store the networks of a chunk, and with `last` that these are all; in one transaction."""
        with self._writing() as connection:
            for branches, kernels in networks:
                keys = [(kernel.key,) for kernel in kernels]
                connection.executemany("INSERT OR IGNORE INTO kernels (key) VALUES (?)", keys)
                find = "SELECT id FROM kernels WHERE key = ?"
                ids = [connection.execute(find, key).fetchone()[0] for key in keys]
                row = [chunk, json.dumps(branches), json.dumps(ids)]
                connection.execute("INSERT INTO networks (chunk, branches, kernels) VALUES (?, ?, ?)", row)
            if last:
                connection.execute("INSERT OR REPLACE INTO facts VALUES ('n_planned', ?)", [str(chunk + 1)])

    def drop_network(self, network: int, problem: str) -> None:
        """Put a network aside."""
        with self._writing() as connection:
            connection.execute("UPDATE networks SET problem = ? WHERE id = ?", [problem, network])

    # ---- samples ----

    def add_visit(self, network: int, raw: Mapping[str, Any], facts: Mapping[str, str] | None = None) -> None:
        """Store the raw samples of a visit, and facts with them: one transaction, on the disk when this returns."""
        blobs = [np.asarray(raw[name], dtype="<f8").tobytes() for name in _ARRAYS]
        with self._writing() as connection:
            connection.execute(
                "INSERT INTO visits (network, ended_s, yardstick_before_ms, yardstick_after_ms, whole_ms, ops_ms, "
                "memory_mb) VALUES (?, ?, ?, ?, ?, ?, ?)",
                [network, raw.get("ended_s", time.time()), *blobs, raw.get("memory_mb")],
            )
            connection.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", (facts or {}).items())

    def visits(self, network: int) -> Iterator[dict[str, Any]]:
        """The raw samples of each visit of a network, oldest first."""
        query = f"SELECT {', '.join(_ARRAYS)}, memory_mb FROM visits WHERE network = ? ORDER BY id"  # noqa: S608
        for *blobs, memory_mb in self._rows(query, [network]):
            raw: dict[str, Any] = {name: np.frombuffer(blob, "<f8") for name, blob in zip(_ARRAYS, blobs, strict=True)}
            raw["ops_ms"] = raw["ops_ms"].reshape(self.options.visit.n_runs, -1)
            yield {**raw, "memory_mb": memory_mb}

    def yardsticks_ms(self) -> Iterator[tuple[float, float]]:
        """Each visit's medians of the yardstick, before and after, in the order in which they were made."""
        for before, after in self._rows("SELECT yardstick_before_ms, yardstick_after_ms FROM visits ORDER BY id"):
            yield float(np.median(np.frombuffer(before, "<f8"))), float(np.median(np.frombuffer(after, "<f8")))

    def last_visit_s(self) -> float | None:
        """When the last visit ended, in seconds since 1970; None before the first."""
        return next(value for (value,) in self._rows("SELECT max(ended_s) FROM visits"))  # type: ignore[no-any-return]

    @property
    def n_visits(self) -> int:
        """Visits so far."""
        return next(int(count) for (count,) in self._rows("SELECT count(*) FROM visits"))


def _locked(path: Path) -> int:
    """A descriptor that holds the session's lock for this process."""
    lock = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise SessionError(f"{path} is being metered by another process: wait for it, or end it.") from error
    return lock


@contextlib.contextmanager
def _clear_errors(path: Path) -> Iterator[None]:
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
