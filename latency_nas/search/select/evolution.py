"""`evolve`: the most accurate architecture within hard budgets, by an evolution over any plan and any accuracy."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_nas.errors import SearchError
from latency_nas.estimate.estimate import Estimate
from latency_nas.measure.repetition import Progress
from latency_nas.search.plan.architecture import Architecture
from latency_nas.search.plan.many import Rows, costs_of
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.best import check_budgets
from latency_nas.search.select.budget import Budget
from latency_nas.search.select.evaluating import finite, in_batches, on_cluster, one_by_one
from latency_nas.search.select.evaluation_file import EvaluationFile
from latency_nas.search.select.generations import Generations, Row
from latency_nas.search.select.non_dominated import non_dominated
from latency_nas.search.select.within import architecture_of

__all__ = ["Evolution", "evolve"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evolution:
    """What an evolution evaluated, in the order of its generations.

    Args:
        plan: Plan that names the choices and candidates.
        rows: Index of the candidate of each choice, of shape ``(evaluated, choices)``.
        accuracies: Accuracy of each architecture, of shape ``(evaluated,)``.
    """

    plan: CostPlan
    rows: Rows
    accuracies: NDArray[np.float64]

    @property
    def best(self) -> Architecture:
        """The most accurate architecture: choice -> the index of its candidate."""
        return self.architecture(int(np.argmax(self.accuracies)))

    @property
    def accuracy(self) -> float:
        """The accuracy of `best`."""
        return float(self.accuracies.max())

    @property
    def estimate(self) -> Estimate:
        """The estimate of `best`."""
        return self.plan.estimate(self.best)

    @property
    def costs(self) -> NDArray[np.float64]:
        """The cost of each architecture, in the plan's unit, of shape ``(evaluated,)``."""
        return costs_of(self.plan, self.rows)

    @property
    def front(self) -> NDArray[np.intp]:
        """Numbers of the architectures of which no other has a higher accuracy at no higher cost, cheapest first."""
        numbers = non_dominated(self.costs, self.accuracies, keep_equal=False)
        return numbers[np.argsort(self.costs[numbers])]

    def architecture(self, index: int) -> Architecture:
        """One of the architectures: choice -> the index of its candidate."""
        return architecture_of(self.plan, self.rows[index])


def evolve(
    plan: CostPlan,
    accuracy: Callable[[Any], Any],
    budgets: Budget | Sequence[Budget] = (),
    *,
    n_evaluations: int,
    population: int = 100,
    parent_ratio: float = 0.25,
    crossover_prob: float = 0.8,
    mutate_prob: float | None = None,
    batch: bool = False,
    seed: int = 0,
    path: str | os.PathLike[str] | None = None,
    ray_address: str | None = None,
    ray_gpus: float = 0.0,
    on_progress: Progress | None = None,
) -> Evolution:
    """Search for the most accurate architecture within budgets, by mutation, crossover and elitism.

    The first generation is drawn uniformly from the architectures within the budgets. Each further one descends from
    the best so far: a child has the candidates of one parent, or for each choice that of one of two, and some choices
    are then drawn anew. Children that exceed a budget, or were evaluated before, are drawn again without being
    evaluated. With a budget that no random architecture keeps, the solver gives the first ones.

    The same arguments give the same result, bit for bit, if `accuracy` gives the same numbers. This holds for an
    evolution that was killed as well: it is repeated from its start with what the file has, and goes on from there.

    Args:
        plan: Plan that names the choices and candidates.
        accuracy: Function that gives the number to maximise for an architecture (choice -> index of its candidate); or,
            with `batch`, for a list of architectures as many numbers.
        budgets: Budgets that every architecture keeps, over plans of the same choices.
        n_evaluations: Number of architectures to evaluate; fewer where no others keep the budgets.
        population: Number of architectures of a generation.
        parent_ratio: Number of parents, as a share of `population`: the best architectures of all generations so far.
        crossover_prob: Probability that a child has two parents.
        mutate_prob: Probability that the candidate of a choice is drawn anew; None for one choice of each child on
            average.
        batch: Whether `accuracy` takes a list of architectures.
        seed: Seed of the random numbers.
        path: File that keeps each evaluation as soon as it has ended (JSON lines). If it exists, the evolution goes on
            from it; with a larger `n_evaluations` it goes further. None keeps nothing.
        ray_address: Address of a Ray cluster (``"auto"``: the one of this machine) to evaluate on; None for this
            process. Each evaluation is a task on a CPU; with `batch`, each task takes a part of a generation.
            `accuracy` is sent with all that it refers to.
        ray_gpus: Number of GPUs of each task on the cluster; parts of one are possible.
        on_progress: Function that is called after each evaluation, with their number so far and in all.

    Returns:
        The best architecture, and all that were evaluated.

    Raises:
        SearchError: if no architecture keeps the budgets (the message says what can be reached), an accuracy is no
            finite number, an argument is out of range, or the file is of other arguments.

    Example:
        >>> from latency_nas.search.plan.cost import Cost
        >>> costs = tuple(Cost(value=float(index)) for index in range(4))
        >>> plan = CostPlan(choices=("a", "b"), candidates=(("0", "1", "2", "3"),) * 2, costs=(costs, costs),
        ...                 fixed=Cost(value=1.0))
        >>> found = evolve(plan, lambda one: one["a"] + 2 * one["b"], Budget(plan, max_cost=5.0), n_evaluations=16)
        >>> found.best, found.accuracy, len(found.rows)
        ({'a': 1, 'b': 3}, 7.0, 13)

    References:
        Cai et al., Once-for-all, ICLR 2020, section 3.4: evolution of a configuration, with an accuracy predictor and a
        latency table. Real et al., Regularized evolution for image classifier architecture search, AAAI 2019.
    """
    generations = Generations(
        plan=plan,
        budgets=check_budgets(plan, budgets),
        population=population,
        parent_ratio=parent_ratio,
        crossover_prob=crossover_prob,
        mutate_prob=1 / len(plan.choices) if mutate_prob is None else mutate_prob,
        seed=seed,
    )
    if n_evaluations < 1:
        raise SearchError(f"Expected `n_evaluations` to be 1 or more, but got {n_evaluations}.")
    evaluate = in_batches(accuracy) if batch else one_by_one(accuracy)
    if ray_address is not None:
        evaluate = on_cluster(evaluate, ray_address, batch=batch, n_gpus=ray_gpus)
    evaluated: dict[Row, float] = {}
    with EvaluationFile(path, generations.arguments()) as file:
        while len(evaluated) < n_evaluations and (rows := generations.next(evaluated)):
            rows = rows[: n_evaluations - len(evaluated)]
            missing = [row for row in rows if row not in file.values]
            done = len(evaluated) + len(rows) - len(missing)
            for index, value in evaluate([architecture_of(plan, row) for row in missing]):
                architecture = dict(architecture_of(plan, missing[index]))
                file.add(missing[index], finite(value, f"the accuracy of {architecture}"))
                done += 1
                if on_progress:
                    on_progress(done, n_evaluations)
            evaluated.update((row, file.values[row]) for row in rows)
    return Evolution(
        plan=plan, rows=np.array(list(evaluated), np.intp), accuracies=np.array(list(evaluated.values()), np.float64)
    )
