"""What parts of a network cost, in the unit of the plan that holds them."""

from __future__ import annotations

from dataclasses import dataclass, field

from latency_nas.estimate.estimate import KernelEstimate

__all__ = ["Cost", "Term"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a part of a network adds to its cost, and how sure that is.

    Args:
        value: Cost, in the plan's unit.
        from_table: Part of it that the table itself holds.
        variance: Sum of the variances of independent errors; None where one of them is not known.
        together: Sum of the standard deviations of each family of regressed kernels, whose errors are fully correlated
            (see `latency_nas.estimate.uncertainty`).
        source: The least certain source of its kernels' prices, of ``"table"``, ``"counted"``, ``"regressed"`` and
            ``"missing"``; ``"none"`` where nothing runs.
        kernels: Prices of its kernels, whose sum is `value`; None where they are not known.
    """

    value: float
    from_table: float = 0.0
    variance: float | None = 0.0
    together: tuple[tuple[str, float], ...] = ()
    source: str = "none"
    kernels: tuple[KernelEstimate, ...] | None = field(default=None, compare=False, repr=False)


Group = tuple[int, ...]  # numbers of candidates of one choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """What candidates of different choices add to a network's cost where they are chosen together.

    Args:
        candidates: Numbers of the candidates, counted through all choices; in place of one, those of which one is
            chosen, all of the same choice.
        cost: Cost that they add.
    """

    candidates: tuple[int | Group, ...]
    cost: Cost

    @property
    def groups(self) -> tuple[Group, ...]:
        """`candidates`, one alone as a group, too."""
        return tuple([(item,) if isinstance(item, int) else item for item in self.candidates])
