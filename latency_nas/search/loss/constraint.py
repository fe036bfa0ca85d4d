"""Constraints: terms with a state, a multiplier that moves until the cost is on its target.

The term is of the expected cost LAT, which has a gradient; the multiplier is moved by the cost of the argmax
architecture, which is what the search leaves behind. (The two can be 20 % apart.) With g = LAT / T - 1 throughout.
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
    """A term with a multiplier. Both are scalars in float64; the multiplier is a buffer, saved and resumed.

    Args:
        multiplier: Multiplier to begin with.
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
        """Move the multiplier by g of the argmax architecture."""

    @torch.no_grad()
    def update(self, cost: Callable[[], float], target: float) -> bool:
        """Count an architecture step, and move the multiplier if it is time.

        Args:
            cost: Function that gives the cost of the argmax architecture.
            target: Cost to reach.

        Returns:
            Whether it was.
        """
        self.n_steps += 1
        if int(self.n_steps) % self.every:
            return False
        self._update(cost() / target - 1)
        return True


class AugmentedLagrangian(Constraint):
    """lambda g + (rho / 2) g^2 for g = 0, and (max(0, lambda + rho g)^2 - lambda^2) / (2 rho) for g <= 0.

    An update is lambda <- lambda + rho g, for the inequality not below 0. Where abs(g) has not shrunk to `shrinkage`
    of what it was at the update before, rho grows; it is a buffer as well.

    Args:
        kind: Kind of constraint: ``"equality"`` (on the target) or ``"inequality"`` (not above it).
        multiplier: Multiplier lambda to begin with.
        rho: Penalty to begin with.
        growth: Factor by which rho grows; 1 leaves it.
        max_rho: Largest rho.
        shrinkage: Share of the violation that may be left after an update without rho growing.
        every: Number of architecture steps from one update to the next.

    Raises:
        SearchError: if an argument is out of range.

    References:
        Nocedal and Wright, Numerical Optimization, chapter 17 (the augmented Lagrangian method).
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
        pushed = (self.multiplier + self.rho * violation).clamp(min=0)
        return (pushed**2 - self.multiplier**2) / (2 * self.rho)

    def _update(self, violation: float) -> None:
        self.multiplier += self.rho * violation
        left = abs(violation)
        if self.kind == "inequality":
            self.multiplier.clamp_(min=0)
            left = max(0.0, violation)
        if left > self.shrinkage * float(self.last):
            self.rho.mul_(self.growth).clamp_(max=self.max_rho)
        self.last.fill_(left)


class LearnedWeight(Constraint):
    """lambda g, with lambda <- lambda + eta g: gradient ascent on a weight that becomes negative below the target.

    Args:
        eta: Step of the ascent.
        multiplier: Multiplier lambda to begin with.
        every: Number of architecture steps from one update to the next.

    Raises:
        SearchError: if an argument is out of range.

    References:
        LightNAS: its paper's CE + lambda (LAT / T - 1) and its code's update on the argmax architecture; its code also
        cuts lambda off on one side, which is left out here.
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


# name -> makes the constraint; each loss has one of its own, since it has a state
CONSTRAINTS: dict[str, Callable[[], Constraint]] = {
    "equality": partial(AugmentedLagrangian, "equality"),
    "inequality": partial(AugmentedLagrangian, "inequality"),
    "learned-weight": LearnedWeight,
}
