"""`LatencyTerm`: a term together with the plan that its gates are of: target, figures, and the end of a search."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn

from latency_nas.search.loss.constraint import Constraint
from latency_nas.search.loss.discretization import entropies, log_probabilities, within_targets
from latency_nas.search.loss.penalty import FBNet, ProxylessLog, check_factor
from latency_nas.search.loss.settling import WITHIN, settling_term
from latency_nas.search.loss.target import Target
from latency_nas.search.loss.term import Term
from latency_nas.search.plan.architecture import Architecture
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.projection import Budget

__all__ = ["LatencyTerm"]


class LatencyTerm(Term):
    """A term of a plan and gates, whose cost is held to a target. The arguments are those of `Term`.

    Names that end in ``_ms`` are for latencies: they raise `QuantityError` for what is not measured in milliseconds.
    """

    _aim: Architecture | None = None  # of the step that is under way

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
    def target(self) -> float | None:
        """The cost to reach, in the unit of `quantity`; it can be set at any time.

        Raises:
            SearchError: when set to what is not positive, or to what the attached supernet cannot reach.
        """
        return self._target.value

    @target.setter
    def target(self, value: float | None) -> None:
        target = Target(value=value, quantile=self._target.quantile, quantity=self.quantity)
        if self.attached:
            self._check(target, self.plan)
        self._target = target

    def _check(self, target: Target, plan: CostPlan) -> None:
        """Refuse a target that `plan` cannot reach, and a factor that breaks within its bounds."""
        target.check(plan)
        if isinstance(self.penalty, FBNet | ProxylessLog):
            check_factor(self.penalty, plan.bounds()[0], target.value, self.quantity)

    def budget(self, *, within: float | None = None) -> Budget:
        """The target as limits: not above it, nor more than the share `within` below it."""
        return self._target.budget(self.plan, within=within)

    def goal(self) -> tuple[Target, CostPlan]:
        """The target, and the plan that it is of."""
        return self._target, self.plan

    # --- the part of a search in which it settles

    def term(self) -> Tensor:
        """The term in float64, and what settles the search.

        Raises:
            SearchError: if the penalty is a factor, or a constraint without a target.
        """
        term = super().term()
        return term + self.settling() if self.settles else term

    def combine(self, task_loss: Tensor) -> Tensor:
        """The whole loss: ``task_loss + latency()``, or its product with a factor, and what settles the search.

        A factor f enters as 1 + weight x scale x (f - 1), so that a warm-up begins with the task's loss alone.
        """
        loss = super().combine(task_loss)
        return loss + self.settling().to(task_loss.dtype) if self.multiplies and self.settles else loss

    @property
    def settles(self) -> bool:
        """Whether the search is in the part in which it settles; only then does a step wait for the device."""
        scheduled = self.schedule is not None and self.schedule.settle > 0 and self.target is not None
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

    def step(self, progress: float | None = None) -> bool:
        """To be called after each step of the architecture: move the multiplier, and follow the schedule.

        Args:
            progress: Progress of the search, from 0 to 1; None leaves weight and temperature.

        Returns:
            Whether the multiplier was moved.
        """
        self._aim = None
        if progress is not None:
            self.anneal(progress)
        return self.move_multiplier(self.argmax_controlled)

    # --- where it stands

    def argmax_cost(self) -> float:
        """The cost of `architecture`."""
        return self.plan.cost(self.architecture())

    def argmax_controlled(self) -> float:
        """What is held against the target, of `architecture`."""
        return self._target.controlled(self.plan, self.architecture())

    def on_target(self, tolerance: float) -> bool:
        """Whether the argmax architecture is within this share of the target; always, if there is none."""
        return self.target is None or abs(self.argmax_controlled() / self.target - 1) <= tolerance

    def figures(self) -> dict[str, float]:
        """Where the search stands, by the names under which it is logged: ``latency/expected_ms`` and its kin.

        The unit that ends a name is that of `quantity`: ``latency/expected_params`` where parameters are counted.
        """
        entropy, unit = self.entropy(), self.quantity.suffix
        figures = {
            f"latency/expected_{unit}": float(self.expected().detach()),
            f"latency/argmax_{unit}": self.argmax_cost(),
            "latency/temperature": float(self.temperature),
            "latency/entropy": sum(entropy.values()) / len(entropy),
        }
        if self.target is not None:
            figures[f"latency/target_{unit}"] = self.target
        if isinstance(self.penalty, Constraint):
            figures["latency/multiplier"] = float(self.penalty.multiplier)
        return figures | {f"latency/entropy/{name}": value for name, value in entropy.items()}

    def entropy(self) -> dict[str, float]:
        """The entropy of each choice's gates, in nats: 0 when it has chosen."""
        return entropies(self.gates(), self.plan)

    # --- the end

    def log_probabilities(self) -> dict[str, list[float]]:
        """The logarithm of each candidate's probability."""
        return log_probabilities(self.gates(), self.plan)

    def project(self, *, within: float | None = None) -> Architecture:
        """The likeliest architecture that is not above the target: how a search with a hard budget ends.

        Args:
            within: Share of the target; 0.03 also rules out what lies more than 3 % below it, unless nothing else is
                left.

        Returns:
            Choice -> the index of its candidate. The architecture parameters are left as they are.

        Raises:
            SearchError: if there is no target, or no architecture keeps it.
        """
        return within_targets(self.log_probabilities(), [self.goal()], within=within)

    # --- latencies, in milliseconds

    @property
    def target_ms(self) -> float | None:
        """`target` of a latency, in milliseconds; it can be set at any time."""
        self.quantity.check_latency("target_ms", "target")
        return self.target

    @target_ms.setter
    def target_ms(self, target_ms: float | None) -> None:
        self.quantity.check_latency("target_ms", "target")
        self.target = target_ms

    def expected_ms(self) -> Tensor:
        """`expected` of a latency, in milliseconds."""
        self.quantity.check_latency("expected_ms", "expected")
        return self.expected()

    def std_ms(self) -> Tensor:
        """`std` of a latency, in milliseconds."""
        self.quantity.check_latency("std_ms", "std")
        return self.std()

    def argmax_ms(self) -> float:
        """`argmax_cost` of a latency, in milliseconds."""
        self.quantity.check_latency("argmax_ms", "argmax_cost")
        return self.argmax_cost()
