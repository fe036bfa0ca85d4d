"""A term for the end of a search: it draws the parameters to the most probable architecture that is on the target.

A penalty moves the expected cost to its target. The expectation can be there as the mean of two candidates, one too
cheap and one too dear; which of them becomes the argmax is then chance. So towards the end a second term is added,

    strength T sum_i -log p_i(z_i),

where p are the gates, T is their temperature, and z is the set point: the most probable architecture that is not above
the target and not far below it. The set point is found anew in each step: it is the argmax if that is on the target,
and otherwise the solution of an exact knapsack. The gradient of the term with respect to the parameters of choice i is
strength (p_i - z_i).

Gradient steps alternate with projections in the same way where networks are quantised or pruned.

References:
    Boyd et al., Distributed Optimization and Statistical Learning via the Alternating Direction Method of Multipliers
    (2011), section 9.1 (projection onto a set that is not convex), here without the running sum of residuals.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["discretization_term"]

_MIN_PROBABILITY = 1e-300  # probabilities of 0 need a logarithm, too


def discretization_term(gates: Tensor, set_point: Mapping[str, int], temperature: Tensor) -> Tensor:
    """The term without its strength, T sum_i -log p_i(z_i), of shape ``()``.

    Args:
        gates: Probabilities p, of shape ``(choices, max_candidates)``.
        set_point: Architecture z: choice -> the index of its candidate, in the order of the rows.
        temperature: Temperature T, of shape ``()``.
    """
    index = torch.tensor(list(set_point.values()), device=gates.device)
    return -temperature * gates.gather(1, index[:, None]).clamp(min=_MIN_PROBABILITY).log().sum()
