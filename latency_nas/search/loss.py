"""`LatencyLoss`: the expected latency of a supernet, as a differentiable term of its loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi, sqrt
from typing import cast

import torch
from torch import Tensor, nn

from latency_nas.errors import SearchError
from latency_nas.estimate import LatencyEstimator
from latency_nas.estimate.estimator import OnMissing
from latency_nas.search.choice import Choice, read_supernet
from latency_nas.search.constraint import Constraint
from latency_nas.search.control import Controlled, Penalty
from latency_nas.search.plan import CostPlan, make_plan
from latency_nas.search.schedule import Schedule
from latency_nas.table import LatencyTable

__all__ = ["LatencyLoss"]

_NOT_ATTACHED = "Expected the loss to be attached: call latency.attach(supernet, example_input) first."


class LatencyLoss(Controlled):
    """weight x penalty(E[LAT], target), a scalar to be added to the task's loss; without a target weight x E[LAT].

    Everything is traced and priced once, by `attach`; a step is then a softmax and a product over one small matrix,
    however many layers there are.

    Args:
        table: a latency table, the name or file of one, or an estimator.
        target_ms: the latency to reach; None for as little as the weight makes of it.
        weight: of the term.
        penalty: the name of a penalty or factor (see `latency_nas.search.penalty`) or of a constraint (see
            `latency_nas.search.constraint`), or one of them.
        temperature: architecture parameters are divided by it before the softmax; towards 0 the expectation becomes
            that of the likeliest architecture. A buffer, so that it is saved and resumed.
        on_missing: what becomes of kernels that the table lacks, as in `LatencyEstimator`.
        schedule: of weight and temperature over the search; see `step`.
        target_quantile: 0.9 holds this quantile of the estimate against the target, so that the ± is counted in.

    Raises:
        UnknownTableError: if there is no such table.
        SearchError: if an argument is out of range.

    Example:
        >>> latency = LatencyLoss(table, target_ms=2.0)                     # doctest: +SKIP
        >>> latency.attach(supernet, torch.randn(1, 3, 224, 224))           # doctest: +SKIP
        >>> loss = cross_entropy(supernet(x), y) + latency()                # doctest: +SKIP
    """

    def __init__(
        self,
        table: LatencyTable | str | LatencyEstimator,
        target_ms: float | None = None,
        *,
        weight: float = 1.0,
        penalty: str | Penalty | Constraint = "absolute",
        temperature: float = 1.0,
        on_missing: OnMissing | None = None,
        schedule: Schedule | None = None,
        target_quantile: float | None = None,
    ) -> None:
        super().__init__(
            target_ms=target_ms,
            weight=weight,
            penalty=penalty,
            temperature=temperature,
            schedule=schedule,
            target_quantile=target_quantile,
        )
        self.estimator = (
            table if isinstance(table, LatencyEstimator) else LatencyEstimator(table, on_missing=on_missing)
        )
        self._plan: CostPlan | None = None
        self.choices: tuple[Choice, ...] = ()
        self._matrices: dict[torch.device, _Matrix] = {}
        self._dtype = torch.float32  # of the architecture parameters
        self._supernet: tuple[nn.Module, ...] = ()  # in a tuple, so that it is not a submodule of the loss

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
        self._check_target(self.target_ms, plan)
        self.choices, self._plan, self._supernet = found, plan, (supernet,)
        self._matrices = {torch.device("cpu"): _Matrix.of(plan, found)}
        return plan

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
        self._dtype = weights[0].dtype
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

    def std_ms(self) -> Tensor:
        """One standard deviation of the estimate, a float64 scalar."""
        error = self.estimator.table.datasheet.expected_error
        if error is None:
            raise SearchError("Expected a table that says its error, but it has no `expected_error`.")
        return sqrt(pi / 2) * error * self.expected_ms()

    def forward(self) -> Tensor:
        """The term, of shape ``()``, in the type of the architecture parameters."""
        return self.term().to(self._dtype)

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
        return f"table={table!r}, target_ms={self.target_ms}, weight={self.weight}, penalty={self.penalty_name!r}"


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
