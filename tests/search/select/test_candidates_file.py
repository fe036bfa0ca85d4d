"""Candidates files: indices and names, other columns, and what is said of a file that is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from latency_nas.errors import SearchError
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.candidates_file import read_candidates, write_candidates
from tests.random_plans import drawn, random_plan


@pytest.fixture
def plan() -> CostPlan:
    return random_plan(np.random.default_rng(0), (3, 2, 4))


def names_of(plan: CostPlan, rows: np.ndarray) -> dict[str, list[str]]:
    return {
        choice: [names[index] for index in column]
        for choice, names, column in zip(plan.choices, plan.candidates, rows.T.tolist(), strict=True)
    }


def test_written_and_read(plan: CostPlan, tmp_path: Path) -> None:
    rows = drawn(plan, 1000)
    write_candidates(tmp_path / "new" / "candidates.parquet", plan, rows.astype(np.int64))
    assert pq.read_schema(tmp_path / "new" / "candidates.parquet").types == [pa.uint8()] * 3
    read = read_candidates(tmp_path / "new" / "candidates.parquet", plan)
    assert read.dtype == np.uint8
    assert (read == rows).all()
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["candidates.parquet"]


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint16(), pa.string(), pa.large_string(), "dictionary", "mixed"])
def test_indices_and_names_of_any_type(plan: CostPlan, tmp_path: Path, kind: Any) -> None:
    rows = drawn(plan, 500)
    columns = {}
    for number, (choice, names) in enumerate(names_of(plan, rows).items()):
        own = (pa.int8(), pa.string(), "dictionary")[number] if kind == "mixed" else kind
        if own == "dictionary":
            columns[choice] = pa.array(names).dictionary_encode()
        elif pa.types.is_integer(own):
            columns[choice] = pa.array(rows[:, number], own)
        else:
            columns[choice] = pa.array(names, own)
    pq.write_table(pa.table({"score": np.arange(500.0), **dict(reversed(columns.items()))}), tmp_path / "a.parquet")
    assert (read_candidates(tmp_path / "a.parquet", plan) == rows).all()


def test_a_folder_is_read_in_the_order_of_names(plan: CostPlan, tmp_path: Path) -> None:
    rows = drawn(plan, 90)
    for name, part in (("b", rows[30:60]), ("a", rows[:30]), ("c", rows[60:])):
        write_candidates(tmp_path / f"{name}.parquet", plan, part)
    (tmp_path / "notes.txt").write_text("no candidates")
    assert (read_candidates(tmp_path, plan) == rows).all()


def message(path: Path, plan: CostPlan) -> str:
    with pytest.raises(SearchError) as caught:
        read_candidates(path, plan)
    return str(caught.value).replace(str(path), "FILE")


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (None, "Expected one column for each choice in FILE, but `c1` have none or several."),
        (
            [0.0, 1.0],
            "Expected indices (integers) or names of candidates (strings) in column `c1` of FILE, but got double.",
        ),
        ([0, 2], "Expected indices from 0 to 1 in column `c1` of FILE, but got 2."),
        ([-1, 0], "Expected indices from 0 to 1 in column `c1` of FILE, but got -1."),
        ([0, 257], "Expected indices from 0 to 1 in column `c1` of FILE, but got 257."),
        ([0, None], "Expected a candidate in each row of column `c1` of FILE, but a value is missing."),
        (["c1.0", "c1.9"], "Expected names of the candidates c1.0, c1.1 in column `c1` of FILE, but got 'c1.9'."),
        (["0", "1"], "Expected names of the candidates c1.0, c1.1 in column `c1` of FILE, but got '0'."),
    ],
)  # fmt: skip
def test_columns_that_cannot_be_used(plan: CostPlan, tmp_path: Path, column: Any, text: str) -> None:
    columns = {"c0": [0, 1], "c1": column, "c2": [0, 1]}
    pq.write_table(pa.table({name: value for name, value in columns.items() if value}), tmp_path / "a.parquet")
    assert message(tmp_path / "a.parquet", plan) == text


def test_files_that_are_none(plan: CostPlan, tmp_path: Path) -> None:
    assert message(tmp_path, plan) == "Expected a folder with Parquet files, but FILE has no file *.parquet."
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    assert message(tmp_path / "a.parquet", plan).startswith(
        "Expected FILE to be a Parquet file, but reading it fails: "
    )
    with pytest.raises(FileNotFoundError):
        read_candidates(tmp_path / "b.parquet", plan)
    with pytest.raises(SearchError, match="Expected candidates of `c1` from 0 to 1, but got 0 to 9"):
        write_candidates(tmp_path / "c.parquet", plan, [[0, 0, 0], [0, 9, 0]])
    assert not (tmp_path / "c.parquet").exists()
