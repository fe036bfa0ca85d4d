"""From the space of a supernet to the plan that a latency term uses, in torch and in Paddle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Literal

from latency_nas.errors import MissingKernelError, SearchError
from latency_nas.estimate import LatencyEstimator
from latency_nas.search.plan.derived import derived_plan
from latency_nas.search.plan.limited import Limited
from latency_nas.search.plan.limits import ChoiceLimit, limit_rows
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.plan.pricing import make_plan
from latency_nas.search.supernet.supernet_space import NamedSpace

__all__ = ["Check", "check_costs", "check_count", "plan_of"]

Check = int | Literal["auto"]


def plan_of(
    named: NamedSpace, estimator: LatencyEstimator, *, limits: ChoiceLimit | Sequence[ChoiceLimit], check: Check
) -> CostPlan:
    """The plan of a supernet, within limits.

    Args:
        named: Architectures of the supernet.
        estimator: Estimator that prices the kernels.
        limits: Limits on choices.
        check: Number of random architectures that confirm the plan, or "auto".

    Raises:
        MissingKernelError: if a kernel has no price.
        SearchError: if an argument does not fit, no architecture keeps the limits, or the choices do not explain what
            networks run.
    """
    n_checked = check_count(check)
    sizes = {name: len(names) for name, names in named.space.candidates.items()}
    rows = limit_rows(limits, sizes)
    if rows:
        Limited(sizes, rows)  # refuses limits that no architecture keeps
    if named.paths is not None:
        counts = {} if n_checked is None else {"n_checked": n_checked}
        plan = derived_plan(named.space, named.paths, estimator, limits=rows, **counts)
    else:
        plan = make_plan(named.space, estimator, n_checked=n_checked, limits=rows)
    named.check_run()
    check_costs(plan)
    return replace(plan, limits=rows)


def check_costs(plan: CostPlan) -> None:
    """Check that a plan of a supernet has a price for all that runs, and that something runs.

    Raises:
        MissingKernelError: if a kernel has no price: the search would prefer the candidates that have it.
        SearchError: if no candidate of any choice runs a kernel.
    """
    candidates = [*chain.from_iterable(plan.costs), *(term.cost for term in plan.terms)]
    kernels = [item for cost in (plan.fixed, *candidates) for item in cost.kernels or ()]
    missing = dict.fromkeys(str(item.kernel) for item in kernels if item.source == "missing")
    if missing:
        raise MissingKernelError(
            f"Expected a price for each kernel of a supernet, since a search prefers what seems to be free, but the "
            f"table has none for {len(missing)}, such as {next(iter(missing))}: measure them, or use "
            f"on_missing='regress'."
        )
    if not any(cost.kernels for cost in candidates):
        raise SearchError(
            "Expected candidates that run kernels, but every candidate of every choice is free: nothing that the "
            "supernet returned depends on them."
        )


def check_count(check: Check) -> int | None:
    """The number of architectures that `check` stands for; None for ``"auto"``.

    Raises:
        SearchError: if it is neither ``"auto"`` nor a number of architectures.
    """
    if check == "auto":
        return None
    if not isinstance(check, int) or check < 0:
        raise SearchError(f"Expected `check` to be 'auto' or a number of architectures, but got {check!r}.")
    return check
