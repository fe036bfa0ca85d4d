"""From gates to architectures: the probability of each candidate, and the architecture that keeps the budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latency_nas.errors import SearchError
from latency_nas.search.loss.target import Target
from latency_nas.search.plan.architecture import Architecture
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.projection import most_probable_within, project
from latency_nas.search.supernet.choice import Choice, ElementsOf, ParameterOf
from latency_nas.search.supernet.supernet import framework_of

__all__ = ["WITHIN", "entropies", "log_probabilities", "make_argmax", "most_probable", "within_targets"]

WITHIN = 0.03  # share of a target: architectures further below it are excluded, unless no others are left
_MIN_PROBABILITY = 1e-300  # probabilities of 0 need a logarithm, too
_MARGIN = 0.01  # difference by which a parameter is raised above the others


def most_probable(gates: Tensor, plan: CostPlan) -> Architecture:
    """The candidate of each choice that has the largest weight.

    Args:
        gates: Weights, flat: shape ``(gates,)``.
        plan: Plan of the same choices.

    Raises:
        SearchError: if the gates are NaN.
    """
    rows = np.split(plan.check_gates(gates.detach().cpu().numpy()), plan.offsets[1:-1])
    return Architecture((name, int(row.argmax())) for name, row in zip(plan.choices, rows, strict=True))


def log_probabilities(gates: Tensor, plan: CostPlan) -> dict[str, list[float]]:
    """Choice -> the logarithm of each candidate's probability.

    Args:
        gates: Probabilities, of shape ``(choices, max_candidates)``.
        plan: Plan of the same choices.
    """
    rows = gates.detach().clamp(min=_MIN_PROBABILITY).log().tolist()
    return {
        name: row[: len(candidates)] for name, row, candidates in zip(plan.choices, rows, plan.candidates, strict=True)
    }


def entropies(gates: Tensor, plan: CostPlan) -> dict[str, float]:
    """Choice -> the entropy of its gates, in nats; 0 when one gate is 1.

    Args:
        gates: Probabilities, of shape ``(choices, max_candidates)``, padded with zeros.
        plan: Plan of the same choices.
    """
    probabilities = gates.detach()
    values = -torch.xlogy(probabilities, probabilities).sum(dim=1)
    return dict(zip(plan.choices, values.tolist(), strict=True))


def within_targets(
    scores: Mapping[str, Sequence[float]], targets: Sequence[tuple[Target, CostPlan]], *, within: float | None
) -> Architecture:
    """The most probable architecture that is above no target: of those near the targets, if there are any.

    Args:
        scores: Choice -> the logarithm of each candidate's probability.
        targets: Targets, each with the plan that says what candidates cost.
        within: Share of a target; near it are costs from this share below it. None for all costs below it.

    Raises:
        SearchError: if no architecture keeps the targets, or a loss has no target.
    """
    near = [target.budget(plan, within=within) for target, plan in targets]
    return most_probable_within(scores, near) or project(scores, [target.budget(plan) for target, plan in targets])


def make_argmax(architecture: Mapping[str, int], choices: Sequence[Choice], supernet: Any) -> None:
    """Make an architecture the argmax: raise the parameter of each choice's candidate just above the others.

    A parameter that is the largest already is left as it is.

    Args:
        architecture: Choice -> the index of its candidate.
        choices: Choices of the supernet; those without weights are left out.
        supernet: Supernet that has the parameters; None where a plan was attached without it.

    Raises:
        SearchError: if a function gives the weights of a choice, which cannot be moved.
    """
    parameters = {
        choice.module: choice.weights for choice in choices if isinstance(choice.weights, ParameterOf | ElementsOf)
    }
    n_sampled = sum(choice.weights is None for choice in choices)
    if supernet is None or not choices or len(parameters) + n_sampled < len(choices):
        raise SearchError(
            "Expected architecture parameters that can be moved, but a function gives the weights of choices: take "
            "the architecture that latency.project() gives."
        )
    framework = framework_of(supernet)
    for name, parameter in parameters.items():
        if int(parameter(supernet).argmax()) != architecture[name]:
            framework.raise_above(supernet, parameter, architecture[name], _MARGIN)
