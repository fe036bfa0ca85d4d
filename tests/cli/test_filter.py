"""``latency-nas sample`` and ``latency-nas filter``: what is written, the counts, and errors of one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from latency_nas import CostPlan
from latency_nas.cli import filter as command
from latency_nas.cli.main import app
from latency_nas.kernel import QUANTITIES
from latency_nas.search.select.budget import Budget
from latency_nas.search.select.candidates_file import read_candidates
from latency_nas.search.select.filter import filter_by_budget
from latency_nas.search.select.sampling import sample_architectures
from tests.cli.test_main import run_main
from tests.random_plans import random_plan

SIZES = (3, 2, 4, 5)


@pytest.fixture
def plan(tmp_path: Path) -> CostPlan:
    plan = random_plan(np.random.default_rng(0), SIZES, 4, n_families=2)
    plan.save(tmp_path / "plan.npz")
    return plan


@pytest.fixture
def params(tmp_path: Path) -> CostPlan:
    params = replace(random_plan(np.random.default_rng(1), SIZES), quantity=QUANTITIES["parameters"])
    params.save(tmp_path / "params.npz")
    return params


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_sampled_and_filtered(
    plan: CostPlan, params: CostPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_GROUP_ROWS", 400)
    file, output = tmp_path / "candidates.parquet", tmp_path / "within.parquet"
    said = run("sample", "--plan", tmp_path / "plan.npz", "-n", 1000, "-o", file, "--seed", 3)
    assert said == f"{file}: 1,000 architectures\n"
    metadata = pq.read_metadata(file)
    assert [metadata.row_group(number).num_rows for number in range(3)] == [400, 400, 200]
    rows = read_candidates(file, plan)
    assert (rows[:400] == sample_architectures(plan, 400, seed=3)).all()
    assert (rows[400:800] != rows[:400]).any()

    limit, most = (sum(one.bounds()) / 2 for one in (plan, params))
    said = run(
        "filter", file, "--plan", tmp_path / "plan.npz", "--max-ms", limit, "--min-cost", 0.5 * limit,
        "--budget", f"{tmp_path / 'params.npz'}:max={most},confidence=0.75", "-o", output, "--confidence", "0.8",
    )  # fmt: skip
    budgets = [Budget(plan, min_cost=0.5 * limit), Budget(params, max_cost=most, confidence=0.75)]
    expected = filter_by_budget(rows, plan, max_ms=limit, budgets=budgets, confidence=0.8)
    assert 0 < expected.n_passed < 1000
    assert expected.n_uncertain > 0
    assert said == f"{expected}\n{output}: {expected.n_passed:,} rows\n"
    assert (read_candidates(output, plan) == rows[expected.passed]).all()

    said = run(
        "filter", file, "--plan", tmp_path / "plan.npz", "--max-ms", limit, "-o", output, "--keep-uncertain",
        "--threads", 1,
    )  # fmt: skip
    expected = filter_by_budget(rows, plan, max_ms=limit)
    assert said == f"{expected}\n{output}: {expected.n_passed + expected.n_uncertain:,} rows\n"

    said = run("filter", file, "--plan", tmp_path / "plan.npz", "--max-ms", limit, "--confidence", "none")
    assert said == f"{filter_by_budget(rows, plan, max_ms=limit, confidence=None)}\n"


@pytest.mark.slow
def test_errors_are_one_message(plan: CostPlan, tmp_path: Path) -> None:
    file = tmp_path / "candidates.parquet"
    pq.write_table(pa.table({name: [0, 9] for name in plan.choices}), file)
    own = ("filter", str(file), "--plan", str(tmp_path / "plan.npz"))
    for arguments, message in {
        (*own, "--max-ms", "3"): f"SearchError: Expected indices from 0 to 2 in column `c0` of {file}, but got 9.",
        own: "SearchError: Expected `max_ms`, `min_ms` or `budgets`, but got no limit.",
        (*own, "--max-ms", "3", "--confidence", "high"): (
            "SearchError: Expected numbers in --confidence, but got 'high'."
        ),
        (*own, "--budget", "other.npz:3e6"): (
            "SearchError: Expected --budget to be PLAN:max=X, PLAN:min=X or both, such as "
            "params.npz:max=3e6,confidence=0.9, but got 'other.npz:3e6'."
        ),
        (*own, "--budget", "other.npz:max=few"): (
            "SearchError: Expected numbers in --budget other.npz:max=few, but got 'few'."
        ),
        ("sample", "--plan", str(tmp_path / "no.npz"), "-o", "a"): (
            f"FileNotFoundError: [Errno 2] No such file or directory: '{tmp_path / 'no.npz'}'"
        ),
    }.items():
        result = run_main(*arguments)
        assert result.returncode == 1
        lines = [line for line in result.stderr.splitlines() if not line.lstrip().startswith(("filtering", "drawing"))]
        assert lines == [f"error: {message}"]
