"""From gates to architectures: the probability of each candidate, and the architecture that keeps the budgets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latency_nas.errors import SearchError
from latency_nas.search.loss.target import Target
from latency_nas.search.plan.architecture import Architecture
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.projection import most_probable_within, project
from latency_nas.search.supernet.choice import Choice, ElementsOf, GatesOf, ParameterOf
from latency_nas.search.supernet.softmax_row import SoftmaxRow
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


def make_argmax(architecture: Architecture, choices: Sequence[Choice], supernet: Any) -> None:
    """Make an architecture the argmax: raise the parameter of each choice's candidate just above the others.

    A parameter that is the largest already is left as it is.

    Args:
        architecture: Choice -> the index of its candidate.
        choices: Choices of the supernet; those without weights are left out.
        supernet: Supernet that has the parameters; None where a plan was attached without it.

    Raises:
        SearchError: if a function gives the weights of a choice, and neither is their parameter known nor another
            function that makes an architecture the argmax.
    """
    if supernet is None or not choices:
        raise SearchError(
            "Expected a supernet whose architecture parameters can be moved, but the weights were given with a plan: "
            "take the architecture that latency.project() gives."
        )
    framework = framework_of(supernet)
    rows: dict[str, SoftmaxRow] = {}
    for choice in choices:
        if choice.weights is None or isinstance(choice.weights, ParameterOf | ElementsOf) or _setter(choice):
            continue
        row = framework.softmax_row(supernet, choice.weights, logits=choice.logits)
        if row is None:
            raise SearchError(
                f"Expected weights of `{choice.module}` that can be moved, which are the softmax of as many numbers of "
                f"one parameter, but a function gives others: give groups_of or options_of `set_architecture`, a "
                f"function of the supernet and an architecture that makes it the argmax, or take the architecture that "
                f"latency.project() gives."
            )
        rows[choice.module] = row
    for name, row in rows.items():
        framework.raise_element(row, architecture[name], _MARGIN)
    for choice in choices:
        weights, index = choice.weights, architecture[choice.module]
        if isinstance(weights, ParameterOf | ElementsOf) and int(weights(supernet).argmax()) != index:
            framework.raise_above(supernet, weights, index, _MARGIN)
    for setter in dict.fromkeys(filter(None, map(_setter, choices))):
        setter(supernet, architecture)


def _setter(choice: Choice) -> Callable[[Any, Architecture], object] | None:
    return choice.weights.set_architecture if isinstance(choice.weights, GatesOf) else None
