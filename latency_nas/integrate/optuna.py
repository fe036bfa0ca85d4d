"""Optuna: architectures from its trials, and budgets as constraints. Optuna itself is not imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from latency_nas.search.plan.architecture import Architecture, indices_of
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.best import check_budgets, limits_of
from latency_nas.search.select.budget import Budget
from latency_nas.search.select.within import excess

if TYPE_CHECKING:
    from optuna.trial import BaseTrial, FrozenTrial

__all__ = ["constraints_func", "set_constraints", "suggest_architecture"]


def suggest_architecture(trial: BaseTrial, plan: CostPlan) -> Architecture:
    """Let a trial suggest a candidate of each choice, by its name (``suggest_categorical``).

    Args:
        trial: Trial of a study.
        plan: Plan that names the choices and candidates.

    Returns:
        Choice -> the index of its candidate.

    Example:
        >>> def objective(trial):                                                            # doctest: +SKIP
        ...     architecture = suggest_architecture(trial, plan)
        ...     set_constraints(trial, architecture, Budget(plan, max_cost=20.0))
        ...     return accuracy(architecture), plan.cost(architecture)
        >>> study = optuna.create_study(directions=["maximize", "minimize"])                 # doctest: +SKIP
        >>> study.optimize(objective, n_trials=200)                                          # doctest: +SKIP
    """
    names = zip(plan.choices, plan.candidates, strict=True)
    return _architecture({name: trial.suggest_categorical(name, candidates) for name, candidates in names}, plan)


def set_constraints(trial: Any, architecture: Mapping[str, int], budgets: Budget | Sequence[Budget]) -> None:
    """Set budgets as constraints of a trial (``trial.set_constraint``, since Optuna 5; before: `constraints_func`).

    Args:
        trial: Trial of a study, inside of the objective.
        architecture: Index of the candidate of each choice.
        budgets: Budgets; each limit is a constraint, and its value the share by which it is exceeded.

    Raises:
        SearchError: if the architecture does not give each choice of a budget one of its candidates.
    """
    for number, budget in enumerate([budgets] if isinstance(budgets, Budget) else budgets):
        for limit in budget.limits():
            side = "max" if limit.max_cost < float("inf") else "min"
            trial.set_constraint(f"{number} {side} {budget.plan.quantity.name}", excess(limit, architecture))


def constraints_func(plan: CostPlan, budgets: Budget | Sequence[Budget]) -> Callable[[FrozenTrial], tuple[float, ...]]:
    """Budgets as the ``constraints_func`` of a sampler, such as ``TPESampler`` or ``NSGAIISampler``.

    Args:
        plan: Plan by which `suggest_architecture` suggested the architectures.
        budgets: Budgets over the choices of `plan`.

    Returns:
        A function of a trial that gives, for each limit, the share by which its architecture exceeds it: 0 or less
        where it is kept.

    Raises:
        SearchError: if a budget is of other choices or candidates than `plan`.

    Example:
        >>> sampler = NSGAIISampler(constraints_func=constraints_func(plan, budget), seed=0)    # doctest: +SKIP
    """
    limits = limits_of(check_budgets(plan, budgets))

    def constraints(trial: FrozenTrial) -> tuple[float, ...]:
        architecture = _architecture(trial.params, plan)
        return tuple(excess(limit, architecture) for limit in limits)

    return constraints


def _architecture(params: Mapping[str, Any], plan: CostPlan) -> Architecture:
    """The architecture of a trial, whose other parameters are left out."""
    names = {name: params[name] for name in plan.choices}
    return Architecture(zip(plan.choices, indices_of(names, plan.choices, plan.candidates), strict=True))
