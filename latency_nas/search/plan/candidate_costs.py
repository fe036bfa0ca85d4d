"""Plans of costs that are known candidate by candidate, as tables of blocks hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from numbers import Real

from latency_nas.errors import SearchError, short_repr
from latency_nas.kernel import LATENCY, Quantity
from latency_nas.search.plan.cost import Cost
from latency_nas.search.plan.plan import CostPlan

__all__ = ["plan_of_candidates"]


def plan_of_candidates(
    costs: Mapping[str, Mapping[str, float] | Sequence[float]],
    *,
    fixed: float = 0.0,
    quantity: Quantity = LATENCY,
    expected_error: float | None = None,
) -> CostPlan:
    """A plan of the cost of each candidate, for a table of blocks or for numbers of your own.

    The costs of the chosen candidates add up: T = fixed + sum over choices of t_ij (ProxylessNAS, arXiv 1812.00332,
    eq. 2). `LatencyLoss.attach_plan` takes the plan, and so do `filter_by_budget`, `best` and all else that selects.

    Args:
        costs: Cost of each candidate of each choice: choice -> candidate -> cost, or choice -> costs, whose candidates
            are then named ``"0"``, ``"1"`` and so on. The unit is that of `quantity`, by default milliseconds.
        fixed: Cost of what does not depend on any choice: stem, head.
        quantity: Quantity that the costs are of.
        expected_error: Mean absolute relative error of whole networks (0.05 is 5 %), from networks that you timed. None
            if it is not known: then the plan's ± is unknown, and a `target_quantile` is refused.

    Raises:
        SearchError: if there is no choice, one has fewer than two candidates, or a number is not finite and >= 0.

    Example:
        >>> plan = plan_of_candidates({"layer 0": {"3x3": 2.0, "5x5": 3.5}, "layer 1": [1.0, 0.0]}, fixed=4.0)
        >>> plan.latency_ms({"layer 0": "5x5", "layer 1": "0"}), plan.std_ms({"layer 0": 1, "layer 1": 0})
        (8.5, None)
    """
    if not costs:
        raise SearchError("Expected at least one choice, but got none.")
    named = {choice: _named(choice, candidates) for choice, candidates in costs.items()}
    error = None if expected_error is None else _number("expected_error", expected_error)

    def cost_of(place: str, value: float) -> Cost:
        number = _number(place, value)
        return Cost(value=number, from_table=number, variance=None if error is None else 0.0, source="table")

    rows = [
        tuple(cost_of(f"{choice}={name}", value) for name, value in candidates.items())
        for choice, candidates in named.items()
    ]
    return CostPlan(
        choices=tuple(named),
        candidates=tuple(map(tuple, named.values())),
        costs=tuple(rows),
        fixed=cost_of("fixed", fixed),
        expected_error=error,
        quantity=quantity,
    )


def _named(choice: str, candidates: Mapping[str, float] | Sequence[float]) -> dict[str, float]:
    if not isinstance(candidates, Mapping):
        candidates = {str(number): value for number, value in enumerate(candidates)}
    if len(candidates) < 2:
        raise SearchError(f"Expected at least two candidates of `{choice}`, but got {len(candidates)}.")
    return dict(candidates)


def _number(place: str, value: object) -> float:
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else float("nan")
    if not (isfinite(number) and number >= 0):
        raise SearchError(f"Expected the cost of `{place}` to be a finite number >= 0, but got {short_repr(value)}.")
    return number
