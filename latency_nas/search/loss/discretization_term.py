"""The end of a search: architecture parameters are drawn to one architecture, the likeliest that is on the target.

A penalty holds the expectation to its target, and that can be there by a tie of two candidates, neither of which is;
which of them is the argmax is then chance. So towards the end a second term is added, with z the likeliest architecture
that is not above the target and not far below it, found anew in each step (an exact knapsack, only where the argmax
is not such an architecture itself), p the gates and T their temperature:

    strength T sum_i -log p_i(z_i),

whose gradient with respect to the parameters of choice i is strength (p_i - z_i).

It is the alternation of gradient steps and projections by which networks are quantised and pruned.

References:
    Boyd et al., Distributed Optimization and Statistical Learning via the Alternating Direction Method of Multipliers
    (2011), section 9.1 (projection onto a set that is not convex), here without the running sum of residuals.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["discretization_term"]

_MIN = 1e-300  # a probability that is nil still has a logarithm


def discretization_term(gates: Tensor, set_point: Mapping[str, int], temperature: Tensor) -> Tensor:
    """T x sum_i -log p_i(z_i), of shape ``()``.

    Args:
        gates: Probabilities p, of shape ``(choices, max_candidates)``.
        set_point: Architecture z: choice -> the index of its candidate, in the order of the rows.
        temperature: Temperature T, of shape ``()``.
    """
    index = torch.tensor(list(set_point.values()), device=gates.device)
    return -temperature * gates.gather(1, index[:, None]).clamp(min=_MIN).log().sum()
