"""Terms over groups of candidates, against the same terms written out candidate by candidate."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from latency_nas.errors import SearchError
from latency_nas.search.plan.cost import Cost, Term
from latency_nas.search.plan.gates import PackedPlan
from latency_nas.search.plan.many import costs_of, stds_of
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.reach import least, most
from latency_nas.search.select.row_sums import RowSums
from latency_nas.search.select.sum_tables import SumTables
from tests.random_plans import drawn, random_plan

SIZES = (3, 4, 2, 5)


@pytest.fixture(params=range(4))
def plans(request: pytest.FixtureRequest) -> tuple[CostPlan, CostPlan]:
    """A plan, and the same one without groups."""
    plan = random_plan(np.random.default_rng(request.param), SIZES, 12, n_families=2)
    assert any(len(group) > 1 for term in plan.terms for group in term.groups)
    terms = [Term(candidates=cell, cost=term.cost) for term in plan.terms for cell in product(*term.groups)]
    return plan, replace(plan, terms=tuple(terms))


def test_costs_and_deviations_of_architectures(plans: tuple[CostPlan, CostPlan]) -> None:
    plan, written_out = plans
    rows = drawn(plan, 50)
    assert costs_of(plan, rows) == pytest.approx(costs_of(written_out, rows), rel=1e-12)
    assert stds_of(plan, rows) == pytest.approx(stds_of(written_out, rows), rel=1e-12)
    assert plan.bounds() == pytest.approx(written_out.bounds(), rel=1e-12)
    assert (least(plan), most(plan)) == pytest.approx(plan.bounds(), rel=1e-9)
    sums = np.concatenate([[plan.fixed.value], plan.flat_costs, plan.term_costs])[None]
    ((_, found),) = RowSums.exact(plan, SumTables.of(plan, sums)).blocks(rows)
    assert found[0] == pytest.approx(costs_of(plan, rows), rel=1e-12)


def test_expectations_and_gradients_of_gates(plans: tuple[CostPlan, CostPlan]) -> None:
    plan, written_out = plans
    gates = np.random.default_rng(0).random(plan.n_gates)
    assert plan.expected(gates) == pytest.approx(written_out.expected(gates), rel=1e-12)
    assert plan.gradient(gates) == pytest.approx(written_out.gradient(gates), rel=1e-12)
    weights = torch.tensor(gates, requires_grad=True)
    expected = PackedPlan(plan, [False] * len(SIZES)).expected_of(weights)
    expected.backward()  # type: ignore[no-untyped-call]
    assert expected.item() == pytest.approx(plan.expected(gates), rel=1e-12)
    assert weights.grad is not None
    assert weights.grad.numpy() == pytest.approx(plan.gradient(gates), rel=1e-12)


def test_a_group_is_of_one_choice() -> None:
    plan = random_plan(np.random.default_rng(0), SIZES)
    with pytest.raises(SearchError, match="one choice"):
        replace(plan, terms=(Term(candidates=((2, 3), 8), cost=Cost(value=1.0)),))


def test_terms_of_too_many_choices_have_no_table_but_bounds() -> None:
    sizes = (9,) * 8
    plan = random_plan(np.random.default_rng(0), sizes)
    groups = tuple((9 * choice, 9 * choice + 1) for choice in range(len(sizes)))
    plan = replace(plan, terms=(Term(candidates=groups, cost=Cost(value=50.0)),))
    with pytest.raises(SearchError, match="8 of them depend on each other"):
        plan.bounds()
    own = [[cost.value for cost in costs] for costs in plan.costs]
    dearest = plan.fixed.value + 50 + sum(max(costs[:2]) for costs in own)
    assert most(plan) == pytest.approx(dearest, rel=1e-9)
