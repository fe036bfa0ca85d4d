"""Evolution against every architecture of small spaces, and against the solver's optimum of large ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from latency_nas.errors import SearchError
from latency_nas.search.plan.cost import Cost
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.budget import Budget
from latency_nas.search.select.evolution import evolve
from latency_nas.search.select.projection import most_probable_within
from tests.evolutions import budget_at, equal, quick, some_accuracy
from tests.killed import killed_and_resumed
from tests.random_plans import random_plan

Scores = dict[str, list[float]]


def random_scores(rng: np.random.Generator, plan: CostPlan, *, correlated: bool = False) -> Scores:
    """A score of each candidate; correlated with its cost, as that of larger blocks is."""
    return {
        name: [0.5 * correlated * cost + float(rng.uniform(0, 0.2 if correlated else 1)) for cost in costs]
        for name, costs in zip(plan.choices, plan.costs_ms, strict=True)
    }


def additive(scores: Scores) -> Callable[[Mapping[str, int]], float]:
    return lambda architecture: sum(scores[name][index] for name, index in architecture.items())


def all_within(plan: CostPlan, budgets: Sequence[Budget]) -> list[dict[str, int]]:
    picks = itertools.product(*(range(len(names)) for names in plan.candidates))
    everything = [dict(zip(plan.choices, pick, strict=True)) for pick in picks]
    return [one for one in everything if all(budget.keeps(one) for budget in budgets)]


@pytest.mark.parametrize("seed", range(6))
def test_a_small_space_is_evaluated_completely_and_nothing_twice(seed: int) -> None:
    rng = np.random.default_rng(seed)
    plan = random_plan(rng, (4, 3, 5, 2), n_terms=6)
    other = random_plan(rng, (4, 3, 5, 2))
    order = rng.permutation(4)  # the choices of another plan may be in another order
    other = replace(
        other,
        choices=tuple(other.choices[i] for i in order),
        candidates=tuple(other.candidates[i] for i in order),
        costs=tuple(other.costs[i] for i in order),
    )
    budgets = [budget_at(plan, 0.7, confidence=0.9), budget_at(other, 0.8)]
    accuracy = additive(random_scores(rng, plan))
    evaluated: list[tuple[int, ...]] = []

    def counted(architecture: Mapping[str, int]) -> float:
        evaluated.append(tuple(architecture.values()))
        return accuracy(architecture)

    found = evolve(plan, counted, budgets, n_evaluations=1000, population=10, seed=seed)
    expected = all_within(plan, budgets)
    assert len(evaluated) == len(set(evaluated)) == len(expected) < 120
    assert set(evaluated) == {tuple(one.values()) for one in expected}
    assert found.best == max(expected, key=accuracy)
    assert found.accuracy == accuracy(found.best)
    assert found.costs.tolist() == pytest.approx(
        [plan.cost(one) for one in map(found.architecture, range(len(evaluated)))]
    )


def test_the_front_is_that_of_all_pairs() -> None:
    found = quick(some_accuracy)
    points = list(zip(found.accuracies, found.costs, strict=True))
    expected = {
        (score, cost)
        for score, cost in points
        if not any(other >= score and less <= cost and (other, less) != (score, cost) for other, less in points)
    }
    front = [points[index] for index in found.front]
    assert len(front) == len(expected) > 3
    assert set(front) == expected
    assert front == sorted(front, key=lambda point: point[1])


@pytest.mark.parametrize("correlated", [False, True])
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_it_comes_within_one_percent_of_the_optimum(correlated: bool, share: float) -> None:
    rng = np.random.default_rng(7)
    plan = random_plan(rng, [9] * 22)
    scores, budget = random_scores(rng, plan, correlated=correlated), budget_at(plan, share)
    optimum = most_probable_within(scores, budget.limits())
    assert optimum is not None
    found = evolve(plan, additive(scores), budget, n_evaluations=10_000)
    assert len(found.rows) == len({tuple(row) for row in found.rows.tolist()}) == 10_000
    assert 0.99 * additive(scores)(optimum) <= found.accuracy <= additive(scores)(optimum) + 1e-9
    assert budget.keeps(found.best)
    assert found.costs.max() <= budget.max_cost * (1 + 1e-12)


def test_a_budget_that_no_random_architecture_keeps() -> None:
    rng = np.random.default_rng(3)
    plan = random_plan(rng, [9] * 22, neighbours=False)
    budget = budget_at(plan, 0.02)
    found = evolve(plan, additive(random_scores(rng, plan)), budget, n_evaluations=300, population=20)
    assert len(found.rows) == 300
    assert all(budget.keeps(found.architecture(index)) for index in range(300))


@pytest.mark.parametrize("sizes", [(4, 3, 5, 2), (9,) * 22])
def test_budgets_that_nothing_keeps_are_refused(sizes: Sequence[int]) -> None:
    plan = random_plan(np.random.default_rng(0), sizes)
    cheapest, _ = plan.bounds()
    with pytest.raises(SearchError) as caught:
        evolve(plan, lambda _: 0.0, Budget(plan, max_cost=0.9 * cheapest), n_evaluations=10)
    assert str(caught.value).startswith("Expected a budget that an architecture keeps, but got latency of at most ")


def test_the_only_architecture_that_keeps_a_budget_exactly() -> None:
    plan = random_plan(np.random.default_rng(1), (4, 3, 5, 2))
    cheapest = min(all_within(plan, []), key=plan.cost)
    found = evolve(plan, lambda _: 1.0, Budget(plan, max_cost=plan.cost(cheapest)), n_evaluations=10)
    assert found.best == cheapest
    assert len(found.rows) == 1


# --- the same numbers again


def test_the_same_seed_gives_the_same_evolution() -> None:
    found = quick(some_accuracy)
    assert equal(found, quick(some_accuracy))
    assert equal(
        found, quick(lambda many: torch.tensor([some_accuracy(one) for one in many], dtype=torch.float64), batch=True)
    )
    assert not equal(found, quick(some_accuracy, seed=4))


class Interrupted(Exception):  # noqa: N818 - as KeyboardInterrupt
    """Stands for whatever may end an evaluation."""


@pytest.mark.parametrize("n_before", [0, 1, 50, 119])
def test_it_resumes_with_what_was_evaluated(tmp_path: Path, n_before: int) -> None:
    calls: list[int] = []

    def interrupted(architecture: Mapping[str, int]) -> float:
        if len(calls) == n_before:
            raise Interrupted
        calls.append(0)
        return some_accuracy(architecture)

    file = tmp_path / "evolution.jsonl"
    with pytest.raises(Interrupted) as caught:
        quick(interrupted, path=file)
    assert str(caught.value.__notes__[0]).startswith("The architecture was {'c0': ")
    again: list[tuple[int, int]] = []
    found = quick(some_accuracy, path=file, on_progress=lambda done, total: again.append((done, total)))
    assert equal(found, quick(some_accuracy))
    assert len(again) == 120 - n_before
    assert again[-1] == (120, 120)


def test_a_finished_evolution_goes_further(tmp_path: Path) -> None:
    file = tmp_path / "evolution.jsonl"
    quick(some_accuracy, path=file, n_evaluations=50)
    assert equal(quick(some_accuracy, path=file), quick(some_accuracy))
    assert equal(quick(some_accuracy, path=file, n_evaluations=50), quick(some_accuracy, n_evaluations=50))
    assert equal(quick(lambda _: nan, path=file), quick(some_accuracy)), "nothing is evaluated again"


KILLED = """
import sys, time
from pathlib import Path
from tests.evolutions import quick, some_accuracy

def slowly(architecture):
    time.sleep(0.005)
    return some_accuracy(architecture)

Path(sys.argv[2]).touch()
quick(slowly, path=sys.argv[1])
"""


@pytest.mark.slow
def test_a_killed_evolution_ends_with_the_same_numbers(tmp_path: Path) -> None:
    file = tmp_path / "evolution.jsonl"
    n_kills = killed_and_resumed(KILLED, file, tmp_path / "begun")
    assert n_kills > 0
    assert len(file.read_text().splitlines()) == 1 + 120
    assert equal(quick(lambda _: nan, path=file), quick(some_accuracy))


# --- what is refused


def message(function: Callable[[], Any]) -> str:
    with pytest.raises(SearchError) as caught:
        function()
    return str(caught.value)


@pytest.mark.parametrize("value", [nan, inf, None, "high", np.zeros(2), torch.zeros(2)])
@pytest.mark.parametrize("batch", [False, True])
def test_an_accuracy_that_is_no_number_names_its_architecture(tmp_path: Path, value: Any, batch: bool) -> None:
    calls: list[Any] = []

    def broken(architecture: Mapping[str, int]) -> Any:
        calls.append(dict(architecture))
        return value if len(calls) == 30 else some_accuracy(architecture)

    file = tmp_path / "evolution.jsonl"
    many = lambda architectures: list(map(broken, architectures))  # noqa: E731
    text = message(lambda: quick(many if batch else broken, batch=batch, path=file))
    assert text.startswith(f"Expected the accuracy of {calls[29]} to be a finite number, but got ")
    assert text.endswith(". What was evaluated before is kept in the file, if `path` names one.")
    assert len(file.read_text().splitlines()) == 1 + len(calls) - 1


def test_a_batch_gives_as_many_numbers_as_architectures() -> None:
    assert message(lambda: quick(lambda many: [0.0] * (len(many) - 1), batch=True)) == (
        "Expected a number for each of the 20 architectures, but got 19."
    )

    def failing(many: Any) -> Any:
        raise Interrupted

    with pytest.raises(Interrupted) as caught:
        quick(failing, batch=True)
    assert caught.value.__notes__[0].startswith("The architectures were [{'c0': ")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"n_evaluations": 0}, "Expected `n_evaluations` to be 1 or more, but got 0."),
        ({"population": 0}, "Expected `population` to be 1 or more, but got 0."),
        ({"mutate_prob": 1.5}, "Expected `mutate_prob` to be from 0 to 1, but got 1.5."),
        ({"parent_ratio": -1.0}, "Expected `parent_ratio` to be from 0 to 1, but got -1.0."),
        ({"seed": -1}, "Expected `seed` to be 0 or more, but got -1."),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], text: str) -> None:
    assert message(lambda: quick(some_accuracy, **arguments)) == text


def test_a_budget_over_other_choices() -> None:
    budget = Budget(random_plan(np.random.default_rng(0), [5] * 7), max_cost=5.0)
    assert message(lambda: quick(some_accuracy, budgets=budget)) == (
        "Expected budgets over plans of the same choices and candidates, but `c7` differs in the plan of latency of at "
        "most 5 ms."
    )


def test_a_file_of_other_arguments(tmp_path: Path) -> None:
    file = tmp_path / "evolution.jsonl"
    quick(some_accuracy, path=file)
    before = file.read_bytes()
    assert message(lambda: quick(some_accuracy, path=file, population=30)) == (
        f"Expected {file} to be of the same arguments, but its population is 20 instead of 30: name a new file, or "
        f"give these arguments."
    )
    plan = random_plan(np.random.default_rng(5), [5] * 8)
    cheaper = replace(plan, fixed=Cost(value=0.0))
    assert f"Expected {file} to be of the same arguments, but its plan is " in message(
        lambda: evolve(cheaper, some_accuracy, n_evaluations=10, path=file)
    )
    assert file.read_bytes() == before
