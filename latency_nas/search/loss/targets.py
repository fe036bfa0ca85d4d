"""Several targets at once: two devices, or latency together with parameters, multiply-accumulates or memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from torch import Tensor, nn

from latency_nas.errors import SearchError
from latency_nas.estimate.estimate import Estimate
from latency_nas.search.loss.discretization import WITHIN, within_targets
from latency_nas.search.loss.latency_term import Check, LatencyTerm
from latency_nas.search.loss.loss import LatencyLoss
from latency_nas.search.loss.term import Term
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.supernet.choice import Choice
from latency_nas.search.supernet.naming import Choices
from latency_nas.search.supernet.supernet_space import Derive

__all__ = ["Targets"]


class Targets(nn.Module, LatencyTerm):
    """Several losses over one supernet, used as one.

    What is of one target (`price`, `plan`, `expected`, `argmax_ms` and their kin) is a dictionary by name.

    Args:
        losses: Name for the logs -> loss, each with a table or counter, a target and a penalty or constraint of its
            own.

    Raises:
        SearchError: if there are none.

    Example:
        >>> latency = Targets({                                              # doctest: +SKIP
        ...     "phone": LatencyLoss("SD865", target_ms=20, penalty="inequality"),
        ...     "size": LatencyLoss(ResourceCounter("params"), target=3e6, penalty="inequality"),
        ... })
        >>> latency.attach(supernet, example_input)                          # doctest: +SKIP
        >>> loss = latency.combine(cross_entropy(supernet(x), y))            # doctest: +SKIP
    """

    def __init__(self, losses: Mapping[str, LatencyLoss]) -> None:
        super().__init__()
        if not losses:
            raise SearchError("Expected at least one loss, but got none.")
        self.losses = nn.ModuleDict(losses)
        self.choices: tuple[Choice, ...] = ()
        self.options: dict[str, tuple[Any, ...]] = {}
        self._supernet: tuple[nn.Module, ...] = ()

    def by_name(self) -> dict[str, LatencyLoss]:
        """The losses."""
        return {name: cast(LatencyLoss, loss) for name, loss in self.losses.items()}

    def terms(self) -> dict[str, Term]:
        """The losses, as terms."""
        return dict(self.by_name())

    def attach(
        self,
        supernet: nn.Module,
        example_input: Tensor | tuple[Tensor, ...] | None = None,
        *,
        choices: Choices | None = None,
        run: Callable[[Any], Any] | None = None,
        sampled: bool = False,
        derive: Derive | None = None,
        check: Check = "auto",
    ) -> dict[str, CostPlan]:
        """Attach each, as `LatencyLoss.attach`."""
        plans = {
            name: loss.attach(
                supernet, example_input, choices=choices, run=run, sampled=sampled, derive=derive, check=check
            )
            for name, loss in self.by_name().items()
        }
        first = next(iter(self.by_name().values()))
        self.choices, self.options, self._supernet = first.choices, first.options, (supernet,)
        return plans

    def detach(self) -> None:
        """Let go of the supernet."""
        for loss in self.by_name().values():
            loss.detach()
        self.choices, self.options, self._supernet = (), {}, ()

    @property
    def attached(self) -> bool:
        """Whether all are attached."""
        return all(loss.attached for loss in self.by_name().values())

    @property
    def plan(self) -> dict[str, CostPlan]:
        """What each candidate costs, for each target."""
        return {name: loss.plan for name, loss in self.by_name().items()}

    # --- the term

    def forward(self) -> Tensor:
        """The sum of the terms, of shape ``()``."""
        self._share_set_point()
        first, *others = self.by_name().values()
        total: Tensor = first()
        for loss in others:
            total = total + loss()
        return total

    def combine(self, task_loss: Tensor) -> Tensor:
        """The whole loss: factors are multiplied by, terms are added."""
        self._share_set_point()
        for loss in sorted(self.by_name().values(), key=lambda loss: not loss.multiplies):
            task_loss = loss.combine(task_loss)
        return task_loss

    def _share_set_point(self) -> None:
        """Let the discretization terms of all losses draw to one architecture: one that keeps every target."""
        losses = [loss for loss in self.by_name().values() if loss.discretizes]
        if not losses:
            return
        set_point = self.architecture()
        if not all(loss.budget(within=WITHIN).keeps(set_point) for loss in losses):
            goals = [loss.goal() for loss in losses]
            set_point = within_targets(losses[0].log_probabilities(), goals, within=WITHIN)
        for loss in losses:
            loss.hold(set_point)

    # --- by target

    def price(self, architecture: Mapping[str, Any]) -> dict[str, Estimate]:
        """The estimates of one architecture or configuration: see `LatencyTerm.price`."""
        return {name: self._estimate(architecture, plan) for name, plan in self.plan.items()}

    def expected(self) -> dict[str, Tensor]:
        """E[cost] of each, float64 scalars, differentiable with respect to the architecture parameters."""
        return {name: loss.expected() for name, loss in self.by_name().items()}

    def expected_ms(self) -> dict[str, Tensor]:
        """`expected` of those that are latencies, in milliseconds."""
        return {name: loss.expected_ms() for name, loss in self._latencies().items()}

    def argmax_cost(self) -> dict[str, float]:
        """The cost of `architecture`, by each."""
        return {name: loss.argmax_cost() for name, loss in self.by_name().items()}

    def argmax_ms(self) -> dict[str, float]:
        """`argmax_cost` of those that are latencies, in milliseconds."""
        return {name: loss.argmax_ms() for name, loss in self._latencies().items()}

    @property
    def target(self) -> dict[str, float | None]:
        """The targets; they are set on the losses themselves."""
        return {name: loss.target for name, loss in self.by_name().items()}

    @property
    def target_ms(self) -> dict[str, float | None]:
        """`target` of those that are latencies, in milliseconds."""
        return {name: loss.target_ms for name, loss in self._latencies().items()}

    def _latencies(self) -> dict[str, LatencyLoss]:
        return {name: loss for name, loss in self.by_name().items() if loss.quantity.is_latency}
