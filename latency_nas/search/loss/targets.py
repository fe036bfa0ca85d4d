"""Several targets at once: two devices, or latency together with parameters, multiply-accumulates or memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn

from latency_nas.errors import SearchError
from latency_nas.kernel import Quantity
from latency_nas.search.loss.discretization import within_targets
from latency_nas.search.loss.loss import LatencyLoss
from latency_nas.search.loss.schedule import Schedule
from latency_nas.search.loss.settling import WITHIN
from latency_nas.search.plan.architecture import Architecture
from latency_nas.search.plan.plan import CostPlan

__all__ = ["Targets"]


class Targets(nn.Module):
    """Several losses over one supernet, used as one.

    Args:
        losses: Loss by a name for the logs, each with a table or counter, a target and a penalty or constraint of its
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

    def by_name(self) -> dict[str, LatencyLoss]:
        """The losses."""
        return {name: cast(LatencyLoss, loss) for name, loss in self.losses.items()}

    def _each(self) -> list[LatencyLoss]:
        return list(self.by_name().values())

    def attach(
        self, supernet: nn.Module, example_input: Tensor | tuple[Tensor, ...] | None = None, **how: Any
    ) -> dict[str, CostPlan]:
        """Attach each, as `LatencyLoss.attach`; choices that are recognised are found once."""
        plans = {}
        for name, loss in self.by_name().items():
            plans[name] = loss.attach(supernet, example_input, **how)
            if not {"groups", "options"} & how.keys():
                how["choices"] = loss.choices
        return plans

    @property
    def attached(self) -> bool:
        """Whether all are attached."""
        return all(loss.attached for loss in self._each())

    @property
    def differentiable(self) -> bool:
        """Whether the architecture parameters require a gradient now."""
        return self._each()[0].differentiable

    @property
    def n_terms(self) -> int:
        """Terms that were asked for."""
        return sum(loss.n_terms for loss in self._each())

    @property
    def quantity(self) -> Quantity:
        """That of the first."""
        return self._each()[0].quantity

    def expected(self) -> Tensor:
        """That of the first."""
        return self._each()[0].expected()

    def forward(self) -> Tensor:
        """The sum of the terms, of shape ``()``."""
        self._aim()
        total = self._each()[0]()
        for loss in self._each()[1:]:
            total = total + loss()
        return cast(Tensor, total)

    def combine(self, task_loss: Tensor) -> Tensor:
        """The whole loss: factors are multiplied by, terms are added."""
        self._aim()
        for loss in sorted(self._each(), key=lambda loss: not loss.multiplies):
            task_loss = loss.combine(task_loss)
        return task_loss

    def _aim(self) -> None:
        """Where the search settles, let all losses draw to one architecture: one that keeps every target."""
        settling = [loss for loss in self._each() if loss.settles]
        if settling:
            here = self.architecture()
            if not all(loss.budget(within=WITHIN).keeps(here) for loss in settling):
                goals = [loss.goal() for loss in settling]
                here = within_targets(settling[0].log_probabilities(), goals, within=WITHIN)
            for loss in settling:
                loss.aim_at(here)

    def use_schedule(self, schedule: Schedule) -> None:
        """The same schedule for each."""
        for loss in self._each():
            loss.use_schedule(schedule)

    def anneal(self, progress: float) -> None:
        """Each follows its schedule."""
        for loss in self._each():
            loss.anneal(progress)

    def step(self, progress: float | None = None) -> bool:
        """Each moves its multiplier; whether any was moved."""
        return any([loss.step(progress) for loss in self._each()])  # noqa: C419 - all of them

    def figures(self) -> dict[str, float]:
        """Those of each, as ``latency/<name>/expected_ms`` or ``latency/<name>/expected_params``; entropies once."""
        figures: dict[str, float] = {}
        for name, loss in self.by_name().items():
            for key, value in loss.figures().items():
                is_shared = key.startswith("latency/entropy")
                figures[key if is_shared else key.replace("latency/", f"latency/{name}/", 1)] = value
        return figures

    def on_target(self, tolerance: float) -> bool:
        """Whether each is."""
        return all(loss.on_target(tolerance) for loss in self._each())

    def architecture(self) -> Architecture:
        """The likeliest candidate of each choice."""
        return self._each()[0].architecture()

    def project(self, *, within: float | None = None) -> Architecture:
        """The likeliest architecture that is above no target; see `LatencyLoss.project`.

        Raises:
            SearchError: if there is none, or a target is missing.
        """
        goals = [loss.goal() for loss in self._each()]
        return within_targets(self._each()[0].log_probabilities(), goals, within=within)

    def fingerprint(self) -> str:
        """Equal exactly for equal tables."""
        return hashlib.sha256("".join(loss.fingerprint() for loss in self._each()).encode()).hexdigest()
