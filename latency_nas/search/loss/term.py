"""`Term`: weight x scale x penalty(LAT, target) of an expected cost, and how it changes over a search."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from latency_nas.errors import SearchError
from latency_nas.kernel import Quantity
from latency_nas.search.loss.constraint import CONSTRAINTS, Constraint, Float64State
from latency_nas.search.loss.penalty import FACTORS, PENALTIES, FBNet, Penalty, ProxylessLog, refuse_misreading
from latency_nas.search.loss.schedule import Schedule
from latency_nas.search.loss.target import Target

__all__ = ["Term"]


class Term(Float64State, ABC):
    """A term weight x scale x penalty(LAT, target), where LAT is the expected cost or a quantile of it.

    Args:
        target: Cost to reach, and the quantile that is held against it.
        weight: Weight of the term.
        penalty: Name of a penalty, a factor or a constraint; or a constraint, a factor, or any function of the cost
            and the target.
        temperature: Temperature to begin with.
        schedule: How weight and temperature change over the search.

    Raises:
        SearchError: if an argument is out of range.
    """

    temperature: Tensor
    first_temperature: Tensor
    scale: Tensor
    pull: Tensor

    def __init__(
        self,
        *,
        target: Target,
        weight: float,
        penalty: str | Penalty | Constraint,
        temperature: float,
        schedule: Schedule | None,
    ) -> None:
        super().__init__()
        if not weight >= 0:
            raise SearchError(f"Expected `weight` to be a number >= 0, but got {weight}.")
        if not temperature > 0:
            raise SearchError(f"Expected `temperature` to be a positive number, but got {temperature}.")
        self._target, self.weight, self.schedule = target, weight, schedule
        self.penalty_name = penalty if isinstance(penalty, str) else type(penalty).__name__
        self.penalty = _penalty_of(penalty) if isinstance(penalty, str) else penalty
        self.n_terms = 0  # terms that were asked for: shows whether a training step calls the loss itself
        scale = 1.0 if schedule is None else schedule.scale_at(0.0)
        buffers = {"temperature": temperature, "first_temperature": 0.0, "scale": scale, "pull": 0.0}
        for name, value in buffers.items():
            self.register_buffer(name, torch.tensor(float(value), dtype=torch.float64))

    @abstractmethod
    def expected(self) -> Tensor:
        """E[LAT], a float64 scalar, differentiable with respect to the architecture parameters."""

    @abstractmethod
    def std(self) -> Tensor:
        """One standard deviation of the estimate, a float64 scalar."""

    @property
    def quantity(self) -> Quantity:
        """The quantity that the cost is of: by default a latency in milliseconds."""
        return self._target.quantity

    # --- the term

    def controlled(self) -> Tensor:
        """What is held against the target: the expected cost, or its quantile."""
        n_std = self._target.n_std
        return self.expected() + n_std * self.std() if n_std else self.expected()

    def term(self) -> Tensor:
        """The term in float64.

        Raises:
            SearchError: if the penalty is a factor, or a constraint without a target.
        """
        if isinstance(self.penalty, FBNet | ProxylessLog):
            raise SearchError(
                f"Expected latency.combine(task_loss): {type(self.penalty).__name__} multiplies the task's loss."
            )
        self.n_terms += 1
        target = self._target.value
        if target is not None:
            return self._share() * self.penalty(self.controlled(), target)
        if isinstance(self.penalty, Constraint):
            name = "target_ms" if self.quantity.is_latency else "target"
            raise SearchError(f"Expected a target for the constraint, but `{name}` is None.")
        return self._share() * self.controlled()

    def _share(self) -> Tensor | float:
        return self.weight if self.schedule is None else self.weight * self.scale

    def combine(self, task_loss: Tensor) -> Tensor:
        """The whole loss: ``task_loss + latency()``, or its product with a factor.

        A factor f enters as 1 + weight x scale x (f - 1), so that a warm-up begins with the task's loss alone.
        """
        if self.multiplies:
            return task_loss * self.factor().to(task_loss.dtype)
        return task_loss + self.term().to(task_loss.dtype)

    def factor(self) -> Tensor:
        """What the task's loss is multiplied by, in float64.

        Raises:
            SearchError: if the penalty is a term.
        """
        if not isinstance(self.penalty, FBNet | ProxylessLog):
            raise SearchError(f"Expected a factor, but {self.penalty_name} is added to the task's loss.")
        self.n_terms += 1
        return 1 + self._share() * (self.penalty(self.controlled(), self._target.value) - 1)

    @property
    def multiplies(self) -> bool:
        """Whether the penalty is a factor of the task's loss."""
        return isinstance(self.penalty, FBNet | ProxylessLog)

    @property
    def differentiable(self) -> bool:
        """Whether the architecture parameters require a gradient now."""
        return self.expected().requires_grad

    # --- the search goes on

    def use_schedule(self, schedule: Schedule) -> None:
        """Follow another schedule from now on."""
        self.schedule = schedule

    def anneal(self, progress: float) -> None:
        """Set scale and temperature to what the schedule has for `progress`, from 0 to 1."""
        if self.schedule is None:
            return
        if float(self.first_temperature) == 0:
            self.first_temperature.copy_(self.temperature)
        self.scale.fill_(self.schedule.scale_at(progress))
        if self.schedule.final_temperature is not None:
            self.temperature.fill_(self.schedule.temperature_at(progress, float(self.first_temperature)))
        self.pull.fill_(self.schedule.pull_at(progress))

    def move_multiplier(self, cost: Callable[[], float]) -> bool:
        """Let a constraint count a step of the architecture.

        Args:
            cost: Function that gives what is held against the target, of the likeliest architecture.

        Returns:
            Whether the multiplier was moved.
        """
        target = self._target.value
        if not isinstance(self.penalty, Constraint) or target is None or float(self.scale) == 0:
            return False
        return self.penalty.update(cost, target)


def _penalty_of(name: str) -> Penalty | FBNet | ProxylessLog | Constraint:
    refuse_misreading(name)
    if name in CONSTRAINTS:
        return CONSTRAINTS[name]()
    if name not in PENALTIES and name not in FACTORS:
        known = ", ".join([*PENALTIES, *FACTORS, *CONSTRAINTS])
        raise SearchError(f"Expected `penalty` to be one of {known}, but got {name!r}.")
    return PENALTIES[name] if name in PENALTIES else FACTORS[name]
