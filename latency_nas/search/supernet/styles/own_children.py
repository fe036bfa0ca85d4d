"""Candidates that are children of the module that chooses, without a list around them: NNI."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from latency_nas.search.supernet.choice import Choice, ParameterOf
from latency_nas.search.supernet.framework import Framework
from latency_nas.search.supernet.styles.module_groups import vectors_of
from latency_nas.search.supernet.styles.per_op_alphas import USUAL_NAMES, add_place

__all__ = ["find_own_children"]

_STEMS = ("", "op", "path", "candidate", "choice", "branch", "edge")  # of numbered children that are alternatives


def find_own_children(supernet: Any, framework: Framework) -> tuple[Choice, ...]:
    """Modules whose children are the candidates, with one parameter vector of that length, called alpha, theta or arch.

    As in NNI's layer choices, which also have a softmax as a child, and list the names of their candidates. One of
    these, or children that are numbered as candidates (``op0``, ``op1`` ...), has to say that the children are
    alternatives: a block of layers that run in a row may have such a vector as well, to scale their outputs.
    """
    found: dict[int, Choice] = {}  # id of the parameter -> the choice
    for name, module in framework.named_modules(supernet):
        every = framework.children(module)
        children = {key: child for key, child in every.items() if not isinstance(child, framework.softmaxes)}
        is_list = isinstance(module, framework.lists)
        if is_list or len(children) < 2 or any(isinstance(child, framework.lists) for child in children.values()):
            continue
        fitting = [
            vector
            for vector, length in vectors_of(module, framework).items()
            if length == len(children) and any(word in vector.lower() for word in USUAL_NAMES)
        ]
        if len(fitting) == 1 and (len(children) < len(every) or _are_candidates(module, children)):
            prefix = f"{name}." if name else ""
            choice = Choice(
                module=name,
                candidates=tuple(None if child is None else f"{prefix}{key}" for key, child in children.items()),
                weights=ParameterOf(name, fitting[0]),
                sample=framework.sample(name),
            )
            add_place(found, choice, getattr(module, fitting[0]))
    return tuple(found.values())


def _are_candidates(module: Any, children: Mapping[str, Any]) -> bool:
    """Whether a module lists the names of its children, or numbers them as candidates."""
    keys = list(children)
    lists = (value for value in vars(module).values() if isinstance(value, list | tuple))
    if any(all(isinstance(each, str | int) for each in some) and list(map(str, some)) == keys for some in lists):
        return True
    parts = [re.fullmatch(r"(.*?)_?(\d+)", key) for key in keys]
    numbered = [(part[1].lower().strip("_"), int(part[2])) for part in parts if part is not None]
    in_order = len(numbered) == len(keys) and all(
        (stem, number + 1) == following for (stem, number), following in pairwise(numbered)
    )
    return in_order and numbered[0][0].removesuffix("s") in _STEMS
