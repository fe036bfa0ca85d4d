"""The distribution of a plan's cost against all architectures of small spaces and against samples of large ones."""

from __future__ import annotations

from dataclasses import replace
from math import inf, prod
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from latency_nas.errors import SearchError
from latency_nas.kernel import QUANTITIES
from latency_nas.search.plan.cost import Cost, Term
from latency_nas.search.plan.many import costs_of
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select import space_distribution
from latency_nas.search.select.distribution import Distribution
from latency_nas.search.select.space_distribution import distribution_of
from tests.random_plans import drawn, random_plan


def all_costs(plan: CostPlan) -> NDArray[np.float64]:
    """The cost of every architecture, rising: candidates and terms are added to their part of an array of all."""
    sizes = [len(names) for names in plan.candidates]
    cube = np.full(sizes, plan.fixed.value)

    def add(groups: tuple[tuple[int, ...], ...], cost: float) -> None:
        part: list[Any] = [range(size) for size in sizes]
        for group in groups:
            choice = int(np.searchsorted(plan.offsets, group[0], side="right")) - 1
            part[choice] = [gate - plan.offsets[choice] for gate in group]
        cube[np.ix_(*part)] += cost

    for gate, cost in enumerate(plan.flat_costs):
        add(((gate,),), cost)
    for term in plan.terms:
        add(term.groups, term.cost.value)
    return np.sort(cube.ravel())


def additive(costs: list[list[float]], *, fixed: float = 0.0) -> CostPlan:
    return CostPlan(
        choices=tuple(f"c{number}" for number in range(len(costs))),
        candidates=tuple(tuple(map(str, range(len(row)))) for row in costs),
        costs=tuple(tuple(Cost(value=value) for value in row) for row in costs),
        fixed=Cost(value=fixed),
    )


def with_tree(rng: np.random.Generator) -> CostPlan:
    """Three chains of two choices, which meet in the first choice."""
    plan = random_plan(rng, (3,) * 7)
    pairs = [(0, 1), (1, 2), (0, 3), (3, 4), (0, 5), (5, 6)]
    terms = [
        Term(candidates=(3 * one + first, 3 * two + second), cost=Cost(value=float(rng.uniform(-0.5, 1))))
        for one, two in pairs
        for first in range(3)
        for second in range(3)
    ]
    return replace(plan, terms=tuple(terms))


def check(found: Distribution, expected: NDArray[np.float64], *, slack: float = 1e-9) -> None:
    """The distribution is that of the sorted costs, within its own bounds."""
    attained = expected[:: len(expected) // 50 + 1]
    points = np.concatenate([np.linspace(expected[0] - 0.1, expected[-1] + 0.1, 301), attained])
    for point in points:
        upto = np.searchsorted(expected, point, side="right") / len(expected)
        low, high = found.cdf_bounds(point)
        assert low - slack <= upto <= high + slack
        assert abs(found.cdf(point) - upto) <= found.cdf_error + slack
    assert found.quantile(0) == pytest.approx(expected[0])
    assert found.quantile(1) == pytest.approx(expected[-1])


PLANS = {
    "additive": lambda rng: random_plan(rng, (5, 4, 6, 3, 5)),
    "neighbours": lambda rng: random_plan(rng, (4, 5, 3, 4, 5), neighbours=True),
    "terms of three, some negative": lambda rng: random_plan(rng, (4, 5, 3, 4, 5), n_terms=9),
    "both": lambda rng: random_plan(rng, (3, 2, 4, 3, 2, 3), n_terms=4, neighbours=True),
    "a tree": with_tree,
    "one choice": lambda rng: random_plan(rng, (5,)),
}


@pytest.mark.parametrize("kind", PLANS)
@pytest.mark.parametrize("seed", range(3))
def test_small_spaces_are_exact(kind: str, seed: int) -> None:
    plan = PLANS[kind](np.random.default_rng(seed))
    expected = all_costs(plan)
    found = distribution_of(plan)
    assert (found.method, found.cdf_error, found.n_architectures) == ("exact", 0.0, len(expected))
    check(found, expected)
    np.testing.assert_allclose(
        [found.quantile((rank + 0.5) / len(expected)) for rank in range(len(expected))], expected
    )


@pytest.mark.parametrize("kind", PLANS)
@pytest.mark.parametrize("n_cells", [64, 1000, 20_000])
def test_a_grid_keeps_its_bounds(kind: str, n_cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space_distribution, "_MAX_LISTED", 0)
    monkeypatch.setattr(space_distribution, "_MAX_SUMS", 0)
    monkeypatch.setattr(space_distribution, "_n_cells", lambda steps, work: n_cells)
    monkeypatch.setattr(space_distribution, "_MIN_CELLS", 1)
    plan = PLANS[kind](np.random.default_rng(7))
    expected = all_costs(plan)
    found = distribution_of(plan)
    assert found.method == "grid"
    assert 0 < found.cdf_error < 1
    check(found, expected)
    if kind not in {"one choice", "a tree"}:  # single architectures and rounded zeros of transforms decide there
        assert found.cdf_error < 2000 / n_cells


def test_nine_to_the_seventh_is_exact() -> None:
    for plan in (random_plan(np.random.default_rng(1), (9,) * 7, neighbours=pairs) for pairs in (False, True)):
        expected = all_costs(plan)
        found = distribution_of(plan)
        assert (found.method, found.n_architectures) == ("exact", 9**7)
        check(found, expected)
        inside = np.count_nonzero((expected >= 8) & (expected <= 9)) / len(expected)
        assert found.share(8, 9) == pytest.approx(inside, abs=1e-6)


@pytest.mark.parametrize(
    "terms",
    [{}, {"neighbours": True}, {"n_terms": 5}],
    ids=["additive", "neighbours", "terms of two and three"],
)
def test_a_large_space_against_samples(terms: dict[str, Any]) -> None:
    plan = random_plan(np.random.default_rng(2), (9,) * (22 if "n_terms" not in terms else 16), **terms)
    found = distribution_of(plan)
    assert found.method == "grid"
    assert found.cdf_error <= 1e-3
    costs = np.sort(np.concatenate([costs_of(plan, drawn(plan, 2000, seed=seed)) for seed in range(20)]))
    n = len(costs)
    for probability in np.linspace(0.02, 0.98, 49):
        upto = np.searchsorted(costs, found.quantile(probability), side="right") / n
        assert abs(upto - probability) <= 4 * (probability * (1 - probability) / n) ** 0.5 + found.cdf_error
    assert (found.cheapest, found.dearest) == plan.bounds()


def test_the_tails_keep_their_proportion() -> None:
    """The five lowest counts of 22 choices, by a closed formula: choose which choices cost one more."""
    plan = additive([[0.0, 1.0, 50.0]] * 22)
    found = distribution_of(plan)
    assert found.cdf(0) == pytest.approx(1 / 3**22)
    assert found.cdf(1) == pytest.approx(23 / 3**22)
    assert found.cdf_bounds(2)[1] == pytest.approx((1 + 22 + 231) / 3**22)


def test_counts_are_exact() -> None:
    """Whole multiples of 1,000 of 20 choices: more architectures than can be listed, few different sums."""
    rng = np.random.default_rng(3)
    rows = rng.integers(1, 60, (20, 6)) * 1000.0
    plan = replace(additive(rows.tolist(), fixed=777.0), quantity=QUANTITIES["MACs"])
    found = distribution_of(plan)
    assert (found.method, found.cdf_error, found.quantity.unit) == ("exact", 0.0, "MACs")
    exact = np.ones(1)
    for row in rows:
        step = np.zeros(60)
        np.add.at(step, (row / 1000).astype(int), 1 / 6)
        exact = np.convolve(exact, step)
    upto = np.cumsum(exact)
    for count in (200, 500, 600, 700):
        assert found.cdf(777 + 1000 * count) == pytest.approx(upto[count], abs=1e-12)
        assert found.cdf(776 + 1000 * count) == pytest.approx(upto[count - 1], abs=1e-12)
    assert (found.quantile(0.5) - 777) % 1000 == 0


def test_decimals_and_equal_blocks_are_exact() -> None:
    decimals = additive([[0.1, 0.25, 0.3], [0.2, 0.7, 1.1]] * 12)
    found = distribution_of(decimals)
    assert found.method == "exact"
    assert found.cdf(decimals.cost(dict.fromkeys(decimals.choices, 0))) == pytest.approx(1 / 3**24)
    blocks = additive([[0.0, 2**0.5]] * 30)  # 31 different sums, of no common unit in decimals
    found = distribution_of(blocks)
    assert (found.method, len(found.costs)) == ("exact", 31)
    assert found.quantile(0.5) == pytest.approx(15 * 2**0.5)


def test_tiny_costs_are_not_taken_for_equal() -> None:
    found = distribution_of(additive([[1e-10, 2.5e-10], [0.0, 3e-10]]))
    np.testing.assert_allclose(found.costs, [1e-10, 2.5e-10, 4e-10, 5.5e-10])


def test_equal_costs_are_one_cost() -> None:
    found = distribution_of(additive([[1.0, 1.0], [2.0, 2.0]]))
    assert (found.quantile(0.0), found.quantile(1.0), found.cdf(3.0), found.cdf(2.9)) == (3.0, 3.0, 1.0, 0.0)


def test_wide_graphs_are_sampled() -> None:
    rng = np.random.default_rng(4)
    plan = random_plan(rng, (6,) * 16)
    pairs = [(one, two) for two in range(16) for one in range(two)]
    terms = [Term(candidates=(6 * one, 6 * two), cost=Cost(value=float(rng.uniform(-0.3, 0.5)))) for one, two in pairs]
    plan = replace(plan, terms=tuple(terms))
    found = distribution_of(plan, max_error=0.01)
    assert (found.method, found.n_samples) == ("sampled", 26492)
    assert found.cdf_error == pytest.approx(0.01, rel=1e-4)
    costs = np.sort(costs_of(plan, drawn(plan, 40_000, seed=5)))
    for probability in (0.1, 0.5, 0.9):
        upto = np.searchsorted(costs, found.quantile(probability)) / len(costs)
        assert abs(upto - probability) < 0.01 + 4 * 0.5 / 200
    again = distribution_of(plan, max_error=0.01)
    np.testing.assert_array_equal(found.costs, again.costs)
    assert not np.array_equal(found.costs, distribution_of(plan, max_error=0.01, seed=1).costs)


def test_gates_weigh_the_architectures() -> None:
    rng = np.random.default_rng(6)
    plan = random_plan(rng, (3, 4, 2), n_terms=3)
    parts = [rng.dirichlet(np.ones(n)) for n in (3, 4, 2)]
    rows = np.indices((3, 4, 2)).reshape(3, -1).T
    weights = prod(part[rows[:, column]] for column, part in enumerate(parts))
    costs = costs_of(plan, rows)
    found = distribution_of(plan, np.concatenate(parts))
    for point in np.linspace(costs.min(), costs.max() - 1e-6, 20):
        assert found.cdf(point) == pytest.approx(float(np.sum(weights[costs <= point])), abs=1e-9)


def test_shares_have_bounds() -> None:
    plan = random_plan(np.random.default_rng(8), (9,) * 22)
    found = distribution_of(plan)
    low, high = found.share_bounds(20, 21)
    assert 0 < low < found.share(20, 21) < high < low + 4 * found.cdf_error
    assert found.share() == 1.0
    assert found.share_bounds(max_cost=found.cheapest - 1e-3) == (0.0, 0.0)
    assert found.share_bounds(found.cheapest, found.dearest) == (1.0, 1.0)
    edges, shares = found.histogram(30)
    assert (len(edges), shares.sum()) == (31, pytest.approx(1.0))
    assert shares[10] == pytest.approx(found.cdf(edges[11]) - found.cdf(edges[10]))


def test_refusals() -> None:
    plan = additive([[1.0, 2.0]])
    for error in (0.0, 1.0):
        with pytest.raises(SearchError) as caught:
            distribution_of(plan, max_error=error)
        assert str(caught.value) == f"Expected `max_error` to be between 0 and 1, but got {error}."
    with pytest.raises(SearchError) as caught:
        distribution_of(plan, [0.5, 0.6])
    assert str(caught.value) == ("Expected the gates of `c0` to be probabilities that sum to 1, but got [0.5, 0.6].")
    with pytest.raises(SearchError) as caught:
        distribution_of(plan).quantile(1.5)
    assert str(caught.value) == "Expected a probability from 0 to 1, but got 1.5."
    assert distribution_of(plan).share(-inf, inf) == 1.0
