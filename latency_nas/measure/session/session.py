"""`Session`: a metering session as one SQLite file, which holds the work items and every raw sample.

Each repetition is one transaction: a process that is killed loses at most the repetition that it was making.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from latency_nas.engine import Engine, get_engine
from latency_nas.errors import MeasureError, SessionError
from latency_nas.kernel import Kernel
from latency_nas.measure.compose import Branches
from latency_nas.measure.session.options import SessionOptions
from latency_nas.measure.session.session_file import SCHEMA, VERSION, checked, clear_errors, locked
from latency_nas.measure.session.work_item import WorkItem

__all__ = ["Session", "StoredNetwork"]

_ARRAYS = ("yardstick_before_ms", "yardstick_after_ms", "whole_ms", "ops_ms")


@dataclass(frozen=True, slots=True)
class StoredNetwork:
    """A composed network.

    Args:
        id: Number of the network in the session.
        branches: Work items of each branch, by their ids.
        kernels: Kernels that the network runs, in order, by their ids.
    """

    id: int
    branches: Branches
    kernels: tuple[int, ...]


class Session:
    """An open session, made by `Session.create` or `Session.open`. Close it, or use it as a context.

    Args:
        path: Path of the file.
        connection: Connection to the file.
        lock: Open descriptor that keeps other writers out; None for reading only.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: int | None) -> None:
        self.path = path
        self._connection, self._lock = connection, lock
        self.options = SessionOptions.parse(self.fact("options"))

    @classmethod
    def create(cls, path: str | os.PathLike[str], work_items: Iterable[WorkItem], options: SessionOptions) -> Session:
        """A new session; the file appears when it is complete.

        Raises:
            SessionError: if there is such a file already, there are no work items, or it cannot be written.
            MeasureError: if the precision cannot be measured with random weights, and a work item is no file.
        """
        refused = get_engine(options.engine).refused_precisions

        def writable(work_item: WorkItem) -> WorkItem:
            if work_item.kind != "file" and options.repetition.precision in refused:
                known = [name for name in get_engine(options.engine).precisions if name not in refused]
                raise MeasureError(
                    f"Expected `precision` to be {' or '.join(known)}, but got {options.repetition.precision!r}: "
                    f"{refused[options.repetition.precision]}"
                )
            return work_item

        target = Path(path)
        if target.exists():
            raise SessionError(
                f"Expected no session at {target} yet, but there is one: go on with it, or name another."
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
        try:
            with clear_errors(target):
                connection = sqlite3.connect(partial)
                with contextlib.closing(connection), connection:
                    connection.executescript(f"BEGIN;{SCHEMA}COMMIT;")  # waits for the disk once
                    rows = ((item.kind, item.label, item.text) for item in map(writable, work_items))
                    connection.executemany("INSERT INTO work_items (kind, label, text) VALUES (?, ?, ?)", rows)
                    (n_work_items,) = connection.execute("SELECT count(*) FROM work_items").fetchone()
                    facts = {"version": VERSION, "options": json.dumps(asdict(options)), "n_work_items": n_work_items}
                    connection.executemany("INSERT INTO facts VALUES (?, ?)", facts.items())
                if not n_work_items:
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
            SessionError: if it is no session, is damaged, or another process is writing it.
        """
        source = Path(path)
        if not source.is_file():
            raise FileNotFoundError(f"Expected a session at {source}, but there is no such file.")
        lock = None if read_only else locked(source)
        connection = sqlite3.connect(f"{source.resolve().as_uri()}{'?mode=ro' if read_only else ''}", uri=True)
        try:
            with clear_errors(source):
                connection = checked(connection, source, read_only=read_only)
                return cls(source, connection, lock)
        except BaseException:
            connection.close()
            if lock is not None:
                os.close(lock)
            raise

    def close(self) -> None:
        """Close the file. The lock is closed last: closing any descriptor of the file would drop SQLite's own locks."""
        self._connection.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def write_without_waiting(self) -> None:
        """Let writes return before they are on the disk: for a session that is deleted anyway."""
        self._connection.execute("PRAGMA synchronous = OFF")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _rows(self, query: str, values: Sequence[Any] = ()) -> Iterator[Any]:
        with clear_errors(self.path):
            yield from self._connection.execute(query, values)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with clear_errors(self.path), self._connection:
            yield self._connection

    # ---- facts, options and work items ----

    def fact(self, name: str, default: str = "") -> str:
        """A fact by name."""
        return next((value for (value,) in self._rows("SELECT value FROM facts WHERE name = ?", [name])), default)

    def note(self, name: str, value: str) -> None:
        """Store a fact."""
        with self._writing() as connection:
            connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", [name, value])

    def set_options(self, options: SessionOptions) -> None:
        """Replace the options of a session that has not begun.

        Raises:
            SessionError: if it has.
        """
        if self.is_composed(0):
            raise SessionError(f"Expected {self.path} not to have begun, but it has {self.n_repetitions} repetitions.")
        self.note("options", json.dumps(asdict(options)))
        self.options = options

    @property
    def engine(self) -> Engine:
        """The engine that the session meters."""
        return get_engine(self.options.engine)

    def work_items(self) -> Iterator[WorkItem]:
        """Every work item, those with problems included."""
        for kind, label, text in self._rows("SELECT kind, label, text FROM work_items ORDER BY id"):
            yield WorkItem(kind=kind, label=label, text=text)

    def work_item(self, number: int) -> WorkItem:
        """A work item by its id."""
        kind, label, text = next(self._rows("SELECT kind, label, text FROM work_items WHERE id = ?", [number]))
        return WorkItem(kind=kind, label=label, text=text)

    def add_work_item(self, work_item: WorkItem) -> int:
        """Add a work item that was derived from others, such as one kernel of a network; its id."""
        with self._writing() as connection:
            query = "INSERT INTO work_items (kind, label, text) VALUES (?, ?, ?)"
            return int(connection.execute(query, [work_item.kind, work_item.label, work_item.text]).lastrowid or 0)

    @property
    def n_work_items(self) -> int:
        """Number of work items, without those that were derived from others."""
        return int(self.fact("n_work_items"))

    @property
    def n_chunks(self) -> int:
        """Number of chunks."""
        return -(-self.n_work_items // self.options.chunk_size)

    def chunk(self, number: int) -> dict[int, WorkItem]:
        """The work items of a chunk that have no problem, by id; chunks are drawn from all over the session."""
        order = np.random.default_rng(self.options.seed).permutation(self.n_work_items) + 1
        size = self.options.chunk_size
        ids = order[number * size : (number + 1) * size].tolist()
        marks = ",".join("?" * len(ids))
        query = f"SELECT id, kind, label, text FROM work_items WHERE problem IS NULL AND id IN ({marks}) ORDER BY id"  # noqa: S608
        rows = self._rows(query, ids)
        return {number: WorkItem(kind=kind, label=label, text=text) for number, kind, label, text in rows}

    def problems(self) -> dict[str, str]:
        """Label of a work item that could not be metered -> the reason."""
        return dict(self._rows("SELECT label, problem FROM work_items WHERE problem IS NOT NULL ORDER BY id"))

    def set_problem(self, work_item: int, problem: str) -> None:
        """Put a work item aside for a reason."""
        with self._writing() as connection:
            connection.execute("UPDATE work_items SET problem = ? WHERE id = ?", [problem, work_item])

    # ---- networks and kernels ----

    def kernels(self) -> dict[int, Kernel]:
        """Every kernel of the composed networks, by id."""
        return {number: Kernel.parse(key) for number, key in self._rows("SELECT id, key FROM kernels ORDER BY id")}

    def kernel_keys(self) -> set[str]:
        """The keys of the kernels of the composed networks."""
        return {key for (key,) in self._rows("SELECT key FROM kernels")}

    def networks(self, chunk: int | None = None) -> Iterator[StoredNetwork]:
        """The composed networks of one chunk or of all, except those that had a problem."""
        where, values = ("", []) if chunk is None else ("AND chunk = ?", [chunk])
        query = f"SELECT id, branches, kernels FROM networks WHERE problem IS NULL {where} ORDER BY id"  # noqa: S608
        for number, branches, kernels in list(self._rows(query, values)):
            yield StoredNetwork(number, tuple(map(tuple, json.loads(branches))), tuple(json.loads(kernels)))

    def is_composed(self, chunk: int) -> bool:
        """Whether the chunk's networks have been composed and stored."""
        return chunk < int(self.fact("n_composed", "0"))

    def add_networks(
        self, chunk: int, networks: Sequence[tuple[Branches, Sequence[Kernel]]], *, last: bool = True
    ) -> None:
        """Store networks of a chunk in one transaction. With the last ones the chunk counts as composed."""
        with self._writing() as connection:
            for branches, kernels in networks:
                keys = [(kernel.key,) for kernel in kernels]
                connection.executemany("INSERT OR IGNORE INTO kernels (key) VALUES (?)", keys)
                find = "SELECT id FROM kernels WHERE key = ?"
                ids = [connection.execute(find, key).fetchone()[0] for key in keys]
                row = [chunk, json.dumps(branches), json.dumps(ids)]
                connection.execute("INSERT INTO networks (chunk, branches, kernels) VALUES (?, ?, ?)", row)
            if last:
                connection.execute("INSERT OR REPLACE INTO facts VALUES ('n_composed', ?)", [str(chunk + 1)])

    def drop_network(self, network: int, problem: str) -> None:
        """Put a network aside for a reason."""
        with self._writing() as connection:
            connection.execute("UPDATE networks SET problem = ? WHERE id = ?", [problem, network])

    # ---- samples ----

    def add_repetition(self, network: int, raw: Mapping[str, Any], facts: Mapping[str, str] | None = None) -> None:
        """Store the raw samples of a repetition, and facts, in one transaction, on the disk when this returns."""
        blobs = [np.asarray(raw[name], dtype="<f8").tobytes() for name in _ARRAYS]
        with self._writing() as connection:
            connection.execute(
                "INSERT INTO repetitions (network, ended_s, yardstick_before_ms, yardstick_after_ms, whole_ms, ops_ms, "
                "memory_mb) VALUES (?, ?, ?, ?, ?, ?, ?)",
                [network, raw.get("ended_s", time.time()), *blobs, raw.get("memory_mb")],
            )
            connection.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", (facts or {}).items())

    def repetitions(self, network: int) -> Iterator[dict[str, Any]]:
        """The raw samples of each repetition of a network, oldest first."""
        query = f"SELECT {', '.join(_ARRAYS)}, memory_mb FROM repetitions WHERE network = ? ORDER BY id"  # noqa: S608
        for *blobs, memory_mb in self._rows(query, [network]):
            raw: dict[str, Any] = {name: np.frombuffer(blob, "<f8") for name, blob in zip(_ARRAYS, blobs, strict=True)}
            raw["ops_ms"] = raw["ops_ms"].reshape(self.options.repetition.n_runs, -1)
            yield {**raw, "memory_mb": memory_mb}

    def yardsticks_ms(self) -> Iterator[tuple[float, float]]:
        """The yardstick's medians before and after the network, of each repetition, oldest first."""
        for before, after in self._rows("SELECT yardstick_before_ms, yardstick_after_ms FROM repetitions ORDER BY id"):
            yield float(np.median(np.frombuffer(before, "<f8"))), float(np.median(np.frombuffer(after, "<f8")))

    def last_repetition_s(self) -> float | None:
        """Time at which the last repetition ended, in seconds since 1970; None before the first."""
        return next(value for (value,) in self._rows("SELECT max(ended_s) FROM repetitions"))  # type: ignore[no-any-return]

    @property
    def n_repetitions(self) -> int:
        """Number of repetitions so far."""
        return next(int(count) for (count,) in self._rows("SELECT count(*) FROM repetitions"))
