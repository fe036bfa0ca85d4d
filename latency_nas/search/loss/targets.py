"""Several targets at once: two devices, or latency together with parameters, multiply-accumulates or memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from math import prod
from typing import Any, cast

from torch import Tensor, nn

from latency_nas.engine import Engine, get_engine
from latency_nas.errors import SearchError
from latency_nas.estimate import LatencyEstimator
from latency_nas.estimate.estimator import KernelEstimate
from latency_nas.kernel import DTYPES, Kernel
from latency_nas.kernel.cost import n_macs, n_params
from latency_nas.kernel.kernel_call import KernelCall
from latency_nas.search.loss.loss import LatencyLoss
from latency_nas.search.loss.schedule import Schedule
from latency_nas.search.loss.settling import WITHIN
from latency_nas.search.plan.plan import Architecture, CostPlan
from latency_nas.search.select.projection import likeliest, project
from latency_nas.table import Datasheet, LatencyTable

__all__ = ["RESOURCES", "ResourceCounter", "Targets"]


def _n_weight_bytes(kernel: Kernel) -> int:
    return DTYPES[kernel.dtype] * n_params(kernel)


def _n_kept_bytes(kernel: Kernel) -> int:
    """Weights and outputs: their sum over a network is what it holds if nothing is freed, a bound of its peak."""
    return _n_weight_bytes(kernel) + DTYPES[kernel.dtype] * sum(map(prod, kernel.outputs))


# name -> what one kernel has of it
RESOURCES: dict[str, Callable[[Kernel], int]] = {
    "macs": n_macs,
    "params": n_params,
    "weight_bytes": _n_weight_bytes,
    "kept_bytes": _n_kept_bytes,
}


class ResourceCounter(LatencyEstimator):
    """Counts a resource instead of estimating a latency: what is called milliseconds is then the count.

    ``LatencyLoss(ResourceCounter("params"), target_ms=3e6)`` keeps a search at three million parameters, counted once
    for each kernel that reads them.

    Args:
        resource: ``"macs"``, ``"params"``, ``"weight_bytes"`` or ``"kept_bytes"`` (weights and activations if nothing
            is freed: a rough upper bound of the peak memory, not the peak).
        engine: Engine whose fusion decides what the kernels are, or its name; the registry's default for None.

    Raises:
        SearchError: if there is no such resource.
    """

    def __init__(self, resource: str, *, engine: Engine | str | None = None) -> None:
        if resource not in RESOURCES:
            raise SearchError(f"Expected `resource` to be one of {', '.join(RESOURCES)}, but got {resource!r}.")
        sheet = Datasheet(
            device="any",
            engine=get_engine(engine).title,
            method="imported",
            notes=f"counts of {resource}, no latencies",
            expected_error=0.0,
        )
        super().__init__(LatencyTable.of({}, sheet, name=resource))
        self.resource = resource

    def _price(self, call: KernelCall) -> KernelEstimate:
        count = float(RESOURCES[self.resource](call.kernel))
        return KernelEstimate(kernel=call.kernel, layer=call.layer, latency_ms=count, std_ms=0.0, source="table")


class Targets(nn.Module):
    """Several losses over one supernet, used as one.

    Args:
        losses: a name for the logs -> the loss, each with a table, a target and a penalty or constraint of its own.

    Raises:
        SearchError: if there are none.

    Example:
        >>> latency = Targets({                                              # doctest: +SKIP
        ...     "phone": LatencyLoss("SD865", target_ms=20, penalty="inequality"),
        ...     "size": LatencyLoss(ResourceCounter("params"), target_ms=3e6, penalty="inequality"),
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

    def expected_ms(self) -> Tensor:
        """That of the first."""
        return self._each()[0].expected_ms()

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
            here, budgets = self.architecture(), [loss.budget(within=WITHIN) for loss in settling]
            if not all(budget.keeps(here) for budget in budgets):
                scores = settling[0].log_probabilities()
                here = likeliest(scores, budgets) or project(scores, [loss.budget() for loss in settling])
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
        """Those of each, as ``latency/<name>/...``; entropies once."""
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
        scores = self._each()[0].log_probabilities()
        near = [loss.budget(within=within) for loss in self._each()]
        return likeliest(scores, near) or project(scores, [loss.budget() for loss in self._each()])

    def fingerprint(self) -> str:
        """Equal exactly for equal tables."""
        return hashlib.sha256("".join(loss.fingerprint() for loss in self._each()).encode()).hexdigest()
