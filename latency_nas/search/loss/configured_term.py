"""`ConfiguredTerm`: architectures and configurations of a latency term: priced, used, and drawn within a budget."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from latency_nas.errors import SearchError
from latency_nas.estimate.estimate import Estimate
from latency_nas.search.loss.configuration import indices_given, options_of_architecture, picks_of
from latency_nas.search.loss.discretization import log_probabilities
from latency_nas.search.loss.term import Term
from latency_nas.search.plan.architecture import Architecture
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.budget import Limit
from latency_nas.search.select.projection import nearest_within
from latency_nas.search.select.random_architecture import random_within
from latency_nas.search.supernet.picked import Picked

__all__ = ["ConfiguredTerm"]


class ConfiguredTerm(ABC):
    """A latency term over a supernet whose choices have weights, are configured, or both."""

    options: dict[str, tuple[Any, ...]]  # options of each choice, for a supernet that is configured

    @abstractmethod
    def terms(self) -> dict[str, Term]:
        """The terms in torch by name, at the present architecture parameters; the name of a single term is empty."""

    @abstractmethod
    def _picked(self) -> list[Picked]:
        """The configuration in use of each term.

        Raises:
            SearchError: before `attach`, or if the weights of all choices were given with a plan.
        """

    def _first(self) -> Term:
        return next(iter(self.terms().values()))

    @abstractmethod
    def price(self, architecture: Mapping[str, Any]) -> Estimate | dict[str, Estimate]:
        """The estimate of one architecture or configuration.

        Args:
            architecture: Candidate of each choice, by its index or its name; or the option of each choice, for a
                supernet that was attached by its options. Results of `architecture` and `project` are priced as well.

        Raises:
            SearchError: if a choice is not given one of its candidates, or a number could be an index or a name.
        """

    def _estimate(self, architecture: Mapping[str, Any], plan: CostPlan) -> Estimate:
        known = isinstance(architecture, Architecture)
        return plan.estimate(architecture if known else picks_of(architecture, plan, self.options))

    def config(self, architecture: Mapping[str, int]) -> dict[str, Any]:
        """The configuration of an architecture: choice -> option, as `configure` takes it.

        Choices among modules, where the supernet has both kinds, keep the index of their candidate.

        Raises:
            SearchError: if the supernet was not attached by its options.
        """
        return options_of_architecture(architecture, self.options)

    def use_config(self, config: Mapping[str, Any]) -> None:
        """Price the term at a configuration from now on, where choices have no weights.

        A controller, an evolution or the training of sampled networks calls it for each configuration. The term,
        `combine`, `expected` and the multipliers then follow this configuration; choices with weights keep these, and
        the term is differentiable in them. The supernet itself is not configured.

        Args:
            config: Option of each choice, or index or name of its candidate. Choices with weights may be left out, and
                what is given for them is not used.

        Raises:
            SearchError: if a choice without weights is not given one of its candidates, or all choices have weights.

        Example:
            >>> config = latency.random(max_ms=20)                                   # doctest: +SKIP
            >>> latency.use_config(config)                                           # doctest: +SKIP
            >>> reward = accuracy(net.configured(config)) - latency().item()         # doctest: +SKIP
        """
        given = indices_given(config, self._first().plan, self.options)
        for picked in self._picked():
            picked.use(given)

    def _random(self, limits: Sequence[Limit], seed: int | None) -> dict[str, Any]:
        return self._as_given(random_within(limits, seed=seed), {})

    def _nearest(self, config: Mapping[str, Any] | None) -> dict[str, Any]:
        """The nearest configuration within the targets: see `LatencyTerm.project`."""
        first, [picked, *_] = self._first(), self._picked()
        start = dict(picked.indices) if config is None else indices_given(config, first.plan, self.options)
        if missing := [name for name in picked.sizes if name not in start]:
            raise SearchError(
                f"Expected a configuration with each choice that has no weights, but it lacks {', '.join(missing)}: "
                f"latency.project(config) gives the nearest one within the budget."
            )
        scores = None
        if len(start) < len(first.plan.choices):
            with picked.using(start):
                scores = log_probabilities(self._first().gates(), first.plan)
        budgets = [target.budget(plan) for target, plan in (term.goal() for term in self.terms().values())]
        return self._as_given(nearest_within(start, budgets, scores), config)

    def _as_given(self, found: Architecture, config: Mapping[str, Any] | None) -> dict[str, Any]:
        """`found` as a configuration, unless the supernet has no options or an architecture was given."""
        is_config = bool(self.options) and config is not None and not isinstance(config, Architecture)
        return self.config(found) if is_config else found
