"""From architecture parameters to the expected latency, in as few operations as there can be.

All weights are joined to one vector; a softmax over the segments that belong to the choices gives the gates p, and
with the costs t of a plan the expectation E and its gradient are, for gates that are a softmax of a / T,

    E = fixed + sum_i p_i t_i + ...,      dE/da_i = p_i (g_i - sum_j p_j g_j) / T,      g = dE/dp.

On a CPU both are computed at once by NumPy, in one node of the autograd graph; elsewhere, and where a step is compiled,
the same is a handful of torch operations, none of which waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from latency_nas.errors import SearchError
from latency_nas.estimate.estimator import MAE_TO_STD
from latency_nas.search.plan import CostPlan, leave_one_out

__all__ = ["PackedPlan", "width_gates"]


def width_gates(width: Tensor, widths: Sequence[float]) -> Tensor:
    """The gates of a width that lies between candidates, for channel search by masks (FBNetV2, arXiv 2004.05565).

    The two candidates next to it share the weight linearly, so that the expected cost is the piecewise linear
    interpolation of the candidates' costs, differentiable in the width; with a term of two choices it is bilinear.

    Args:
        width: the effective number of channels, such as ``(gates * widths).sum()``, of shape ``()``.
        widths: of the candidates, rising.

    Returns:
        Gates of shape ``(candidates,)`` that sum to one.

    Raises:
        SearchError: if the widths do not rise.

    Example:
        >>> width_gates(torch.tensor(20.0), [8, 16, 32])
        tensor([0.0000, 0.7500, 0.2500])
    """
    grid = torch.tensor(widths, dtype=width.dtype, device=width.device)
    if len(widths) < 2 or any(low >= high for low, high in pairwise(widths)):
        raise SearchError(f"Expected `widths` to be two or more rising numbers, but got {list(widths)}.")
    share = ((width - grid[:-1]) / (grid[1:] - grid[:-1])).clamp(0, 1)  # of the way from one candidate to the next
    ends = share.new_ones(1), share.new_zeros(1)
    return torch.cat([ends[0], share]) - torch.cat([share, ends[1]])


@dataclass(frozen=True, slots=True)
class _OnDevice:
    """What the torch operations need of a plan, on one device."""

    padded: Tensor  # the place of each gate in a matrix (choices, most candidates); where there is none, the last + 1
    flat: Tensor  # the place of each gate in that matrix, flat
    is_logits: Tensor  # of each choice, (choices, 1)
    costs_ms: Tensor
    term_gates: Tensor
    term_costs_ms: Tensor


class PackedPlan:
    """A plan, ready for steps.

    Args:
        plan: what is priced.
        logits: of each choice, whether its weights are still to be normalised by a softmax.
    """

    def __init__(self, plan: CostPlan, logits: Sequence[bool]) -> None:
        self.plan = plan
        self.logits = tuple(logits)
        self.begins = plan.offsets[:-1]
        sizes = np.diff(plan.offsets)
        self.owner = np.repeat(np.arange(len(sizes)), sizes)
        self.given = None if all(logits) else ~np.array(logits)[self.owner]
        self._devices: dict[torch.device, _OnDevice] = {}

    def expected_ms(self, weights: Tensor, picks: Tensor | None, temperature: Tensor) -> Tensor:
        """E[T] in milliseconds, a float64 scalar.

        Args:
            weights: holds the weights of all choices, in any shape.
            picks: which of its numbers, flat, the choices take, one after the other; None: all, as they are.
            temperature: by which architecture parameters are divided.
        """
        if weights.device.type != "cpu" or torch.compiler.is_compiling():
            return self.expected_of(self.gates(weights, picks, temperature))
        expected_ms: Tensor = _Expected.apply(self, picks, float(temperature), weights)  # type: ignore[no-untyped-call]
        return expected_ms

    def gates(self, weights: Tensor, picks: Tensor | None, temperature: Tensor) -> Tensor:
        """The gates, flat, float64."""
        values = weights.reshape(-1).to(torch.float64)
        if picks is not None:
            values = values[picks]
        held = self.on(values.device)
        scaled = values / temperature if all(self.logits) else torch.where(held.is_logits, values / temperature, values)
        rows = torch.cat([scaled, scaled.new_full((1,), -torch.inf)])[held.padded]
        gates = rows.softmax(1).reshape(-1)[held.flat]
        return gates if all(self.logits) else torch.where(held.is_logits, gates, values)

    def expected_of(self, gates: Tensor) -> Tensor:
        """E[T] of flat gates."""
        held = self.on(gates.device)
        expected_ms = self.plan.fixed_ms + (gates * held.costs_ms).sum()
        return expected_ms + self.terms_of(gates) @ held.term_costs_ms if self.plan.terms else expected_ms

    def terms_of(self, gates: Tensor) -> Tensor:
        """The product of the gates of each term."""
        factors = torch.cat([gates, gates.new_ones(1)])[self.on(gates.device).term_gates]
        product = factors[:, 0]
        for column in range(1, factors.shape[1]):
            product = product * factors[:, column]
        return product

    def std_of(self, gates: Tensor) -> Tensor:
        """One standard deviation of the estimate at flat gates."""
        if self.plan.uncertain is None:
            raise SearchError("Expected a plan whose costs have standard deviations.")
        fixed, *parts = self.plan.uncertain
        every = torch.cat([gates, self.terms_of(gates)]) if self.plan.terms else gates
        table_ms, variance = (torch.from_numpy(part).to(gates.device) for part in parts)
        error_ms = (self.plan.expected_error or 0.0) * MAE_TO_STD * (fixed[0] + every @ table_ms)
        return (error_ms**2 + fixed[1] + every @ variance).sqrt()

    def on(self, device: torch.device) -> _OnDevice:
        """The plan on a device; not buffers, so that casting a model to half precision leaves the costs whole."""
        if device not in self._devices:
            plan = self.plan
            sizes = np.diff(plan.offsets)
            columns = np.arange(max(sizes))
            padded = np.where(columns < sizes[:, None], self.begins[:, None] + columns, plan.n_gates)
            arrays = (
                padded,
                np.flatnonzero(padded.ravel() < plan.n_gates),
                np.array(self.logits)[self.owner],
                plan.flat_costs_ms,
                plan.term_gates,
                plan.term_costs_ms,
            )
            self._devices[device] = _OnDevice(*(torch.from_numpy(array).to(device) for array in arrays))
        return self._devices[device]

    def evaluate(self, values: NDArray[np.float64], temperature: float) -> tuple[float, NDArray[np.float64]]:
        """E[T] and its gradient with respect to the weights of all choices."""
        plan, begins, owner = self.plan, self.begins, self.owner
        scaled = values if temperature == 1.0 else values / temperature
        powers = np.exp(scaled - np.maximum.reduceat(scaled, begins)[owner])
        gates = powers / np.add.reduceat(powers, begins)[owner]
        if self.given is not None:
            gates = np.where(self.given, values, gates)
        slopes = plan.flat_costs_ms
        expected_ms = plan.fixed_ms + float(gates @ slopes)
        if plan.terms:
            factors = np.append(gates, 1.0)[plan.term_gates]
            others = leave_one_out(factors)
            expected_ms += float((others[:, 0] * factors[:, 0]) @ plan.term_costs_ms)
            parts = others * plan.term_costs_ms[:, None]
            slopes = slopes + np.bincount(plan.term_gates.ravel(), parts.ravel(), plan.n_gates + 1)[:-1]
        shares = gates * slopes
        gradient = (shares - gates * np.add.reduceat(shares, begins)[owner]) / temperature
        if self.given is not None:
            gradient = np.where(self.given, slopes, gradient)
        if expected_ms != expected_ms:
            plan.check_gates(gates)
        return expected_ms, gradient


class _Expected(torch.autograd.Function):
    """E[T] and its gradient as one node of the autograd graph."""

    @staticmethod
    def forward(ctx: Any, packed: PackedPlan, picks: Tensor | None, temperature: float, weights: Tensor) -> Tensor:
        values = weights.reshape(-1).to(torch.float64)
        expected_ms, slopes = packed.evaluate((values if picks is None else values[picks]).numpy(), temperature)
        gradient = torch.from_numpy(slopes)
        if picks is not None:
            gradient = torch.zeros_like(values).index_add_(0, picks, gradient)
        ctx.gradient = gradient.view(weights.shape).to(weights.dtype)
        return torch.from_numpy(np.array(expected_ms))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, None, ctx.gradient * grad
