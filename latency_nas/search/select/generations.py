"""The generations of an evolution: architectures within budgets, none of them twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_nas.errors import SearchError
from latency_nas.search.plan.many import Rows
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.best import limits_of
from latency_nas.search.select.budget import Budget, fingerprint
from latency_nas.search.select.projection import most_probable_within
from latency_nas.search.select.reach import sizes_of
from latency_nas.search.select.refusal import unreachable
from latency_nas.search.select.sampling import draw_rows
from latency_nas.search.select.within import within

__all__ = ["Generations", "Row"]

Row = tuple[int, ...]  # index of each choice's candidate

_N_TRIES = 100  # rounds in which a generation is drawn; it is smaller if these find too few new architectures
_OVERDRAW = 4  # architectures that are drawn in a round, as a multiple of the population
_MAX_LISTED = 200_000  # spaces up to this size are listed when mutations find nothing new
_N_SOLVED = 8  # architectures that the solver is asked for where drawing finds none within the budgets


@dataclass(frozen=True, slots=True, kw_only=True)
class Generations:
    """Makes generation after generation; each depends only on the seed, its number and what was evaluated before.

    Args:
        plan: Plan that names the choices and candidates.
        budgets: Budgets that each architecture has to keep, as `check_budgets` gives them.
        population: Number of architectures of a generation.
        parent_ratio: Number of the best architectures so far from which the next ones descend, as a share of
            `population`.
        crossover_prob: Probability that a child has two parents.
        mutate_prob: Probability that the candidate of a choice is drawn anew.
        seed: Seed of the random numbers.

    Raises:
        SearchError: if an argument is out of range.
    """

    plan: CostPlan
    budgets: tuple[Budget, ...]
    population: int
    parent_ratio: float
    crossover_prob: float
    mutate_prob: float
    seed: int

    def __post_init__(self) -> None:
        if self.population < 1:
            raise SearchError(f"Expected `population` to be 1 or more, but got {self.population}.")
        for name in ("parent_ratio", "crossover_prob", "mutate_prob"):
            if not 0 <= getattr(self, name) <= 1:
                raise SearchError(f"Expected `{name}` to be from 0 to 1, but got {getattr(self, name)}.")
        if self.seed < 0:
            raise SearchError(f"Expected `seed` to be 0 or more, but got {self.seed}.")

    def arguments(self) -> dict[str, Any]:
        """Everything that the generations depend on, of types that JSON has; plans by their hashes."""
        budgets = [budget.identity() for budget in self.budgets]
        numbers = {
            name: getattr(self, name)
            for name in ("population", "parent_ratio", "crossover_prob", "mutate_prob", "seed")
        }
        return {"plan": fingerprint(self.plan), "budgets": budgets, **numbers}

    def next(self, evaluated: Mapping[Row, float]) -> list[Row]:
        """The architectures of the next generation; none where all of the space within the budgets were evaluated.

        Args:
            evaluated: Accuracy of each architecture of the generations before.

        Raises:
            SearchError: if no architecture keeps the budgets.
        """
        random = np.random.default_rng([self.seed, len(evaluated)])
        parents = self._parents(evaluated) if evaluated else None
        drawn = (self._uniform(random) if parents is None else self._children(random, parents) for _ in range(_N_TRIES))
        found = self._new(drawn, evaluated) or self._new(self._others(random), evaluated)
        if not found and not evaluated:
            raise unreachable(limits_of(self.budgets), self.plan)
        return found

    def _new(self, drawn: Iterator[Rows], evaluated: Mapping[Row, float]) -> list[Row]:
        """The first architectures of what is drawn that keep the budgets and were not evaluated."""
        keeps = within(self.plan, self.budgets)
        found: dict[Row, None] = {}
        for rows in drawn:
            new = (row for row in map(tuple, rows[keeps(rows)].tolist()) if row not in evaluated)
            found.update(dict.fromkeys(new))
            if len(found) >= self.population:
                break
        return list(found)[: self.population]

    @property
    def _sizes(self) -> NDArray[np.intp]:
        return np.diff(self.plan.offsets)

    def _uniform(self, random: np.random.Generator) -> Rows:
        return draw_rows(self.plan, _OVERDRAW * self.population, random)

    def _parents(self, evaluated: Mapping[Row, float]) -> Rows:
        n_parents = max(1, round(self.parent_ratio * self.population))
        order = np.argsort([-accuracy for accuracy in evaluated.values()], kind="stable")[:n_parents]
        rows = list(evaluated)
        return np.array([rows[index] for index in order], np.intp)

    def _children(self, random: np.random.Generator, parents: Rows) -> Rows:
        shape = _OVERDRAW * self.population, len(self._sizes)
        first, second = parents[random.integers(0, len(parents), (2, shape[0]))]
        crossed = (random.random((shape[0], 1)) < self.crossover_prob) & (random.random(shape) < 0.5)
        mutated = random.random(shape) < self.mutate_prob
        return np.where(mutated, random.integers(0, self._sizes, shape), np.where(crossed, second, first))

    def _others(self, random: np.random.Generator) -> Iterator[Rows]:
        """Architectures of a small space in random order; of a large one what the solver finds for random scores."""
        size = prod(self._sizes.tolist())
        if size <= _MAX_LISTED:
            yield np.stack(np.unravel_index(random.permutation(size), self._sizes), axis=1)
            return
        limits = limits_of(self.budgets)
        for _ in range(_N_SOLVED):
            scores = {name: random.random(n).tolist() for name, n in sizes_of(self.plan).items()}
            found = most_probable_within(scores, limits, self.plan.limits)
            if found is None:
                return
            yield np.array([[found[name] for name in self.plan.choices]], np.intp)
