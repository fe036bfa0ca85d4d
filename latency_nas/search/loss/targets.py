"""Several targets at once: two devices, or latency together with parameters, multiply-accumulates or memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from torch import Tensor, nn

from latency_nas.errors import SearchError
from latency_nas.estimate.estimate import Estimate
from latency_nas.search.loss.attaching import Check
from latency_nas.search.loss.discretization import WITHIN, within_targets
from latency_nas.search.loss.latency_term import LatencyTerm
from latency_nas.search.loss.loss import LatencyLoss
from latency_nas.search.loss.target import Target
from latency_nas.search.loss.term import Term
from latency_nas.search.plan.limits import ChoiceLimit
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.supernet.choice import Choice
from latency_nas.search.supernet.naming import Choices
from latency_nas.search.supernet.picked import Picked
from latency_nas.search.supernet.supernet_space import Derive

__all__ = ["Targets"]


class Targets(nn.Module, LatencyTerm):
    """Several losses over one supernet, used as one.

    `price`, `plan`, `expected`, `argmax_ms` and similar ones give dictionaries with a value for each loss.

    Args:
        losses: Losses by their names in the logs. Each has its own table or counter, target, and penalty or constraint.

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
        """The losses by name."""
        return {name: cast(LatencyLoss, loss) for name, loss in self.losses.items()}

    def terms(self) -> dict[str, Term]:
        """The losses by name."""
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
        limits: ChoiceLimit | Sequence[ChoiceLimit] = (),
        check: Check = "auto",
    ) -> dict[str, CostPlan]:
        """Attach each loss; see `LatencyLoss.attach`."""
        how: dict[str, Any] = {"choices": choices, "run": run, "sampled": sampled, "derive": derive}
        how |= {"limits": limits, "check": check}
        plans = {name: loss.attach(supernet, example_input, **how) for name, loss in self.by_name().items()}
        first = next(iter(self.by_name().values()))
        self.choices, self.options, self._supernet = first.choices, first.options, (supernet,)
        return plans

    def detach(self) -> None:
        """Release the supernet."""
        for loss in self.by_name().values():
            loss.detach()
        self.choices, self.options, self._supernet = (), {}, ()

    def _picked(self) -> list[Picked]:
        """The configuration in use, of each loss."""
        return [picked for loss in self.by_name().values() for picked in loss._picked()]  # noqa: SLF001 - its own

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
        """The whole loss: the task's loss times the factors, plus the terms."""
        self._share_set_point()
        for loss in sorted(self.by_name().values(), key=lambda loss: not loss.multiplies):
            task_loss = loss.combine(task_loss)
        return task_loss

    def _share_set_point(self) -> None:
        """Give the discretization terms of all losses one set point, which keeps every target."""
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

    def random(self, *, seed: int | None = None) -> dict[str, Any]:
        """A random configuration that is above no target, each equally likely: see `SingleTerm.random`."""
        return self._random([target.budget(plan) for target, plan in self._goals()], seed)

    def _goals(self) -> list[tuple[Target, CostPlan]]:
        return [loss.goal() for loss in self.by_name().values()]

    def price(self, architecture: Mapping[str, Any]) -> dict[str, Estimate]:
        """The estimates of one architecture or configuration: see `LatencyTerm.price`."""
        return {name: self._estimate(architecture, plan) for name, plan in self.plan.items()}

    def expected(self) -> dict[str, Tensor]:
        """Expected cost by each loss: float64 scalars, differentiable with respect to the architecture parameters."""
        return {name: loss.expected() for name, loss in self.by_name().items()}

    def expected_ms(self) -> dict[str, Tensor]:
        """`expected` of the losses whose cost is a latency, in milliseconds."""
        return {name: loss.expected_ms() for name, loss in self._latencies().items()}

    def argmax_cost(self) -> dict[str, float]:
        """The cost of `architecture` by each loss."""
        return {name: loss.argmax_cost() for name, loss in self.by_name().items()}

    def argmax_ms(self) -> dict[str, float]:
        """`argmax_cost` of the losses whose cost is a latency, in milliseconds."""
        return {name: loss.argmax_ms() for name, loss in self._latencies().items()}

    @property
    def target(self) -> dict[str, float | None]:
        """The target of each loss; it is set on the loss itself."""
        return {name: loss.target for name, loss in self.by_name().items()}

    @property
    def target_ms(self) -> dict[str, float | None]:
        """`target` of the losses whose cost is a latency, in milliseconds."""
        return {name: loss.target_ms for name, loss in self._latencies().items()}

    def _latencies(self) -> dict[str, LatencyLoss]:
        return {name: loss for name, loss in self.by_name().items() if loss.quantity.is_latency}
