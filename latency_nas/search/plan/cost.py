"""What parts of a network cost, in the unit of the plan that holds them."""

from __future__ import annotations

from dataclasses import dataclass, field

from latency_nas.estimate.estimate import KernelEstimate

__all__ = ["Cost", "Term"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What something adds to a network's cost, and how sure that is.

    Args:
        value: Cost, in the plan's unit.
        from_table: Part of it that the table itself holds.
        variance: Variance of what errs on its own; None: not known.
        together: Of each family of regressed kernels, the sum of their standard deviations: they err together.
        source: Least sure of ``"table"``, ``"counted"``, ``"regressed"`` and ``"missing"``, or ``"none"`` where
            nothing runs.
        kernels: Prices of the kernels that `value` is the sum of; None where they are not known.
    """

    value: float
    from_table: float = 0.0
    variance: float | None = 0.0
    together: tuple[tuple[str, float], ...] = ()
    source: str = "none"
    kernels: tuple[KernelEstimate, ...] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """What several candidates of different choices add where they are chosen together.

    Args:
        candidates: Their places among the candidates of all choices, one choice after the other.
        cost: What they add.
    """

    candidates: tuple[int, ...]
    cost: Cost
