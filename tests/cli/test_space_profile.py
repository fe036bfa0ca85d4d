"""``latency-nas space profile``, and budgets on the command line."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import inf
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from latency_nas.cli.main import app
from latency_nas.cli.options import parse_budget
from latency_nas.errors import QuantityError, SearchError
from latency_nas.kernel import QUANTITIES
from latency_nas.report.figure import distribution_figure
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.budget import Budget
from latency_nas.search.select.candidates_file import read_candidates
from latency_nas.search.select.space_profile import profile_space
from latency_nas.search.select.stratified import stratified_architectures
from tests.random_plans import random_plan


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    plans = {
        "latency": random_plan(np.random.default_rng(0), (3, 4, 5, 2), n_terms=3),
        "energy": replace(random_plan(np.random.default_rng(1), (3, 4, 5, 2)), quantity=QUANTITIES["energy"]),
    }
    for name, plan in plans.items():
        plan.save(tmp_path / f"{name}.npz")
    return {name: tmp_path / f"{name}.npz" for name in plans}


def test_the_command_prints_the_profile(files: dict[str, Path]) -> None:
    latency, energy = (parse_budget(f"{file}:max=7.5,min=3") for file in files.values())
    arguments = ["space", "profile", str(files["latency"]), "--max-ms", "7.5", "--min-ms", "3"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.output == f"{profile_space(latency.plan, [latency])}\n"
    arguments += ["--budget", f"{files['energy']}:max=7.5,min=3", "--seed", "5"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.output == f"{profile_space(latency.plan, [latency, energy], seed=5)}\n"
    sure = [replace(budget, confidence=0.9) for budget in (latency, energy)]
    result = CliRunner().invoke(app, [*arguments, "--confidence", "0.9"], catch_exceptions=False)
    assert result.output == f"{profile_space(latency.plan, sure, seed=5)}\n"


def test_the_figure_shows_the_limits(files: dict[str, Path], tmp_path: Path) -> None:
    target = tmp_path / "figures" / "space.svg"
    arguments = ["space", "profile", str(files["latency"]), "--max-ms", "7.5", "--figure", str(target)]
    CliRunner().invoke(app, arguments, catch_exceptions=False)
    budget = parse_budget(f"{files['latency']}:max=7.5")
    (distribution,) = profile_space(budget.plan).distributions
    assert target.read_text() == distribution_figure(distribution, [7.5])


def test_a_sample_by_intervals_of_the_cost(files: dict[str, Path], tmp_path: Path) -> None:
    target, plan = tmp_path / "candidates.parquet", CostPlan.load(files["latency"])
    arguments = ["sample", "--plan", str(files["latency"]), "-o", str(target), "-n", "40", "--bins", "4", "--seed", "2"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    expected = stratified_architectures(plan, 10, bins=4, seed=2)
    np.testing.assert_array_equal(read_candidates(target, plan), expected.rows)
    lines = result.output.splitlines()
    assert lines[0] == f"{target}: 40 architectures, drawn by backward sampling"
    edges = [f"{edge:.4g}" for edge in expected.edges]
    assert lines[1:] == [f"{low} to {high} ms: 10" for low, high in pairwise(edges)]


def test_milliseconds_are_for_latencies(files: dict[str, Path]) -> None:
    with pytest.raises(QuantityError) as caught:
        CliRunner().invoke(app, ["space", "profile", str(files["energy"]), "--max-ms", "7"], catch_exceptions=False)
    assert str(caught.value) == (
        "Expected a latency where `--max-ms` is used, but got energy in mJ: use "
        f"`--budget {files['energy']}:max=NUMBER`."
    )


def test_budgets_from_text(files: dict[str, Path]) -> None:
    file = files["energy"]
    budget = parse_budget(f"{file}:max=3e6")
    assert (budget.max_cost, budget.min_cost, budget.confidence) == (3e6, -inf, None)
    assert budget.plan.quantity.unit == "mJ"
    assert parse_budget(f"{file}:min=2,max=3,confidence=0.8") == Budget(
        budget.plan, max_cost=3, min_cost=2, confidence=0.8
    )
    for text in (f"{file}", f"{file}:max", f"{file}:most=3", ":max=3", ""):
        with pytest.raises(SearchError) as caught:
            parse_budget(text)
        assert str(caught.value) == (
            "Expected --budget to be PLAN:max=X, PLAN:min=X or both, such as params.npz:max=3e6,confidence=0.9, but "
            f"got {text!r}."
        )
    with pytest.raises(SearchError) as caught:
        parse_budget(f"{file}:max=a")
    assert str(caught.value) == f"Expected numbers in --budget {file}:max=a, but got 'a'."
