"""`PricedGates`: the present weights of a supernet's choices, and their cost by a plan."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from latency_nas.search.plan.gates import PackedPlan
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.supernet.gate_reader import WeightReader

__all__ = ["PricedGates"]


class PricedGates:
    """The weights of all choices, and the plan that prices them.

    Args:
        reader: Reader of the weights.
        plan: Plan that says what each candidate costs.
        logits: Whether a softmax is still to normalise the weights, for each choice.
    """

    def __init__(
        self,
        reader: WeightReader,
        plan: CostPlan,
        logits: Sequence[bool],
    ) -> None:
        self.reader, self.plan = reader, plan
        self.dtype = torch.float32  # type of the architecture parameters that were read last
        self._packed = PackedPlan(plan, logits)
        self._packed_drawn = None if reader.logits_of_drawn is None else PackedPlan(plan, reader.logits_of_drawn)

    def flat(self, temperature: Tensor) -> Tensor:
        """The probability of each candidate by the architecture parameters, flat: shape ``(gates,)``, float64."""
        weights, picks = self.reader.weights()
        return self._packed.gates(weights, picks, temperature)

    def padded(self, temperature: Tensor) -> Tensor:
        """As `flat`, of shape ``(choices, max_candidates)``, padded with zeros."""
        flat, candidates = self.flat(temperature), self.plan.candidates
        padded = flat.new_zeros(len(candidates), max(map(len, candidates)))
        rows = [row for row, names in enumerate(candidates) for _ in names]
        padded[rows, [index for names in candidates for index in range(len(names))]] = flat
        return padded

    def expected(self, temperature: Tensor) -> Tensor:
        """The expected cost, a float64 scalar; of the gates that the supernet drew in the current step, if it did."""
        if self._packed_drawn is not None and self.reader.drawn:
            drawn = self.reader.sampled()
            self.dtype = drawn.dtype
            return self._packed_drawn.expected(drawn, None, temperature)
        weights, picks = self.reader.weights()
        self.dtype = weights.dtype
        return self._packed.expected(weights, picks, temperature)

    def std(self, temperature: Tensor) -> Tensor:
        """One standard deviation of the estimate at the gates, a float64 scalar."""
        return self._packed.std_of(self.flat(temperature))
