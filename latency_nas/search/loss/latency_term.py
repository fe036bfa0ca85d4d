"""`LatencyTerm`: the interface of all latency terms, in torch and in Paddle, for one target or several."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

from latency_nas.errors import SearchError
from latency_nas.search.loss.attaching import Check
from latency_nas.search.loss.configured_term import ConfiguredTerm
from latency_nas.search.loss.discretization import (
    WITHIN,
    entropies,
    log_probabilities,
    make_argmax,
    most_probable,
    within_targets,
)
from latency_nas.search.loss.schedule import Schedule
from latency_nas.search.plan.architecture import Architecture
from latency_nas.search.plan.limits import ChoiceLimit
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.plan.summary import Column, as_text, summary_table
from latency_nas.search.supernet.choice import Choice
from latency_nas.search.supernet.naming import Choices

__all__ = ["LatencyTerm"]


class LatencyTerm(ConfiguredTerm):
    """The expected cost of a supernet as a term of its loss: `LatencyLoss`, `Targets` or `PaddleLatencyLoss`.

    Where a loss with one target gives a value, `Targets` gives a dictionary with a value for each target.
    """

    choices: tuple[Choice, ...]  # choices of the attached supernet
    _supernet: tuple[Any, ...]  # in a tuple, so that it is not registered as a part of the loss

    @abstractmethod
    def attach(
        self,
        supernet: Any,
        example_input: Any = None,
        *,
        choices: Choices | None = None,
        run: Callable[[Any], Any] | None = None,
        sampled: bool = False,
        derive: Callable[[Any, Architecture], Any] | None = None,
        limits: ChoiceLimit | Sequence[ChoiceLimit] = (),
        check: Check = "auto",
    ) -> CostPlan | dict[str, CostPlan]:
        """Find the choices of a supernet, and read and price every candidate once; see `LatencyLoss.attach`."""

    @abstractmethod
    def detach(self) -> None:
        """Release the supernet."""

    @abstractmethod
    def combine(self, task_loss: Any) -> Any:
        """The whole loss: the task's loss plus the term, or its product with a factor."""

    @property
    @abstractmethod
    def plan(self) -> CostPlan | dict[str, CostPlan]:
        """What each candidate costs."""

    @property
    @abstractmethod
    def attached(self) -> bool:
        """Whether `attach` was called."""

    @property
    def n_terms(self) -> int:
        """How often the term was computed."""
        return sum(loss.n_terms for loss in self.terms().values())

    @property
    def differentiable(self) -> bool:
        """Whether the architecture parameters require a gradient now."""
        return self._first().differentiable

    def fingerprint(self) -> str:
        """A hash of the tables: equal if and only if they are."""
        parts = [loss.fingerprint() for loss in self.terms().values()]
        return parts[0] if len(parts) == 1 else hashlib.sha256("".join(parts).encode()).hexdigest()

    # --- architectures

    def architecture(self) -> Architecture:
        """The candidate of each choice that has the largest weight, by the name of the choice.

        Raises:
            SearchError: if the gates are NaN.
        """
        first = self._first()
        return most_probable(first.flat_gates(), first.plan)

    def log_probabilities(self) -> dict[str, list[float]]:
        """The logarithm of each candidate's probability."""
        first = self._first()
        return log_probabilities(first.gates(), first.plan)

    def entropy(self) -> dict[str, float]:
        """The entropy of each choice's gates, in nats; 0 when one gate is 1."""
        first = self._first()
        return entropies(first.gates(), first.plan)

    # --- the end of a search

    @overload
    def project(self, *, within: float | None = WITHIN) -> Architecture: ...

    @overload
    def project(self, config: Mapping[str, Any]) -> dict[str, Any]: ...

    def project(self, config: Mapping[str, Any] | None = None, *, within: float | None = WITHIN) -> dict[str, Any]:
        """The most probable architecture above no target and within all limits: `discretize` makes it the argmax.

        With a configuration, it is the nearest one that is above no target: first the one in which the fewest of the
        given choices are changed; of several the most probable one, where choices with weights were left out, and
        otherwise the one that costs most, to a share of 1e-6. One that is above no target is not changed.

        Args:
            config: Option of each choice, or index or name of its candidate. Choices with weights may be left out.
                None for the configuration in use, where choices have no weights.
            within: Share of the target; 0.03 also excludes what lies more than 3 % below it, unless nothing else is
                left. None excludes only what is above. A configuration is changed only if it is above a target.

        Returns:
            Choice -> the index of its candidate; choice -> option, if a configuration of options was given. The
            architecture parameters and the configuration in use are left as they are.

        Raises:
            SearchError: if a target is missing, no architecture keeps it, or a choice that has no weights is not given.
        """
        if config is not None or any(picked.sizes for picked in self._picked()):
            return self._nearest(config)
        goals = [loss.goal() for loss in self.terms().values()]
        return within_targets(self.log_probabilities(), goals, within=within)

    def discretize(self, *, within: float | None = WITHIN) -> Architecture:
        """End a search under a hard budget: make the architecture that `project` gives the argmax.

        Penalties and constraints steer the expected cost towards the target. The argmax jumps from one architecture to
        the next and seldom ends on the target, so this is the last step of a search. For each choice whose argmax
        differs from `project`, the parameter of its candidate is raised just above the others; choices without weights
        are in the configuration of `project` from then on (`use_config`).

        Args:
            within: Share of the target, as in `project`.

        Returns:
            The architecture, which `architecture` now gives as well: choice -> the index of its candidate.

        Raises:
            SearchError: in the cases of `project`; if a function gives the weights of a choice, which are not the
                softmax of as many numbers of one parameter, without a `set_architecture` (see `groups_of`); if two
                choices share their parameters, or `set_architecture` makes another architecture the argmax.
        """
        found = self.project(within=within)
        make_argmax(found, self.choices, self._supernet[0] if self._supernet else None)
        for picked in self._picked():
            if picked.sizes:
                picked.use(found)
        if differing := [name for name, index in self.architecture().items() if found[name] != index]:
            raise SearchError(
                f"Expected each choice to have architecture parameters of its own, which `set_architecture` sets where "
                f"it is given, but {', '.join(differing)} still differ: name choices that share parameters as one "
                f"choice of several places."
            )
        return found

    # --- the course of a search

    def use_schedule(self, schedule: Schedule) -> None:
        """Follow another schedule from now on, for every target."""
        for loss in self.terms().values():
            loss.use_schedule(schedule)

    def anneal(self, progress: float) -> None:
        """Set scale and temperature to what the schedule has for `progress`, from 0 to 1."""
        for loss in self.terms().values():
            loss.anneal(progress)

    def step(self, progress: float | None = None) -> bool:
        """Update the multipliers, and follow the schedule. Call it after each step of the architecture parameters.

        Args:
            progress: Progress of the search, from 0 to 1; with None, weight and temperature stay as they are.

        Returns:
            Whether a multiplier was updated.
        """
        return any([loss.step(progress) for loss in self.terms().values()])  # noqa: C419 - all of them

    # --- the present state

    def on_target(self, tolerance: float) -> bool:
        """Whether the most probable architecture is within this share of every target."""
        return all(loss.on_target(tolerance) for loss in self.terms().values())

    def figures(self) -> dict[str, float]:
        """Figures that describe the state of the search, by the names under which they are logged.

        ``latency/expected_ms`` and others; for several targets ``latency/<name>/expected_ms``. The entropies are the
        same for all targets and are given once.
        """
        figures: dict[str, float] = {}
        for name, loss in self.terms().items():
            for key, value in loss.figures().items():
                is_shared = not name or key.startswith("latency/entropy")
                figures[key if is_shared else key.replace("latency/", f"latency/{name}/", 1)] = value
        return figures

    def summary(self) -> str:
        """The most probable architecture by stage and choice, as text.

        For each choice: its candidate and the probability of that, its cost beside those of the cheapest and the
        dearest candidate, and its share of the total.
        """
        terms, probabilities = self.terms(), self._first().gates().detach().max(dim=1).values.tolist()
        columns = {
            name: Column(plan=loss.plan, expected=float(loss.expected().detach()), target=loss.target)
            for name, loss in terms.items()
        }
        return as_text(summary_table(columns, self.architecture(), probabilities))
