"""From architecture parameters to the expected cost, in a few operations.

A softmax over the rows of one small matrix, one row for each choice, gives the gates p of all choices. Their product
with the costs t of a plan is the expectation E = fixed + sum_i p_i t_i + ... That is a handful of torch operations,
however many layers there are, and none of them waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from latency_nas.errors import SearchError
from latency_nas.search.plan.plan import CostPlan

__all__ = ["PackedPlan", "width_gates"]


def width_gates(width: Tensor, widths: Sequence[float]) -> Tensor:
    """The gates of a width that lies between candidates, for channel search by masks (FBNetV2, arXiv 2004.05565).

    The two candidates next to it share the weight linearly, so that the expected cost is the piecewise linear
    interpolation of the candidates' costs, differentiable in the width; with a term of two choices it is bilinear.

    Args:
        width: Effective number of channels, such as ``(gates * widths).sum()``, of shape ``()``.
        widths: Widths of the candidates, rising.

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
    share = ((width - grid[:-1]) / (grid[1:] - grid[:-1])).clamp(0, 1)  # of each step from one candidate to the next
    ends = share.new_ones(1), share.new_zeros(1)
    return torch.cat([ends[0], share]) - torch.cat([share, ends[1]])


@dataclass(frozen=True, slots=True)
class _OnDevice:
    """The arrays of a plan as tensors on one device."""

    padded: Tensor  # matrix (choices, max_candidates) of the gates' numbers; n_gates where a choice has no candidate
    flat: Tensor  # index of each gate in that matrix, flattened
    is_logits: Tensor  # for each gate, whether a softmax is still to normalise it
    costs: Tensor
    group_gates: Tensor
    term_gates: Tensor
    term_costs: Tensor


class PackedPlan:
    """A plan whose arrays are packed for the operations of a training step.

    Args:
        plan: Plan that says what each candidate costs.
        logits: Whether a softmax is still to normalise the weights, for each choice.
    """

    def __init__(self, plan: CostPlan, logits: Sequence[bool]) -> None:
        self.plan = plan
        self._logits, self._all_logits = tuple(logits), all(logits)
        self._same_size = len(set(map(len, plan.candidates))) == 1  # then the gates need no padding
        self._devices: dict[torch.device, _OnDevice] = {}

    def expected(self, weights: Tensor, picks: Tensor | None, temperature: Tensor) -> Tensor:
        """Expected cost E[T], a float64 scalar, in the plan's unit.

        Args:
            weights: Weights of all choices, in a tensor of any shape.
            picks: Indices of the choices' weights in the flat tensor, one choice after the other; None for all of
                them, as they are.
            temperature: Number that architecture parameters are divided by.
        """
        gates = self.gates(weights, picks, temperature)
        expected = self.expected_of(gates)
        if weights.device.type == "cpu" and not torch.compiler.is_compiling() and expected.isnan():
            self.plan.check_gates(gates.detach().numpy())
        return expected

    def gates(self, weights: Tensor, picks: Tensor | None, temperature: Tensor) -> Tensor:
        """The gates, flat and in float64. The arguments are those of `expected`."""
        values = weights.reshape(-1).to(torch.float64)
        if picks is not None:
            values = values[picks]
        if self._all_logits:
            return self._softmax(values / temperature)
        is_logits = self.on(values.device).is_logits
        return torch.where(is_logits, self._softmax(torch.where(is_logits, values / temperature, values)), values)

    def _softmax(self, values: Tensor) -> Tensor:
        """The softmax of each choice's values."""
        if self._same_size:
            return values.view(len(self.plan.choices), -1).softmax(1).view(-1)
        packed = self.on(values.device)
        rows = torch.cat([values, values.new_full((1,), -torch.inf)])[packed.padded]
        return rows.softmax(1).view(-1)[packed.flat]

    def expected_of(self, gates: Tensor) -> Tensor:
        """Expected cost E[T] of flat gates."""
        packed = self.on(gates.device)
        expected = self.plan.fixed.value + gates @ packed.costs
        return expected + self.terms_of(gates) @ packed.term_costs if self.plan.terms else expected

    def terms_of(self, gates: Tensor) -> Tensor:
        """The product of the gates of each term."""
        packed = self.on(gates.device)
        factors = torch.cat([gates, packed.group_gates @ gates, gates.new_ones(1)])[packed.term_gates]
        product = factors[:, 0]
        for column in range(1, factors.shape[1]):
            product = product * factors[:, column]
        return product

    def std_of(self, gates: Tensor) -> Tensor:
        """One standard deviation of the estimate at flat gates."""
        if self.plan.spread is None:
            raise SearchError("Expected a plan whose costs have standard deviations.")
        summands = [gates.new_ones(1), gates, *([self.terms_of(gates)] if self.plan.terms else [])]
        std: Tensor = self.plan.spread.std(torch.cat(summands))
        return std

    def on(self, device: torch.device) -> _OnDevice:
        """The plan on a device. No buffers, so that casting a model to half precision leaves the costs exact."""
        if device not in self._devices:
            plan = self.plan
            sizes = np.diff(plan.offsets)
            columns = np.arange(max(sizes))
            padded = np.where(columns < sizes[:, None], plan.offsets[:-1, None] + columns, plan.n_gates)
            arrays = (
                padded,
                np.flatnonzero(padded.ravel() < plan.n_gates),
                np.repeat(self._logits, sizes),
                plan.flat_costs,
                plan.group_gates.astype(np.float64),
                plan.term_gates,
                plan.term_costs,
            )
            self._devices[device] = _OnDevice(*(torch.from_numpy(array).to(device) for array in arrays))
        return self._devices[device]
