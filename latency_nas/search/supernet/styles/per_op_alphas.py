"""A parameter in each module that chooses: FBNet, TF-NAS, ProxylessNAS."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from latency_nas.search.supernet.choice import Choice, ParameterOf
from latency_nas.search.supernet.framework import Framework
from latency_nas.search.supernet.styles.module_groups import names_in, vectors_of

__all__ = ["USUAL_NAMES", "add_place", "find_per_op_alphas"]

USUAL_NAMES = ("alpha", "theta", "arch")  # parts of the usual names, by which one of several vectors is selected


def find_per_op_alphas(supernet: Any, framework: Framework) -> tuple[Choice, ...]:
    """Modules with one list of candidates and one parameter vector of the same length.

    As in FBNet (arXiv 1812.03443), TF-NAS (arXiv 2008.05314) and ProxylessNAS (arXiv 1812.00332), whose binary gates
    are a second such vector. Of several vectors, the one called alpha, theta or arch is taken. The weights of the
    candidates are the softmax of the parameter, or the sample that `gumbel_softmax` draws in the module's forward.
    Modules that share one parameter are places of one choice.
    """
    found: dict[int, Choice] = {}  # id of the parameter -> the choice
    for name, module in framework.named_modules(supernet):
        lists = [
            (key, group)
            for key, group in framework.children(module).items()
            if isinstance(group, framework.lists) and len(group) > 1
        ]
        if len(lists) != 1:
            continue
        ((key, group),) = lists
        fitting = [vector for vector, length in vectors_of(module, framework).items() if length == len(group)]
        usual = [vector for vector in fitting if any(word in vector.lower() for word in USUAL_NAMES)]
        chosen = fitting if len(fitting) == 1 else usual
        if len(chosen) == 1:
            path = f"{name}.{key}" if name else key
            choice = Choice(
                module=name,
                candidates=names_in(path, group, framework),
                weights=ParameterOf(name, chosen[0]),
                sample=framework.sample(name),
            )
            add_place(found, choice, getattr(module, chosen[0]))
    return tuple(found.values())


def add_place(found: dict[int, Choice], choice: Choice, parameter: Any) -> None:
    """Add a choice, or a place to the one that has the same parameter.

    Args:
        found: Id of a parameter -> its choice.
        choice: Choice in one place.
        parameter: Its architecture parameters.
    """
    first = found.get(id(parameter))
    found[id(parameter)] = (
        choice if first is None
        else replace(first, others=(*first.others, choice.candidates), sample=None)  # each place draws its own
    )  # fmt: skip
