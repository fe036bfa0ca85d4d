"""`Term`: the term weight x scale x penalty(LAT, target) of a loss in torch, and its state over a search."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from latency_nas.errors import SearchError
from latency_nas.kernel import Quantity
from latency_nas.search.loss.constraint import Constraint, Float64State
from latency_nas.search.loss.discretization import (
    WITHIN,
    entropies,
    log_probabilities,
    most_probable,
    within_targets,
)
from latency_nas.search.loss.discretization_term import discretization_term
from latency_nas.search.loss.penalty import AnyPenalty, Factor, named_penalty
from latency_nas.search.loss.schedule import Schedule
from latency_nas.search.loss.target import Target
from latency_nas.search.plan.architecture import Architecture
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.budget import Limit
from latency_nas.search.select.reach import reach

__all__ = ["Term"]


class Term(Float64State, ABC):
    """A term weight x scale x penalty(LAT, target), where LAT is the expected cost or a quantile of it.

    Args:
        target: Cost to reach.
        weight: Weight of the term.
        penalty: Penalty, factor or constraint, or the name of one; or any function of the cost and the target.
        temperature: Temperature at the beginning.
        schedule: Weight and temperature over the course of the search.

    Raises:
        SearchError: if an argument is out of range.
    """

    temperature: Tensor
    first_temperature: Tensor
    scale: Tensor
    strength: Tensor
    _set_point: Architecture | None = None  # of the current step

    def __init__(
        self,
        *,
        target: Target,
        weight: float,
        penalty: AnyPenalty,
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
        self.penalty = named_penalty(penalty) if isinstance(penalty, str) else penalty
        self._n_terms = 0
        scale = 1.0 if schedule is None else schedule.scale_at(0.0)
        buffers = {"temperature": temperature, "first_temperature": 0.0, "scale": scale, "strength": 0.0}
        for name, value in buffers.items():
            self.register_buffer(name, torch.tensor(float(value), dtype=torch.float64))

    @property
    @abstractmethod
    def plan(self) -> CostPlan:
        """What each candidate costs."""

    @property
    @abstractmethod
    def attached(self) -> bool:
        """Whether there is a plan."""

    @abstractmethod
    def gates(self) -> Tensor:
        """The probability of each candidate, of shape ``(choices, max_candidates)``, padded with zeros."""

    @abstractmethod
    def flat_gates(self) -> Tensor:
        """The probability of each candidate, one choice after the other, of shape ``(gates,)``, in float64."""

    @abstractmethod
    def expected(self) -> Tensor:
        """E[LAT], a float64 scalar, differentiable with respect to the architecture parameters."""

    @abstractmethod
    def std(self) -> Tensor:
        """One standard deviation of the estimate, a float64 scalar."""

    @abstractmethod
    def fingerprint(self) -> str:
        """A hash of the table: equal if and only if the tables are."""

    @property
    def n_terms(self) -> int:
        """How often the term was computed; this shows whether a training step calls the loss itself."""
        return self._n_terms

    # --- the target

    @property
    def quantity(self) -> Quantity:
        """The quantity that the cost is of: by default a latency in milliseconds."""
        return self._target.quantity

    @property
    def target(self) -> float | None:
        """The cost to reach, in the unit of `quantity`; it can be set at any time.

        Raises:
            SearchError: if it is set to a number that is not positive, or that the attached supernet cannot reach.
        """
        return self._target.value

    @target.setter
    def target(self, value: float | None) -> None:
        target = Target(value=value, quantile=self._target.quantile, quantity=self.quantity)
        if self.attached:
            self._check(target, self.plan)
        self._target = target

    def _check(self, target: Target, plan: CostPlan) -> None:
        """Refuse a target that `plan` cannot reach, and a factor whose formula is undefined for its costs."""
        target.check(plan)
        if isinstance(self.penalty, Factor):
            self.penalty.check(reach(plan)[0], target.value, self.quantity)

    def goal(self) -> tuple[Target, CostPlan]:
        """The target and the plan."""
        return self._target, self.plan

    def budget(self, *, within: float | None = None) -> Limit:
        """The target as limits: not above it, and not more than the share `within` below it."""
        return self._target.budget(self.plan, within=within)

    # --- the term

    def controlled(self) -> Tensor:
        """The cost that is compared with the target: the expected cost, or its quantile."""
        n_std = self._target.n_std
        return self.expected() + n_std * self.std() if n_std else self.expected()

    def term(self) -> Tensor:
        """The term in float64, with the discretization term.

        Raises:
            SearchError: if the penalty is a factor, or a constraint without a target.
        """
        if isinstance(self.penalty, Factor):
            raise SearchError(
                f"Expected latency.combine(task_loss): {type(self.penalty).__name__} multiplies the task's loss."
            )
        self._n_terms += 1
        target = self._target.value
        if target is None and isinstance(self.penalty, Constraint):
            name = "target_ms" if self.quantity.is_latency else "target"
            raise SearchError(f"Expected a target for the constraint, but `{name}` is None.")
        cost = self.controlled()
        term: Tensor = self._share() * (cost if target is None else self.penalty(cost, target))
        return term + self.discretization_term() if self.discretizes else term

    def factor(self) -> Tensor:
        """The factor of the task's loss in float64: 1 + weight x scale x (f - 1) for a factor f.

        Raises:
            SearchError: if the penalty is no factor.
        """
        if not isinstance(self.penalty, Factor):
            raise SearchError(f"Expected a factor, but {self.penalty_name} is added to the task's loss.")
        self._n_terms += 1
        return 1 + self._share() * (self.penalty(self.controlled(), self._target.value) - 1)

    @property
    def multiplies(self) -> bool:
        """Whether the penalty is a factor of the task's loss."""
        return isinstance(self.penalty, Factor)

    def combine(self, task_loss: Tensor) -> Tensor:
        """The whole loss: ``task_loss + latency()``, or the product with a factor, plus the discretization term.

        A factor f enters as 1 + weight x scale x (f - 1), so that a warm-up begins with the task's loss alone.
        """
        if not self.multiplies:
            return task_loss + self.term().to(task_loss.dtype)
        loss = task_loss * self.factor().to(task_loss.dtype)
        return loss + self.discretization_term().to(task_loss.dtype) if self.discretizes else loss

    def _share(self) -> Tensor | float:
        return self.weight if self.schedule is None else self.weight * self.scale

    @property
    def differentiable(self) -> bool:
        """Whether the architecture parameters require a gradient now."""
        return self.expected().requires_grad

    # --- the last part of a search

    @property
    def discretizes(self) -> bool:
        """Whether the discretization term is added now; only then does a step wait for the device."""
        scheduled = self.schedule is not None and self.schedule.discretization > 0 and self.target is not None
        return scheduled and float(self.strength) > 0

    def discretization_term(self) -> Tensor:
        """The term that draws the parameters to an architecture on the target."""
        return self.strength * discretization_term(self.gates(), self.set_point(), self.temperature)

    def set_point(self) -> Architecture:
        """The architecture that the current step draws to: the argmax if it is on the target, else the projection."""
        if self._set_point is None:
            argmax = most_probable(self.flat_gates(), self.plan)
            scores = log_probabilities(self.gates(), self.plan)
            on_target = self.budget(within=WITHIN).keeps(argmax)
            self.hold(argmax if on_target else within_targets(scores, [self.goal()], within=WITHIN))
        return self._set_point or Architecture()

    def hold(self, set_point: Architecture) -> None:
        """Use a set point until the next `step`: `Targets` gives one that keeps all targets."""
        self._set_point = set_point

    # --- the course of the search

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
        self.strength.fill_(self.schedule.strength_at(progress))

    def step(self, progress: float | None = None) -> bool:
        """Update the multiplier, and follow the schedule. Call it after each step of the architecture parameters.

        Args:
            progress: Progress of the search, from 0 to 1; with None, weight and temperature stay as they are.

        Returns:
            Whether the multiplier was updated.
        """
        self._set_point = None
        if progress is not None:
            self.anneal(progress)
        target = self._target.value
        if not isinstance(self.penalty, Constraint) or target is None or float(self.scale) == 0:
            return False
        return self.penalty.update(self.argmax_controlled, target)

    # --- the present state

    def argmax_controlled(self) -> float:
        """The cost of the most probable architecture that is compared with the target: the estimate or its quantile."""
        return self._target.compared_cost(self.plan, most_probable(self.flat_gates(), self.plan))

    def on_target(self, tolerance: float) -> bool:
        """Whether the most probable architecture is within this share of the target; true without a target."""
        return self.target is None or abs(self.argmax_controlled() / self.target - 1) <= tolerance

    def figures(self) -> dict[str, float]:
        """Figures that describe the state of the search, by the names under which they are logged.

        The names end in the unit of `quantity`: ``latency/expected_ms``, or ``latency/expected_params``.
        """
        entropy, unit = entropies(self.gates(), self.plan), self.quantity.suffix
        figures = {
            f"latency/expected_{unit}": float(self.expected().detach()),
            f"latency/argmax_{unit}": self.plan.cost(most_probable(self.flat_gates(), self.plan)),
            "latency/temperature": float(self.temperature),
            "latency/entropy": sum(entropy.values()) / len(entropy),
        }
        if self.target is not None:
            figures[f"latency/target_{unit}"] = self.target
        if isinstance(self.penalty, Constraint):
            figures["latency/multiplier"] = float(self.penalty.multiplier)
        return figures | {f"latency/entropy/{name}": value for name, value in entropy.items()}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Also from checkpoints in which `strength` was called ``pull``."""
        if f"{prefix}pull" in state_dict:
            state_dict[f"{prefix}strength"] = state_dict.pop(f"{prefix}pull")
        super()._load_from_state_dict(state_dict, prefix, *rest)
