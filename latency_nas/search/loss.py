"""`LatencyLoss`: the expected latency of a supernet, as a differentiable term of its loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from latency_nas.errors import SearchError
from latency_nas.estimate import LatencyEstimator
from latency_nas.estimate.estimator import OnMissing
from latency_nas.search.choice import Choice, read_supernet
from latency_nas.search.penalty import PENALTIES
from latency_nas.search.plan import CostPlan, make_plan
from latency_nas.table import LatencyTable

__all__ = ["LatencyLoss"]


class LatencyLoss(nn.Module):
    """weight x penalty(E[LAT], target), a scalar to be added to the task's loss; without a target weight x E[LAT].

    Everything is traced and priced once, by `attach`; a step is then a softmax and a product over one small matrix,
    however many layers there are.

    Args:
        table: a latency table, or the name or file of one.
        target_ms: the latency to reach; None for as little as the weight makes of it.
        weight: of the term.
        penalty: one of ``"absolute"``, ``"hinge"``, ``"linear"`` (see `latency_nas.search.penalty`).
        temperature: architecture parameters are divided by it before the softmax; towards 0 the expectation becomes
            that of the likeliest architecture. A buffer, so that it is saved and resumed.
        on_missing: what becomes of kernels that the table lacks, as in `LatencyEstimator`.

    Raises:
        UnknownTableError: if there is no such table.
        SearchError: if an argument is out of range.

    Example:
        >>> latency = LatencyLoss(table, target_ms=2.0)                     # doctest: +SKIP
        >>> latency.attach(supernet, torch.randn(1, 3, 224, 224))           # doctest: +SKIP
        >>> loss = cross_entropy(supernet(x), y) + latency()                # doctest: +SKIP
    """

    costs_ms: Tensor
    slots: Tensor
    is_logits: Tensor
    temperature: Tensor

    def __init__(
        self,
        table: LatencyTable | str,
        target_ms: float | None = None,
        *,
        weight: float = 1.0,
        penalty: str = "absolute",
        temperature: float = 1.0,
        on_missing: OnMissing = "error",
    ) -> None:
        super().__init__()
        if not weight >= 0:
            raise SearchError(f"Expected `weight` to be a number >= 0, but got {weight}.")
        if not temperature > 0:
            raise SearchError(f"Expected `temperature` to be a positive number, but got {temperature}.")
        if penalty not in PENALTIES:
            raise SearchError(f"Expected `penalty` to be one of {', '.join(PENALTIES)}, but got {penalty!r}.")
        self.estimator = LatencyEstimator(table, on_missing=on_missing)
        self.weight, self.penalty = weight, penalty
        self.register_buffer("temperature", torch.tensor(float(temperature), dtype=torch.float64))
        self.choices: tuple[Choice, ...] = ()
        self._plan: CostPlan | None = None
        self._supernet: tuple[nn.Module, ...] = ()  # in a tuple, so that it is not a submodule of the loss
        self._target_ms: float | None = None
        self.target_ms = target_ms

    def attach(
        self,
        supernet: nn.Module,
        example_input: Tensor | tuple[Tensor, ...],
        *,
        choices: Sequence[Choice] | None = None,
    ) -> CostPlan:
        """Find the choices of `supernet`, and trace and price every candidate once. The supernet is not changed.

        Args:
            supernet: the network that is searched.
            example_input: what its forward takes; the batch size matters, since latency does.
            choices: where it chooses; by default what `find_choices` recognises.

        Returns:
            The plan: what each candidate costs.

        Raises:
            SearchError: if the choices are not recognised, or the target lies outside what the supernet can reach.
            MissingKernelError: if kernels have no price.
            InputMismatchError: if the input does not fit a layer.
        """
        graph, self.choices = read_supernet(supernet, example_input, choices)
        plan = make_plan(graph, {choice.module: choice.candidates for choice in self.choices}, self.estimator)
        _check_target(self.target_ms, plan)
        self._plan, self._supernet = plan, (supernet,)
        self._register(plan, next(iter(supernet.parameters())).device)
        return plan

    def _register(self, plan: CostPlan, device: torch.device) -> None:
        """Costs as one padded matrix, and for each weight its place in it."""
        padded = torch.from_numpy(plan.padded_costs_ms())
        width = padded.shape[1]
        slots = [row * width + column for row, costs in enumerate(plan.costs_ms) for column in range(len(costs))]
        buffers = {
            "costs_ms": padded,
            "slots": torch.tensor(slots),
            "is_logits": torch.tensor([[choice.logits] for choice in self.choices]),
        }
        for name, tensor in buffers.items():
            self.register_buffer(name, tensor.to(device), persistent=False)
        self.to(device)

    @property
    def target_ms(self) -> float | None:
        """The latency to reach, in milliseconds; it can be set at any time.

        Raises:
            SearchError: when set to what is not positive, or to what the attached supernet cannot reach.
        """
        return self._target_ms

    @target_ms.setter
    def target_ms(self, target_ms: float | None) -> None:
        if target_ms is not None and not target_ms > 0:
            raise SearchError(f"Expected `target_ms` to be a positive number of milliseconds, but got {target_ms}.")
        if self._plan is not None:
            _check_target(target_ms, self._plan)
        self._target_ms = target_ms

    @property
    def plan(self) -> CostPlan:
        """What each candidate costs.

        Raises:
            SearchError: before `attach`.
        """
        if self._plan is None:
            raise SearchError("Expected the loss to be attached: call latency.attach(supernet, example_input) first.")
        return self._plan

    @property
    def attached(self) -> bool:
        """Whether `attach` was called."""
        return self._plan is not None

    def _weights(self) -> Tensor:
        """Every weight of every choice, of shape ``(all candidates,)``."""
        weights = torch.cat([choice.weights(self._supernet[0]) for choice in self.choices])
        if weights.shape != self.slots.shape:
            sizes = {choice.module: len(choice.weights(self._supernet[0])) for choice in self.choices}
            raise SearchError(f"Expected a weight for each of the {len(self.slots)} candidates, but got {sizes}.")
        return weights

    def gates(self) -> Tensor:
        """The probability of each candidate, of shape ``(choices, most candidates)``, padded with zeros."""
        return self._gates(self._weights())

    def _gates(self, weights: Tensor) -> Tensor:
        values = weights.to(torch.float64)
        flat = self.costs_ms.new_full((self.costs_ms.numel(),), -torch.inf)
        scaled = flat.index_copy(0, self.slots, values / self.temperature).view_as(self.costs_ms)
        given = torch.zeros_like(flat).index_copy(0, self.slots, values).view_as(self.costs_ms)
        return torch.where(self.is_logits, scaled.softmax(dim=1), given)

    def expected_ms(self) -> Tensor:
        """E[LAT] in milliseconds, a float64 scalar, differentiable with respect to the architecture parameters."""
        return self.plan.fixed_ms + (self.gates() * self.costs_ms).sum()

    def forward(self) -> Tensor:
        """The term, of shape ``()``, in the type of the architecture parameters."""
        plan, weights = self.plan, self._weights()
        expected_ms = plan.fixed_ms + (self._gates(weights) * self.costs_ms).sum()
        term = expected_ms if self.target_ms is None else PENALTIES[self.penalty](expected_ms, self.target_ms)
        return (self.weight * term).to(weights.dtype)

    def architecture(self) -> dict[str, int]:
        """The likeliest candidate of each choice, by the name of the module that chooses."""
        plan = self.plan
        gates = self.gates().detach()
        best = cast(list[int], gates.argmax(dim=1).tolist())
        return dict(zip(plan.choices, best, strict=True))

    def argmax_ms(self) -> float:
        """The latency of `architecture`, in milliseconds."""
        return self.plan.latency_ms(self.architecture())

    def extra_repr(self) -> str:
        """Shown by `repr`."""
        table = self.estimator.table.name
        return f"table={table!r}, target_ms={self.target_ms}, weight={self.weight}, penalty={self.penalty!r}"


def _check_target(target_ms: float | None, plan: CostPlan) -> None:
    cheapest, dearest = plan.bounds_ms()
    if target_ms is not None and not cheapest <= target_ms <= dearest:
        raise SearchError(
            f"Expected a target that the supernet can reach, from {cheapest:.4g} ms (its cheapest architecture) to "
            f"{dearest:.4g} ms (its dearest), but got {target_ms:.4g} ms."
        )
