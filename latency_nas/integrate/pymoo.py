"""pymoo: accuracy against cost within budgets, as a problem of integer variables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_nas.errors import MissingExtraError
from latency_nas.search.plan.many import check_rows, costs_of
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.best import check_budgets, limits_of
from latency_nas.search.select.budget import Budget
from latency_nas.search.select.evaluating import finite, in_batches, one_by_one
from latency_nas.search.select.within import architecture_of, excess

try:
    from pymoo.core.problem import Problem
except ImportError as error:
    raise MissingExtraError("ArchitectureProblem needs pymoo: pip install 'latency-nas[pymoo]'") from error

__all__ = ["ArchitectureProblem"]


class ArchitectureProblem(Problem):  # type: ignore[misc]
    """The architectures of a plan: an integer variable for each choice, the index of its candidate.

    Two objectives are minimised: the negative accuracy, and the cost in the plan's unit. Each limit of a budget is an
    inequality constraint: the share by which it is exceeded, 0 or less where it is kept.

    Args:
        plan: Plan that says what the candidates cost.
        accuracy: Function that gives the number to maximise for an architecture (choice -> index of its candidate); or,
            with `batch`, for a list of architectures as many numbers.
        budgets: Budgets over the choices of `plan`.
        batch: Whether `accuracy` takes a list of architectures.

    Raises:
        SearchError: if a budget is of other choices than `plan`; when it is solved, if an accuracy is no finite number.

    Example:
        >>> problem = ArchitectureProblem(plan, accuracy, Budget(plan, max_cost=20.0))       # doctest: +SKIP
        >>> repair = RoundingRepair()                                                        # doctest: +SKIP
        >>> algorithm = NSGA2(sampling=IntegerRandomSampling(), crossover=SBX(vtype=float, repair=repair),
        ...                   mutation=PM(vtype=float, repair=repair))                       # doctest: +SKIP
        >>> minimize(problem, algorithm, ("n_gen", 100), seed=0).F                           # doctest: +SKIP
    """

    def __init__(
        self,
        plan: CostPlan,
        accuracy: Callable[[Any], Any],
        budgets: Budget | Sequence[Budget] = (),
        *,
        batch: bool = False,
    ) -> None:
        self.plan, self.evaluated = plan, in_batches(accuracy) if batch else one_by_one(accuracy)
        self.limits = limits_of(check_budgets(plan, budgets))
        sizes = np.diff(plan.offsets)
        super().__init__(
            n_var=len(sizes), n_obj=2, n_ieq_constr=len(self.limits), xl=np.zeros(len(sizes)), xu=sizes - 1, vtype=int
        )

    def _evaluate(self, x: NDArray[Any], out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        rows = check_rows(self.plan, np.rint(x).astype(np.intp))
        architectures = [architecture_of(self.plan, row) for row in rows]
        scores = np.empty(len(rows))
        for index, value in self.evaluated(architectures):
            scores[index] = finite(value, f"the accuracy of {dict(architectures[index])}")
        out["F"] = np.column_stack([-scores, costs_of(self.plan, rows)])
        if self.limits:
            out["G"] = np.array([[excess(limit, one) for limit in self.limits] for one in architectures])
