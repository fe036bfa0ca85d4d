"""`LatencyLoss`: the expected latency of a supernet, as a differentiable term of its loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
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

_NOT_ATTACHED = "Expected the loss to be attached: call latency.attach(supernet, example_input) first."


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

    temperature: Tensor

    def __init__(
        self,
        table: LatencyTable | str,
        target_ms: float | None = None,
        *,
        weight: float = 1.0,
        penalty: str = "absolute",
        temperature: float = 1.0,
        on_missing: OnMissing | None = None,
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
        self._matrices: dict[torch.device, _Matrix] = {}
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
        graph, found = read_supernet(supernet, example_input, choices)
        plan = make_plan(graph, {choice.module: choice.candidates for choice in found}, self.estimator)
        _check_target(self.target_ms, plan)
        self.choices, self._plan, self._supernet = found, plan, (supernet,)
        self._matrices = {torch.device("cpu"): _Matrix.of(plan, found)}
        return plan

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
            raise SearchError(_NOT_ATTACHED)
        return self._plan

    @property
    def attached(self) -> bool:
        """Whether `attach` was called."""
        return self._plan is not None

    def _weights(self) -> list[Tensor]:
        """The weights of each choice."""
        if not self.choices:
            raise SearchError(_NOT_ATTACHED)
        weights = [choice.weights(self._supernet[0]) for choice in self.choices]
        if any(tensor.shape != (len(choice.candidates),) for tensor, choice in zip(weights, self.choices, strict=True)):
            sizes = {choice.module: tuple(tensor.shape) for choice, tensor in zip(self.choices, weights, strict=True)}
            raise SearchError(f"Expected a vector with a weight for each candidate of each choice, but got {sizes}.")
        return weights

    def gates(self) -> Tensor:
        """The probability of each candidate, of shape ``(choices, most candidates)``, padded with zeros."""
        return self._gates(self._weights())

    def _gates(self, weights: list[Tensor]) -> Tensor:
        values = torch.cat(weights).to(torch.float64)
        matrix = self._costs_on(values.device)
        scaled = matrix.nowhere.index_copy(0, matrix.slots, values / self.temperature).view_as(matrix.costs_ms)
        if all(choice.logits for choice in self.choices):
            return scaled.softmax(dim=1)
        given = torch.zeros_like(matrix.nowhere).index_copy(0, matrix.slots, values).view_as(matrix.costs_ms)
        return torch.where(matrix.is_logits, scaled.softmax(dim=1), given)

    def _costs_on(self, device: torch.device) -> _Matrix:
        if device not in self._matrices:
            self._matrices[device] = self._matrices[torch.device("cpu")].to(device)
        return self._matrices[device]

    def expected_ms(self) -> Tensor:
        """E[LAT] in milliseconds, a float64 scalar, differentiable with respect to the architecture parameters."""
        return self._expected_ms(self._weights())

    def _expected_ms(self, weights: list[Tensor]) -> Tensor:
        gates = self._gates(weights)
        return self.plan.fixed_ms + (gates * self._costs_on(gates.device).costs_ms).sum()

    def forward(self) -> Tensor:
        """The term, of shape ``()``, in the type of the architecture parameters."""
        weights = self._weights()
        expected_ms = self._expected_ms(weights)
        term = expected_ms if self.target_ms is None else PENALTIES[self.penalty](expected_ms, self.target_ms)
        return (self.weight * term).to(weights[0].dtype)

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


@dataclass(frozen=True, slots=True)
class _Matrix:
    """A plan's costs as one padded matrix, for each weight its place in it, and which rows want a softmax."""

    costs_ms: Tensor
    slots: Tensor
    is_logits: Tensor
    nowhere: Tensor  # the matrix, flat, before any weight is put in: what is padding gets no share of a softmax

    @classmethod
    def of(cls, plan: CostPlan, choices: Sequence[Choice]) -> _Matrix:
        padded = torch.from_numpy(plan.padded_costs_ms())
        width = padded.shape[1]
        slots = [row * width + column for row, costs in enumerate(plan.costs_ms) for column in range(len(costs))]
        is_logits = torch.tensor([[choice.logits] for choice in choices])
        return cls(padded, torch.tensor(slots), is_logits, torch.full_like(padded, -torch.inf).flatten())

    def to(self, device: torch.device) -> _Matrix:
        """The same on another device; not buffers, so that casting a model to half precision leaves them whole."""
        return _Matrix(*(tensor.to(device) for tensor in (self.costs_ms, self.slots, self.is_logits, self.nowhere)))


def _check_target(target_ms: float | None, plan: CostPlan) -> None:
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
