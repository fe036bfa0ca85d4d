"""Constraints: terms with a multiplier, which is updated until the cost is on its target.

The term is a function of the expected cost LAT, which has a gradient. The multiplier is updated by the cost of the
argmax architecture, which is the result of the search; the two costs can differ by 20 %. Throughout, g = LAT / T - 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from latency_nas.errors import SearchError

__all__ = ["CONSTRAINTS", "AugmentedLagrangian", "Constraint", "Float64State", "LearnedWeight"]


class Float64State(nn.Module):
    """A module whose float64 buffers stay float64, also when the model around it is cast to half precision."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        def keep(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return tensor.to(moved.device) if tensor.dtype == torch.float64 else moved

        return super()._apply(keep, recurse)  # type: ignore[no-untyped-call]


class Constraint(Float64State, ABC):
    """A term with a multiplier, both scalars in float64. The multiplier is a buffer, so that checkpoints hold it.

    Args:
        multiplier: Multiplier at the beginning.
        every: Number of architecture steps from one update to the next.

    Raises:
        SearchError: if `every` is not positive.
    """

    multiplier: Tensor
    n_steps: Tensor

    def __init__(self, *, multiplier: float = 0.0, every: int = 1) -> None:
        super().__init__()
        if every < 1:
            raise SearchError(f"Expected `every` to be a positive number of steps, but got {every}.")
        self.every = every
        self.register_buffer("multiplier", torch.tensor(float(multiplier), dtype=torch.float64))
        self.register_buffer("n_steps", torch.tensor(0))

    @abstractmethod
    def forward(self, cost: Tensor, target: float) -> Tensor:
        """The term, of shape ``()``."""

    @abstractmethod
    def _update(self, violation: float) -> None:
        """Update the multiplier; `violation` is g of the argmax architecture."""

    @torch.no_grad()
    def update(self, cost: Callable[[], float], target: float) -> bool:
        """Count an architecture step, and update the multiplier in every step number `every`.

        Args:
            cost: Function that gives the cost of the argmax architecture.
            target: Cost to reach.

        Returns:
            Whether the multiplier was updated.
        """
        self.n_steps += 1
        if int(self.n_steps) % self.every:
            return False
        self._update(cost() / target - 1)
        return True


class AugmentedLagrangian(Constraint):
    """lambda g + (rho / 2) g^2 for g = 0, and (max(0, lambda + rho g)^2 - lambda^2) / (2 rho) for g <= 0.

    An update is lambda <- lambda + rho g, and for the inequality at least 0. If the violation has not shrunk to the
    share `shrinkage` of the one at the last update, rho grows. It is a buffer as well.

    Args:
        kind: Kind of constraint: ``"equality"`` (on the target) or ``"inequality"`` (not above it).
        multiplier: Multiplier lambda at the beginning.
        rho: Penalty parameter rho at the beginning.
        growth: Factor by which rho grows; with 1 it is constant.
        max_rho: Largest rho.
        shrinkage: Largest share of the last violation at which rho does not grow.
        every: Number of architecture steps from one update to the next.

    Raises:
        SearchError: if an argument is out of range.

    References:
        Nocedal and Wright, Numerical Optimization, chapter 17 (the augmented Lagrangian method).

    Example:
        >>> constraint = AugmentedLagrangian("equality", rho=2.0, every=1)
        >>> float(constraint(torch.tensor(15.0), 10.0))  # (rho / 2) g^2 with g = 0.5
        0.25
        >>> constraint.update(lambda: 15.0, 10.0), float(constraint.multiplier)
        (True, 1.0)
    """

    rho: Tensor
    last: Tensor

    def __init__(
        self,
        kind: str = "inequality",
        *,
        multiplier: float = 0.0,
        rho: float = 1.0,
        growth: float = 1.0,
        max_rho: float = 100.0,
        shrinkage: float = 0.5,
        every: int = 10,
    ) -> None:
        super().__init__(multiplier=multiplier, every=every)
        if kind not in ("equality", "inequality"):
            raise SearchError(f"Expected `kind` to be 'equality' or 'inequality', but got {kind!r}.")
        if not 0 < rho <= max_rho:
            raise SearchError(f"Expected `rho` to be positive and not above {max_rho}, but got {rho}.")
        if not growth >= 1:
            raise SearchError(f"Expected `growth` to be a number >= 1, but got {growth}.")
        self.kind, self.growth, self.max_rho, self.shrinkage = kind, growth, max_rho, shrinkage
        self.register_buffer("rho", torch.tensor(float(rho), dtype=torch.float64))
        self.register_buffer("last", torch.tensor(torch.inf, dtype=torch.float64))

    def forward(self, cost: Tensor, target: float) -> Tensor:
        """The term, of shape ``()``."""
        violation = cost / target - 1
        if self.kind == "equality":
            return self.multiplier * violation + self.rho / 2 * violation**2
        shifted = (self.multiplier + self.rho * violation).clamp(min=0)
        return (shifted**2 - self.multiplier**2) / (2 * self.rho)

    def _update(self, violation: float) -> None:
        self.multiplier += self.rho * violation
        size = abs(violation)
        if self.kind == "inequality":
            self.multiplier.clamp_(min=0)
            size = max(0.0, violation)
        if size > self.shrinkage * float(self.last):
            self.rho.mul_(self.growth).clamp_(max=self.max_rho)
        self.last.fill_(size)


class LearnedWeight(Constraint):
    """lambda g, with lambda <- lambda + eta g: gradient ascent on a weight that becomes negative below the target.

    Args:
        eta: Step size of the ascent.
        multiplier: Multiplier lambda at the beginning.
        every: Number of architecture steps from one update to the next.

    Raises:
        SearchError: if an argument is out of range.

    References:
        LightNAS: CE + lambda (LAT / T - 1) as in the paper, with the code's update by the argmax architecture. The code
        also bounds lambda on one side, which is left out here.
    """

    def __init__(self, eta: float = 0.01, *, multiplier: float = 0.0, every: int = 1) -> None:
        super().__init__(multiplier=multiplier, every=every)
        if not eta > 0:
            raise SearchError(f"Expected `eta` to be a positive number, but got {eta}.")
        self.eta = eta

    def forward(self, cost: Tensor, target: float) -> Tensor:
        """The term, of shape ``()``."""
        return self.multiplier * (cost / target - 1)

    def _update(self, violation: float) -> None:
        self.multiplier += self.eta * violation


# name -> function that makes the constraint: it has a state, so each loss needs one of its own
CONSTRAINTS: dict[str, Callable[[], Constraint]] = {
    "equality": partial(AugmentedLagrangian, "equality"),
    "inequality": partial(AugmentedLagrangian, "inequality"),
    "learned-weight": LearnedWeight,
}
