"""Filtering of files: equal to filtering of arrays, and resumed after kill -9."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from latency_nas.errors import SearchError
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select import filter_file
from latency_nas.search.select.budget import Budget
from latency_nas.search.select.filter import filter_by_budget
from latency_nas.search.select.filter_file import parts_of
from tests.random_plans import drawn, random_plan

N = 6000


@pytest.fixture
def plan() -> CostPlan:
    return random_plan(np.random.default_rng(0), (3, 2, 4, 5, 9), 6, n_families=2)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 500 rows, in batches of 200, so that a small file has many."""
    monkeypatch.setattr(filter_file, "_PART_ROWS", 500)
    monkeypatch.setattr(filter_file, "_BATCH_ROWS", 200)
    monkeypatch.setattr(filter_file, "_GROUP_ROWS", 300)


def table_of(plan: CostPlan, rows: np.ndarray) -> pa.Table:
    """Candidates by name, by index and by dictionary, and other columns."""
    columns: dict[str, Any] = {"score": np.random.default_rng(1).normal(size=len(rows))}
    for number, (choice, names) in enumerate(zip(plan.choices, plan.candidates, strict=True)):
        chosen = pa.array(names).take(pa.array(rows[:, number]))
        columns[choice] = (rows[:, number], chosen, chosen.dictionary_encode())[number % 3]
    columns["note"] = [f"row {number}" for number in range(len(rows))]
    return pa.table(columns)


def limit_of(plan: CostPlan) -> float:
    return sum(plan.bounds()) / 2


@pytest.mark.parametrize("keep_uncertain", [False, True])
def test_equal_to_an_array(plan: CostPlan, tmp_path: Path, keep_uncertain: bool) -> None:
    rows = drawn(plan, N)
    table = table_of(plan, rows)
    folder = tmp_path / "candidates"
    folder.mkdir()
    for name, start, stop in (("a", 0, 2500), ("b", 2500, 2500), ("c", 2500, N)):
        pq.write_table(table.slice(start, stop - start), folder / f"{name}.parquet", row_group_size=240)
    other = random_plan(np.random.default_rng(5), (3, 2, 4, 5, 9), 3)
    arguments: dict[str, Any] = {"max_ms": limit_of(plan), "budgets": [Budget(other, min_cost=limit_of(other) * 0.9)]}
    of_array = filter_by_budget(rows, plan, **arguments)
    progress: list[tuple[int, int]] = []
    output = tmp_path / "within.parquet"
    filtered = filter_by_budget(
        folder, plan, **arguments, output=output, keep_uncertain=keep_uncertain,
        on_progress=lambda *args: progress.append(args),
    )  # fmt: skip
    assert str(filtered) == str(of_array)
    assert filtered.output == output
    assert filtered.outcomes is None
    assert len(filtered.passed) == len(filtered.uncertain) == 0
    assert of_array.outcomes is not None
    kept = np.flatnonzero(of_array.outcomes >= (1 if keep_uncertain else 2))
    written = pq.read_table(output)
    expected = table.take(kept)
    if keep_uncertain:
        names = np.array(["failed", "uncertain", "passed"])[of_array.outcomes[kept]]
        assert written.column("outcome").to_pylist() == names.tolist()
        written = written.drop_columns("outcome")
    assert written.to_pylist() == expected.to_pylist()
    assert written.schema.equals(table.schema)
    assert progress[-1] == (N, N)
    assert len(progress) == sum(len(parts_of(file)) for file in folder.iterdir())
    assert sorted(item.name for item in tmp_path.iterdir()) == ["candidates", "within.parquet"]
    assert str(filter_by_budget(folder, plan, **arguments)) == str(of_array)


def test_parts_are_whole_row_groups(plan: CostPlan, tmp_path: Path) -> None:
    pq.write_table(table_of(plan, drawn(plan, 1300)), tmp_path / "a.parquet", row_group_size=240)
    parts = parts_of(tmp_path / "a.parquet")
    assert [part.row_groups for part in parts] == [(0, 1, 2), (3, 4, 5)]
    assert [part.n_rows for part in parts] == [720, 580]


def test_nothing_passes(plan: CostPlan, tmp_path: Path) -> None:
    table = table_of(plan, drawn(plan, 1000))
    pq.write_table(table, tmp_path / "a.parquet")
    filtered = filter_by_budget(tmp_path / "a.parquet", plan, max_ms=1e-3, output=tmp_path / "b.parquet")
    assert (filtered.n_passed, filtered.n_failed, filtered.n_uncertain) == (0, 1000, 0)
    assert pq.read_table(tmp_path / "b.parquet").num_rows == 0
    assert pq.read_schema(tmp_path / "b.parquet").equals(table.schema)


CHILD = """
import sys, time
from latency_nas import CostPlan
from latency_nas.search.select import filter_file
from latency_nas.search.select.filter import filter_by_budget
filter_file._PART_ROWS, filter_file._BATCH_ROWS, filter_file._GROUP_ROWS = 500, 200, 300
plan, source, output, limit = sys.argv[1:]
print("begins", flush=True)
filter_by_budget(source, CostPlan.load(plan), max_ms=float(limit), output=output, keep_uncertain=True, threads=2,
                 on_progress=lambda *_: time.sleep(0.05))
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_killed_and_resumed(plan: CostPlan, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    source, output, whole = (tmp_path / f"{name}.parquet" for name in ("candidates", "within", "whole"))
    pq.write_table(table_of(plan, drawn(plan, 5 * N)), source, row_group_size=250)
    plan.save(tmp_path / "plan.npz")
    plan = CostPlan.load(tmp_path / "plan.npz")
    command = [sys.executable, "-c", CHILD, tmp_path / "plan.npz", source, output, str(limit_of(plan))]
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE) as child:  # noqa: S603
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(random.Random(seed).uniform(0.05, 1.0))
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert not output.exists()
    done = len(list((tmp_path / "within.parquet.parts").glob("*.json"))) - 1  # without the settings
    filtered_anew: list[Path] = []
    batches = filter_file._batches

    def watched(part: filter_file.FilePart, *args: Any, **options: Any) -> Any:
        filtered_anew.append(part.file)
        return batches(part, *args, **options)

    monkeypatch.setattr(filter_file, "_batches", watched)
    resumed = filter_by_budget(source, plan, max_ms=limit_of(plan), output=output, keep_uncertain=True)
    assert len(filtered_anew) == len(parts_of(source)) - max(done, 0)
    at_once = filter_by_budget(source, plan, max_ms=limit_of(plan), output=whole, keep_uncertain=True)
    assert str(resumed) == str(at_once)
    assert output.read_bytes() == whole.read_bytes()
    assert not (tmp_path / "within.parquet.parts").exists()


def interrupted(plan: CostPlan, tmp_path: Path) -> dict[str, Any]:
    """Arguments of a filter that was interrupted after its first part."""

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    pq.write_table(table_of(plan, drawn(plan, N)), tmp_path / "a.parquet", row_group_size=250)
    arguments: dict[str, Any] = {"max_ms": limit_of(plan), "output": tmp_path / "b.parquet"}
    with pytest.raises(KeyboardInterrupt):
        filter_by_budget(tmp_path / "a.parquet", plan, **arguments, threads=1, on_progress=interrupt)
    assert (tmp_path / "b.parquet.parts" / "000000.json").exists()
    return arguments


def test_other_arguments_do_not_resume(plan: CostPlan, tmp_path: Path) -> None:
    arguments = interrupted(plan, tmp_path)
    source = tmp_path / "a.parquet"

    def message(name: str, plan: CostPlan, **others: Any) -> str:
        with pytest.raises(SearchError) as caught:
            filter_by_budget(source, plan, **{**arguments, **others})
        return str(caught.value)

    folder = tmp_path / "b.parquet.parts"
    text = (
        f"Expected the arguments of the interrupted filter in {folder}, but its %s differ: delete this folder to begin "
        f"anew."
    )
    assert message("limit", plan, max_ms=1.0) == text % "budgets"
    assert message("confidence", plan, confidence=0.8) == text % "budgets"
    other = random_plan(np.random.default_rng(7), (3, 2, 4, 5, 9), 6, n_families=2)
    assert message("plan", other, keep_uncertain=True) == text % "budgets and keep_uncertain"
    stat = source.stat()
    os.utime(source, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert message("file", plan) == text % "files"
    os.utime(source, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert filter_by_budget(source, plan, **arguments).n == N


def test_files_that_do_not_fit(plan: CostPlan, tmp_path: Path) -> None:
    table = table_of(plan, drawn(plan, 10))
    pq.write_table(table, tmp_path / "a.parquet")
    pq.write_table(table.drop_columns("score"), tmp_path / "b.parquet")

    def message(source: Path, **options: Any) -> str:
        with pytest.raises(SearchError) as caught:
            filter_by_budget(source, plan, max_ms=1.0, **options)
        return str(caught.value).replace(str(tmp_path), "FOLDER")

    assert message(tmp_path) == (
        "Expected files of the same columns and types, but FOLDER/b.parquet differs from FOLDER/a.parquet."
    )
    pq.write_table(table.append_column("outcome", table.column("score")), tmp_path / "c.parquet")
    assert message(tmp_path / "c.parquet", output=tmp_path / "d.parquet", keep_uncertain=True) == (
        "Expected no column `outcome` in FOLDER/c.parquet where uncertain candidates are kept: rename it."
    )
    wrong = table.set_column(1, "c0", pa.array([0] * 9 + [3]))
    pq.write_table(wrong, tmp_path / "e.parquet")
    assert message(tmp_path / "e.parquet") == (
        "Expected indices from 0 to 2 in column `c0` of FOLDER/e.parquet, but got 3."
    )


def test_an_output_that_would_replace_an_input(plan: CostPlan, tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    file = tmp_path / "given" / "candidates.parquet"
    pq.write_table(table_of(plan, drawn(plan, 20)), file)
    before = file.read_bytes()
    for source, output in ((file, file), (file.parent, file.parent / "within.parquet"), (file, tmp_path)):
        with pytest.raises(SearchError, match="none of the candidates'"):
            filter_by_budget(source, plan, max_ms=limit_of(plan), output=output)
    assert file.read_bytes() == before


def test_settings_that_were_damaged(plan: CostPlan, tmp_path: Path) -> None:
    pq.write_table(table_of(plan, drawn(plan, 20)), tmp_path / "candidates.parquet")
    (tmp_path / "within.parquet.parts").mkdir()
    (tmp_path / "within.parquet.parts" / "settings.json").write_text("")
    with pytest.raises(SearchError, match="delete th"):
        filter_by_budget(
            tmp_path / "candidates.parquet", plan, max_ms=limit_of(plan), output=tmp_path / "within.parquet"
        )
