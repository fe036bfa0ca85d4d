"""Plans as text and as files, and the gates that they accept."""

from __future__ import annotations

import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from latency_nas.errors import QuantityError, SearchError
from latency_nas.kernel import LATENCY, QUANTITIES
from latency_nas.search.plan.cost import Cost, Term
from latency_nas.search.plan.plan import CostPlan

GOLDEN = Path(__file__).parents[2] / "golden" / "plans"
PARAMS = QUANTITIES["parameters"]
COSTS = (
    (Cost(value=1.0, from_table=1.0, source="table"), Cost(value=2.0, variance=0.04, source="regressed")),
    (Cost(value=0.0), Cost(value=0.5, from_table=0.5, variance=None, source="table")),
)
PLAN = CostPlan(
    choices=("a", "b"),
    candidates=(("conv", "wide"), ("skip", "relu")),
    costs=COSTS,
    fixed=Cost(value=8.0, from_table=8.0, source="table"),
    terms=(Term(candidates=(1, 3), cost=Cost(value=-0.25, from_table=-0.25, source="table")),),
    expected_error=0.01,
)


def test_the_text_of_a_plan_has_a_line_for_each_candidate() -> None:
    """The ± of a cost from the table is the table's expected error of 1 %, as a standard deviation."""
    assert PLAN.table().splitlines() == [
        "choice  candidate             ms        ±  source",
        "        (fixed)           8.0000   0.1003  table",
        "a       conv              1.0000   0.0125  table",
        "a       wide              2.0000   0.2000  regressed",
        "b       skip              0.0000   0.0000  none",
        "b       relu              0.5000  unknown  table",
        "        a=wide & b=relu  -0.2500   0.0031  table",
    ]


def test_a_saved_plan_is_the_same(tmp_path: Path) -> None:
    PLAN.save(tmp_path / "plan.npz")
    loaded = CostPlan.load(tmp_path / "plan.npz")
    assert loaded == PLAN
    assert loaded.latency_ms({"a": "wide", "b": "relu"}) == 8.0 + 2.0 + 0.5 - 0.25
    with np.load(tmp_path / "plan.npz", allow_pickle=False) as arrays:  # readable without this library
        np.testing.assert_array_equal(arrays["costs_ms"], [1.0, 2.0, 0.0, 0.5])
        np.testing.assert_array_equal(arrays["offsets"], [0, 2, 4])


def test_files_from_before_plans_had_a_quantity_are_in_milliseconds() -> None:
    assert CostPlan.load(GOLDEN / "milliseconds.npz") == PLAN
    bare = CostPlan.load(GOLDEN / "bare_milliseconds.npz")
    assert bare.quantity == LATENCY
    assert (bare.costs_ms, bare.fixed_ms) == (((1.0, 2.5),), 0.5)
    assert bare.std_ms({"a": 0}) is None


def test_a_saved_plan_keeps_its_quantity(tmp_path: Path) -> None:
    plan = replace(PLAN, quantity=PARAMS)
    plan.save(tmp_path / "plan.npz")
    assert CostPlan.load(tmp_path / "plan.npz") == plan != PLAN
    with np.load(tmp_path / "plan.npz", allow_pickle=False) as arrays:
        assert sorted(arrays) == ["costs_params", "group_gates", "offsets", "plan", "term_costs_params", "term_gates"]


def test_a_plan_of_a_count_has_no_milliseconds() -> None:
    plan, architecture = replace(PLAN, quantity=PARAMS), {"a": "wide", "b": "relu"}
    gates = plan.one_hot(architecture)
    uses = {
        "costs_ms": ("costs", lambda: plan.costs_ms),
        "fixed_ms": ("fixed", lambda: plan.fixed_ms),
        "expected_ms": ("expected", lambda: plan.expected_ms(gates)),
        "gradient_ms": ("gradient", lambda: plan.gradient_ms(gates)),
        "latency_ms": ("cost", lambda: plan.latency_ms(architecture)),
        "std_ms": ("std", lambda: plan.std_ms(architecture)),
        "bounds_ms": ("bounds", lambda: plan.bounds_ms()),
    }
    for name, (instead, use) in uses.items():
        with pytest.raises(QuantityError) as caught:
            use()
        assert str(caught.value) == (
            f"Expected a latency where `{name}` is used, but got parameters in params: use `{instead}`."
        )
    assert plan.cost(architecture) == plan.expected(gates) == PLAN.latency_ms(architecture)
    assert plan.bounds() == PLAN.bounds_ms()
    np.testing.assert_array_equal(plan.gradient(gates), PLAN.gradient_ms(gates))
    assert plan.table().splitlines()[:3] == [
        "choice  candidate        params        ±  source",
        "        (fixed)               8        0  table",
        "a       conv                  1        0  table",
    ]


@pytest.mark.parametrize("kept", [0, 10, 200, -30])
def test_a_damaged_file_is_no_plan(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "plan.npz"
    PLAN.save(path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(SearchError) as caught:
        CostPlan.load(path)
    assert re.fullmatch(
        re.escape(f"Expected {path} to be a plan that CostPlan.save wrote, but reading it fails: ") + ".+",
        str(caught.value),
    )


def test_a_plan_whose_numbers_were_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.npz"
    np.savez(path, plan=np.frombuffer(b'{"choices": ["a"]}', np.uint8))
    with pytest.raises(SearchError) as caught:
        CostPlan.load(path)
    assert str(caught.value) == (
        f"Expected {path} to be a plan that CostPlan.save wrote, but reading it fails: 'terms'"
    )


def test_no_pickle_is_executed(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "executed",)

    path = tmp_path / "plan.npz"
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(SearchError):
        CostPlan.load(path)
    assert not (tmp_path / "executed").exists()


def test_a_missing_file_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        CostPlan.load(tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("gates", "message"),
    [
        (
            [1.0, 0.0, 1.0],
            "Expected a flat vector of 4 gates, one for each candidate of the 2 choices, but got the shape (3,).",
        ),
        (
            [[1.0, 0.0], [1.0, 0.0]],
            "Expected a flat vector of 4 gates, one for each candidate of the 2 choices, but got the shape (2, 2).",
        ),
        ([1.0, 0.0, np.nan, 1.0], "Expected finite gates, but those of `b` are NaN or infinite."),
        ([np.inf, 0.0, np.nan, 1.0], "Expected finite gates, but those of `a`, `b` are NaN or infinite."),
    ],
)
def test_invalid_gates_are_refused(gates: list[float], message: str) -> None:
    for call in (PLAN.expected_ms, PLAN.gradient_ms):
        with pytest.raises(SearchError) as caught:
            call(gates)
        assert str(caught.value) == message


def test_the_gradient_is_that_of_the_expectation() -> None:
    gates, step = np.array([0.3, 0.7, 0.6, 0.4]), 1e-6
    slopes = [
        (PLAN.expected_ms(gates + step * unit) - PLAN.expected_ms(gates - step * unit)) / (2 * step)
        for unit in np.eye(4)
    ]
    assert PLAN.gradient_ms(gates) == pytest.approx(slopes, abs=1e-8)
