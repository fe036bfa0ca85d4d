"""A session that version 1 of the file format holds: written by the library when it had that version, and dumped."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from latency_nas import Kernel
from latency_nas.measure.session.result import build_table
from latency_nas.measure.session.session import Session

VERSION_1 = Path(__file__).parents[2] / "golden" / "session" / "version_1.sql"
RELU, GELU = (Kernel.of(op, [(1, 8, 4, 4)], [(1, 8, 4, 4)]) for op in ("relu", "gelu"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    target = tmp_path / "old.sqlite"
    with contextlib.closing(sqlite3.connect(target)) as connection:
        connection.executescript(VERSION_1.read_text(encoding="utf-8"))
    return target


def check(session: Session) -> None:
    assert [item.label for item in session.work_items()] == [RELU.key, GELU.key]
    assert (session.n_work_items, session.n_repetitions) == (2, 2)
    assert [session.is_composed(chunk) for chunk in (0, 1)] == [True, False]
    options = session.options
    assert (options.repetition.n_runs, options.min_rounds, options.items_per_network) == (2, 1, 4)
    table = build_table(session)
    # (0.5 + 0.25) ms op by op and 0.75 ms as a whole: a callback costs nothing
    assert {kernel: table[kernel].latency_ms for kernel in table} == {RELU: 0.5, GELU: 0.25}


def test_reading_leaves_the_file_as_it_is(path: Path) -> None:
    before = path.read_bytes()
    with Session.open(path, read_only=True) as session:
        check(session)
    assert path.read_bytes() == before


def test_opening_for_writing_upgrades_it_once(path: Path) -> None:
    for _ in range(2):
        with Session.open(path) as session:
            check(session)
    with Session.open(path, read_only=True) as session:
        check(session)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        lookup = connection.execute("EXPLAIN QUERY PLAN SELECT * FROM repetitions WHERE network = 1").fetchall()
    assert not names & {"pieces", "visits", "visits_by_network"}
    assert "repetitions_by_network" in str(lookup)
