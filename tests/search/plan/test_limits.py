"""Limits on choices: what they allow, drawn and bounded, against every architecture of small spaces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from latency_nas import CountLimit, SumLimit, UnlikeLimit
from latency_nas.errors import SearchError
from latency_nas.search.plan.limited import Limited
from latency_nas.search.plan.limits import ChoiceLimit, limit_rows
from latency_nas.search.plan.plan import CostPlan
from tests.random_plans import random_plan
from tests.supernets import all_architectures

SIZES = {"c0": 3, "c1": 2, "c2": 4, "c3": 3, "c4": 2}
LIMITS: dict[str, list[ChoiceLimit]] = {
    "edges": [CountLimit(("c0", "c1", "c3"), other_than=0, at_most=2, at_least=1)],
    "unlike": [UnlikeLimit(("c4", "c3", "c2", "c0"))],
    "depth": [SumLimit({"c2": (0.5, 1, 1.5, 2), "c0": (1, 2, 3)}, at_most=3, at_least=3)],
    "all": [
        CountLimit(list(SIZES), other_than=(0, 1), at_most=3),
        UnlikeLimit(("c0", "c1")),
        SumLimit({"c2": (1, 2, 3, 4), "c3": (1, 2, 3)}, at_least=4),
    ],
}


def kept(limits: Sequence[ChoiceLimit]) -> list[dict[str, int]]:
    rows = limit_rows(limits, SIZES)
    return [one for one in all_architectures(SIZES) if all(row.keeps(one) for row in rows)]


def message(limits: Sequence[ChoiceLimit] | ChoiceLimit) -> str:
    with pytest.raises(SearchError) as caught:
        Limited(SIZES, limit_rows(limits, SIZES))
    return str(caught.value)


def test_what_limits_allow() -> None:
    def n_edges(one: dict[str, int]) -> int:
        return sum(one[name] != 0 for name in ("c0", "c1", "c3"))

    every = all_architectures(SIZES)
    assert kept(LIMITS["edges"]) == [one for one in every if 1 <= n_edges(one) <= 2]
    row = ("c4", "c3", "c2", "c0")
    unlike = [one for one in every if all(one[a] != one[b] for a, b in pairwise(row))]
    assert kept(LIMITS["unlike"]) == unlike
    assert kept(LIMITS["depth"]) == [one for one in every if 0.5 * (one["c2"] + 1) + one["c0"] + 1 == 3]


@pytest.mark.parametrize("name", LIMITS)
def test_each_architecture_within_the_limits_is_drawn_equally_often(name: str) -> None:
    allowed = kept(LIMITS[name])
    limited = Limited(SIZES, limit_rows(LIMITS[name], SIZES))
    n = 200 * len(allowed)
    counts = Counter(map(tuple, limited.draw(n, np.random.default_rng(0)).tolist()))
    assert set(counts) == {tuple(one.values()) for one in allowed}
    deviation = sum((count - 200) ** 2 / 200 for count in counts.values())  # chi-squared
    assert deviation < len(allowed) + 5 * (2 * len(allowed)) ** 0.5
    picked = limited.draw(50, np.random.default_rng(1), {2: (1, 3), 0: (2,)})
    those = {tuple(one.values()) for one in allowed if one["c2"] in (1, 3) and one["c0"] == 2}
    assert set(map(tuple, picked.tolist())) <= those
    assert bool(len(picked)) == bool(those)
    every = np.array([list(one.values()) for one in all_architectures(SIZES)])
    assert limited.keeps(every).sum() == len(allowed)


def test_drawing_from_a_space_too_large_to_list() -> None:
    """28 edges of 8 operations: 14 nodes of two edges, of which one is not zero."""
    sizes = {f"e{number}": 8 for number in range(28)}
    nodes = [CountLimit((f"e{number}", f"e{number + 1}"), other_than=0, at_most=1, at_least=1)
             for number in range(0, 28, 2)]  # fmt: skip
    rows = Limited(sizes, limit_rows(nodes, sizes)).draw(1000, np.random.default_rng(0))
    is_edge = (rows.reshape(1000, 14, 2) != 0).sum(2)
    assert (is_edge == 1).all()
    assert abs((rows[:, 0] != 0).mean() - 0.5) < 0.1


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("n_terms", [0, 6])
def test_bounds_within_limits_are_those_of_every_architecture(name: str, n_terms: int) -> None:
    plan = random_plan(np.random.default_rng(3), tuple(SIZES.values()), n_terms)
    limited = replace(plan, limits=limit_rows(LIMITS[name], SIZES))
    costs = [plan.cost(one) for one in kept(LIMITS[name])]
    assert limited.bounds() == pytest.approx((min(costs), max(costs)), rel=1e-12)
    assert [limited.allows(one) for one in kept(LIMITS[name])] == [True] * len(costs)
    assert sum(map(limited.allows, all_architectures(SIZES))) == len(costs)


def test_limits_are_saved_with_the_plan(tmp_path: Path) -> None:
    plan = random_plan(np.random.default_rng(3), tuple(SIZES.values()), 3)
    plan = replace(plan, limits=limit_rows(LIMITS["all"], SIZES), n_fitted=5)
    plan.save(tmp_path / "plan.npz")
    assert CostPlan.load(tmp_path / "plan.npz") == plan


def test_limits_that_do_not_fit_are_refused() -> None:
    assert message(CountLimit(("c0", "c9"), other_than=0, at_most=1)) == (
        "Expected limits on choices of the supernet, but `c9` is none of c0, c1, c2, c3, c4."
    )
    assert message(CountLimit(("c0", "c1"), other_than=2, at_most=1)) == (
        "Expected `other_than` to be a candidate of `c1`, from 0 to 1, but got 2."
    )
    assert message(CountLimit("c0", other_than=0, at_most=1)) == (
        "Expected the names of choices, each once, but got 'c0'."
    )
    assert message(SumLimit({"c0": (1, 2)}, at_most=1)) == (
        "Expected a number for each of the 3 candidates of `c0`, but got [1, 2]."
    )
    assert message(SumLimit({"c1": (1, 2)}, at_most=1, at_least=2)) == (
        "Expected a limit from `at_least` to `at_most`, one of them given, but got 2 to 1."
    )
    assert message(SumLimit({"c1": (1, 2)}, at_most=0.5)) == (
        "Expected limits that an architecture can keep together, but none keeps a sum from -inf to 0.5 over `c1`."
    )
    assert message([3]) == (  # type: ignore[list-item]
        "Expected limits on choices, such as `CountLimit(edges, other_than=0, at_most=2)`, but got 3."
    )
    irrational = {f"c{number}": tuple(np.random.default_rng(number).random(9)) for number in range(9)}
    sizes = dict.fromkeys(irrational, 9)
    with pytest.raises(SearchError) as caught:
        Limited(sizes, limit_rows(SumLimit(irrational, at_most=4.5), sizes))
    assert str(caught.value) == (
        "Expected limits whose sums take few values, but there are too many of a sum from -inf to 4.5 over `c0`, `c1`, "
        "`c2`, `c3`, `c4`, `c5`, `c6`, `c7`, `c8`."
    )
