"""Stratified samples: every interval is reached, and architectures within one are equally likely."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chisquare

from latency_nas.errors import SearchError
from latency_nas.search.plan.cost import Cost
from latency_nas.search.plan.many import costs_of
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select import stratified
from latency_nas.search.select.backward import BackwardSampler
from latency_nas.search.select.sampling import sample_architectures
from latency_nas.search.select.stratified import StratifiedSample, stratified_architectures
from tests.random_plans import random_plan
from tests.search.select.test_distribution import additive, with_tree

SIZES = (4, 3, 5, 2, 3)


def check_intervals(plan: CostPlan, sample: StratifiedSample, n: int) -> None:
    intervals = len(sample.edges) - 1
    assert sample.counts == (n,) * intervals
    assert sample.rows.shape == (n * intervals, len(plan.choices))
    np.testing.assert_array_equal(sample.costs, costs_of(plan, sample.rows))
    parts = sample.costs.reshape(intervals, n)
    assert (parts >= np.array(sample.edges)[:-1, None] - 1e-9).all()
    assert (parts[:-1] < np.array(sample.edges)[1:-1, None]).all()
    assert parts[-1].max() <= sample.edges[-1] + 1e-9


def counts_by_architecture(plan: CostPlan, sample: StratifiedSample, interval: int) -> tuple[NDArray[np.intp], int]:
    """How often each architecture of an interval was drawn, and how many were drawn that are not in it."""
    sizes = [len(names) for names in plan.candidates]
    rows = np.indices(sizes).reshape(len(sizes), -1).T
    costs = costs_of(plan, rows)
    inside = (costs >= sample.edges[interval]) & (costs < sample.edges[interval + 1])
    begin = sum(sample.counts[:interval])
    drawn = sample.rows[begin : begin + sample.counts[interval]].astype(int)
    counts = np.bincount(np.ravel_multi_index(tuple(drawn.T), sizes), minlength=len(rows))
    return counts[inside], int(counts[~inside].sum())


@pytest.mark.parametrize("terms", [{}, {"neighbours": True}, {"n_terms": 6}])
def test_every_interval_of_a_large_space_is_filled(terms: dict[str, int]) -> None:
    plan = random_plan(np.random.default_rng(1), (9,) * 22, **terms)  # type: ignore[arg-type]
    sample = stratified_architectures(plan, 50, bins=12, seed=0)
    assert sample.method == "backward"
    assert sample.rows.dtype == np.uint8
    check_intervals(plan, sample, 50)
    uniform = costs_of(plan, sample_architectures(plan, 5000, seed=0))
    assert uniform.min() > sample.edges[2]  # as rare as one in ten million: a uniform sample does not meet them
    again = stratified_architectures(plan, 50, bins=12, seed=0)
    np.testing.assert_array_equal(sample.rows, again.rows)
    assert not np.array_equal(sample.rows, stratified_architectures(plan, 50, bins=12, seed=1).rows)


@pytest.mark.parametrize(
    "plan",
    [
        random_plan(np.random.default_rng(2), SIZES),
        random_plan(np.random.default_rng(3), SIZES, neighbours=True),
        random_plan(np.random.default_rng(4), SIZES, n_terms=7),
        with_tree(np.random.default_rng(5)),
    ],
    ids=["additive", "neighbours", "terms of three", "a tree"],
)
@pytest.mark.parametrize("method", ["backward", "rejection"])
def test_architectures_of_an_interval_are_equally_likely(
    plan: CostPlan, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if method == "rejection":
        monkeypatch.setattr(BackwardSampler, "of", lambda plan, interval: None)
    cheapest, dearest = plan.bounds()
    edges = [cheapest + share * (dearest - cheapest) for share in (0.2, 0.3, 0.45, 0.6, 0.7)]
    sample = stratified_architectures(plan, 8000, bins=edges, seed=6)
    assert sample.method == method
    check_intervals(plan, sample, 8000)
    for interval in range(4):
        counts, n_outside = counts_by_architecture(plan, sample, interval)
        assert n_outside == 0
        assert chisquare(counts).pvalue > 1e-4


def test_counts_with_large_point_masses() -> None:
    plan = additive([[0.0, 1.0, 1.0, 2.0]] * 5, fixed=10.0)
    sample = stratified_architectures(plan, 3000, bins=[10, 11, 12, 14, 20], seed=0)
    check_intervals(plan, sample, 3000)
    assert (sample.rows[:3000] == 0).all()
    counts, n_outside = counts_by_architecture(plan, sample, 1)
    assert (len(counts), n_outside) == (10, 0)
    assert chisquare(counts).pvalue > 1e-4


def test_an_interval_without_architectures_stays_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = additive([[0.0, 100.0 * 2**0.5]] * 3)
    sample = stratified_architectures(plan, 4, bins=[-1, 1, 50, 100, 150], seed=0)
    assert (sample.counts, len(sample.rows)) == ((4, 0, 0, 4), 8)
    monkeypatch.setattr(BackwardSampler, "of", lambda plan, interval: None)
    monkeypatch.setattr(stratified, "_MAX_IDLE", 2)
    sample = stratified_architectures(plan, 4, bins=[-1, 1, 50, 100, 150], seed=0)
    assert (sample.counts, sample.method) == ((4, 0, 0, 4), "rejection")


def test_wide_graphs_are_drawn_by_rejection() -> None:
    rng = np.random.default_rng(7)
    plan = random_plan(rng, (6,) * 14, n_terms=200)
    sample = stratified_architectures(plan, 20, bins=[14.0, 16.0, 18.0], seed=0)
    assert sample.method == "rejection"
    check_intervals(plan, sample, 20)


def test_refusals() -> None:
    plan = additive([[1.0, 1.0], [2.0, 2.0]])
    cases = {
        "Expected the number of architectures to be 0 or more, but got -1.": (-1, 10),
        "Expected one interval or more, but got 0.": (1, 0),
        "Expected edges of one interval or more that rise, but got [3.0, 3.0]: all architectures cost the same.": (
            1,
            1,
        ),
        "Expected edges of one interval or more that rise, but got [1.0, 3.0, 2.0].": (1, [1, 3, 2]),
        "Expected edges of one interval or more that rise, but got [1.0].": (1, [1]),
    }
    for message, (n, bins) in cases.items():
        with pytest.raises(SearchError) as caught:
            stratified_architectures(plan, n, bins=bins, seed=0)  # type: ignore[arg-type]
        assert str(caught.value) == message
    single = CostPlan(
        choices=("a",), candidates=(("x",) * 300,), costs=((Cost(value=1.0),) * 300,), fixed=Cost(value=0)
    )
    assert sample_architectures(single, 5, seed=0).dtype == np.uint16
