"""`Controlled`: what a loss makes of a latency, once it has one: term, target, schedule, constraint, projection."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from math import inf
from statistics import NormalDist

import torch
from torch import Tensor, nn

from latency_nas.errors import SearchError
from latency_nas.search.loss.constraint import CONSTRAINTS, Constraint, Float64State
from latency_nas.search.loss.penalty import FACTORS, PENALTIES, FBNet, ProxylessLog, check_factor, refuse_misreading
from latency_nas.search.loss.schedule import Schedule
from latency_nas.search.loss.settling import WITHIN, settling_term
from latency_nas.search.plan.plan import Architecture, CostPlan
from latency_nas.search.select.projection import Budget, likeliest, project

__all__ = ["Controlled", "Penalty"]

Penalty = Callable[[Tensor, float], Tensor]

_LEAST = 1e-300  # a probability that is nil still has a logarithm


class Controlled(Float64State, ABC):
    """A term weight x scale x penalty(LAT, target), where LAT is the expected latency or a quantile of it.

    Args:
        target_ms: the latency to reach; None for as little as the weight makes of it.
        weight: of the term.
        penalty: a name of `PENALTIES`, `FACTORS` or `CONSTRAINTS`; or a constraint, a factor, or any function of the
            latency and the target.
        temperature: to begin with.
        schedule: of weight and temperature.
        target_quantile: 0.9 keeps this quantile of the estimate on the target, and not the estimate itself, which is
            taken to be normal with its own standard deviation.

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
        target_ms: float | None,
        weight: float,
        penalty: str | Penalty | Constraint,
        temperature: float,
        schedule: Schedule | None,
        target_quantile: float | None,
    ) -> None:
        super().__init__()
        if not weight >= 0:
            raise SearchError(f"Expected `weight` to be a number >= 0, but got {weight}.")
        if not temperature > 0:
            raise SearchError(f"Expected `temperature` to be a positive number, but got {temperature}.")
        if target_quantile is not None and not 0.5 <= target_quantile < 1:
            raise SearchError(f"Expected `target_quantile` to be from 0.5 to below 1, but got {target_quantile}.")
        self.weight, self.schedule, self.target_quantile = weight, schedule, target_quantile
        self.n_std = 0.0 if target_quantile is None else NormalDist().inv_cdf(target_quantile)
        self.penalty_name = penalty if isinstance(penalty, str) else type(penalty).__name__
        self.penalty = _penalty_of(penalty) if isinstance(penalty, str) else penalty
        self.n_terms = 0  # terms that were asked for: shows whether a training step calls the loss itself
        scale = 1.0 if schedule is None else schedule.scale_at(0.0)
        self._aim: Architecture | None = None  # of the step that is under way
        buffers = {"temperature": temperature, "first_temperature": 0.0, "scale": scale, "pull": 0.0}
        for name, value in buffers.items():
            self.register_buffer(name, torch.tensor(float(value), dtype=torch.float64))
        _check_positive(target_ms)
        self._target_ms = target_ms

    # --- what the loss has to say

    @property
    @abstractmethod
    def plan(self) -> CostPlan:
        """What each candidate costs."""

    @property
    @abstractmethod
    def attached(self) -> bool:
        """Whether there is a plan."""

    @abstractmethod
    def expected_ms(self) -> Tensor:
        """E[LAT], a float64 scalar."""

    @abstractmethod
    def std_ms(self) -> Tensor:
        """One standard deviation of the estimate, a float64 scalar."""

    @abstractmethod
    def gates(self) -> Tensor:
        """The probability of each candidate, of shape ``(choices, most candidates)``."""

    @abstractmethod
    def architecture(self) -> Architecture:
        """The likeliest candidate of each choice."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Equal exactly for equal tables."""

    @abstractmethod
    def attach(self, supernet: nn.Module, example_input: Tensor | tuple[Tensor, ...]) -> CostPlan:
        """Make the plan."""

    # --- the target

    @property
    def target_ms(self) -> float | None:
        """The latency to reach, in milliseconds; it can be set at any time.

        Raises:
            SearchError: when set to what is not positive, or to what the attached supernet cannot reach.
        """
        return self._target_ms

    @target_ms.setter
    def target_ms(self, target_ms: float | None) -> None:
        _check_positive(target_ms)
        if self.attached:
            self._check_target(target_ms, self.plan)
        self._target_ms = target_ms

    def _check_target(self, target_ms: float | None, plan: CostPlan) -> None:
        """Refuse a target that `plan` cannot reach, and a factor that breaks within its bounds."""
        check_target(target_ms, plan)
        if isinstance(self.penalty, FBNet | ProxylessLog):
            check_factor(self.penalty, plan.bounds_ms()[0], target_ms)

    # --- the term

    def controlled_ms(self) -> Tensor:
        """What is held against the target: the expected latency, or its quantile."""
        return self.expected_ms() + self.n_std * self.std_ms() if self.n_std else self.expected_ms()

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
        if self.target_ms is None:
            if isinstance(self.penalty, Constraint):
                raise SearchError("Expected a target for the constraint, but `target_ms` is None.")
            return self._share() * self.controlled_ms()
        term = self._share() * self.penalty(self.controlled_ms(), self.target_ms)
        return term + self.settling() if self.settles else term

    def _share(self) -> Tensor | float:
        return self.weight if self.schedule is None else self.weight * self.scale

    def combine(self, task_loss: Tensor) -> Tensor:
        """The whole loss: ``task_loss + latency()``, or its product with a factor, and what settles the search.

        A factor f enters as 1 + weight x scale x (f - 1), so that a warm-up begins with the task's loss alone.
        """
        if not self.multiplies:
            return task_loss + self.term().to(task_loss.dtype)
        loss = task_loss * self.factor().to(task_loss.dtype)
        return loss + self.settling().to(task_loss.dtype) if self.settles else loss

    def factor(self) -> Tensor:
        """What the task's loss is multiplied by, in float64.

        Raises:
            SearchError: if the penalty is a term.
        """
        if not isinstance(self.penalty, FBNet | ProxylessLog):
            raise SearchError(f"Expected a factor, but {self.penalty_name} is added to the task's loss.")
        self.n_terms += 1
        return 1 + self._share() * (self.penalty(self.controlled_ms(), self.target_ms) - 1)

    @property
    def settles(self) -> bool:
        """Whether the search is in the part in which it settles; only then does a step wait for the device."""
        scheduled = self.schedule is not None and self.schedule.settle > 0 and self.target_ms is not None
        return scheduled and float(self.pull) > 0

    def settling(self) -> Tensor:
        """The term that draws the parameters to an architecture on the target (`latency_nas.search.loss.settling`)."""
        return self.pull * settling_term(self.gates(), self.aim(), self.temperature)

    def aim(self) -> Architecture:
        """The architecture that a step is drawn to: the argmax if it is on the target, or else `project`'s."""
        if self._aim is None:
            here = self.architecture()
            self.aim_at(here if self.budget(within=WITHIN).keeps(here) else self.project(within=WITHIN))
        return self._aim or Architecture()

    def aim_at(self, architecture: Architecture) -> None:
        """Let this be `aim` until the next `step`: one that keeps other targets too."""
        self._aim = architecture

    @property
    def multiplies(self) -> bool:
        """Whether the penalty is a factor of the task's loss."""
        return isinstance(self.penalty, FBNet | ProxylessLog)

    @property
    def differentiable(self) -> bool:
        """Whether the architecture parameters require a gradient now."""
        return self.expected_ms().requires_grad

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

    def step(self, progress: float | None = None) -> bool:
        """To be called after each step of the architecture: move the multiplier, and follow the schedule.

        Args:
            progress: of the search, from 0 to 1; None leaves weight and temperature.

        Returns:
            Whether the multiplier was moved.
        """
        self._aim = None
        if progress is not None:
            self.anneal(progress)
        if not isinstance(self.penalty, Constraint) or self.target_ms is None or float(self.scale) == 0:
            return False
        return self.penalty.update(self.argmax_controlled_ms, self.target_ms)

    # --- where it stands

    def argmax_ms(self) -> float:
        """The latency of `architecture`, in milliseconds."""
        return self.plan.latency_ms(self.architecture())

    def argmax_controlled_ms(self) -> float:
        """What is held against the target, of `architecture`."""
        return Budget(plan=self.plan, at_most=inf, n_std=self.n_std).cost(self.architecture())

    def on_target(self, tolerance: float) -> bool:
        """Whether the argmax architecture is within this share of the target; always, if there is none."""
        return self.target_ms is None or abs(self.argmax_controlled_ms() / self.target_ms - 1) <= tolerance

    def figures(self) -> dict[str, float]:
        """Where the search stands, by the names under which it is logged."""
        entropy = self.entropy()
        figures = {
            "latency/expected_ms": float(self.expected_ms().detach()),
            "latency/argmax_ms": self.argmax_ms(),
            "latency/temperature": float(self.temperature),
            "latency/entropy": sum(entropy.values()) / len(entropy),
        }
        if self.target_ms is not None:
            figures["latency/target_ms"] = self.target_ms
        if isinstance(self.penalty, Constraint):
            figures["latency/multiplier"] = float(self.penalty.multiplier)
        return figures | {f"latency/entropy/{name}": value for name, value in entropy.items()}

    def entropy(self) -> dict[str, float]:
        """The entropy of each choice's gates, in nats: 0 when it has chosen."""
        gates = self.gates().detach()
        values = -torch.xlogy(gates, gates).sum(dim=1)
        return dict(zip(self.plan.choices, values.tolist(), strict=True))

    # --- the end

    def log_probabilities(self) -> dict[str, list[float]]:
        """The logarithm of each candidate's probability."""
        rows = self.gates().detach().clamp(min=_LEAST).log().tolist()
        plan = self.plan
        return {
            name: row[: len(candidates)]
            for name, row, candidates in zip(plan.choices, rows, plan.candidates, strict=True)
        }

    def budget(self, *, within: float | None = None) -> Budget:
        """The target as limits: not above it, nor more than the share `within` below it."""
        if self.target_ms is None:
            raise SearchError("Expected a target for the projection, but `target_ms` is None.")
        at_least = -inf if within is None else self.target_ms * (1 - within)
        return Budget(plan=self.plan, at_most=self.target_ms, at_least=at_least, n_std=self.n_std)

    def project(self, *, within: float | None = None) -> Architecture:
        """The likeliest architecture that is not above the target: how a search with a hard budget ends.

        Args:
            within: 0.03 also rules out what lies more than 3 % below the target, unless nothing else is left.

        Returns:
            Choice -> the index of its candidate. The architecture parameters are left as they are.

        Raises:
            SearchError: if there is no target, or no architecture keeps it.
        """
        scores = self.log_probabilities()
        return likeliest(scores, [self.budget(within=within)]) or project(scores, [self.budget()])


def _penalty_of(name: str) -> Penalty | Constraint:
    refuse_misreading(name)
    if name in CONSTRAINTS:
        return CONSTRAINTS[name]()
    if name not in PENALTIES and name not in FACTORS:
        known = ", ".join([*PENALTIES, *FACTORS, *CONSTRAINTS])
        raise SearchError(f"Expected `penalty` to be one of {known}, but got {name!r}.")
    return PENALTIES[name] if name in PENALTIES else FACTORS[name]


def _check_positive(target_ms: float | None) -> None:
    if target_ms is not None and not target_ms > 0:
        raise SearchError(f"Expected `target_ms` to be a positive number of milliseconds, but got {target_ms}.")


def check_target(target_ms: float | None, plan: CostPlan) -> None:
    """Refuse a target outside what the supernet can reach.

    Raises:
        SearchError: with both bounds, rounded so that each of them is within reach.
    """
    cheapest, dearest = plan.bounds_ms()
    if target_ms is not None and not cheapest <= target_ms <= dearest:
        shown = [
            Context(prec=4, rounding=mode).create_decimal(bound)
            for mode, bound in ((ROUND_CEILING, cheapest), (ROUND_FLOOR, dearest))
        ]
        raise SearchError(
            f"Expected a target that the supernet can reach, from {shown[0]} ms (its cheapest architecture) to "
            f"{shown[1]} ms (its dearest), but got {target_ms:.4g} ms."
        )
