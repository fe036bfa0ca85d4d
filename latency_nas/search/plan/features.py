"""Features of an architecture, by which the kernels of derived networks are counted.

A feature is a set of groups of candidates, each of one choice: it is 1 where one of each group is chosen, and 0
elsewhere. The feature without groups is always 1. How often a network runs a kernel is a sum of features, each times an
integer that is not negative, as long as it follows from each choice and from those that meet.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, combinations, product
from math import prod

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

from latency_nas.search.plan.cost import Group
from latency_nas.search.plan.limits import LimitRow

__all__ = ["Feature", "activity", "explained", "limit_features", "single_features", "term_features"]

Feature = tuple[Group, ...]  # groups of candidates, counted through all choices

_MAX_PATTERNS = 256  # of the choices of one limit
_MAX_FEATURES = 10_000
_ALWAYS = 0.9  # weight of the feature that is always 1; that of others is the number of their groups
_SOLVED = 0
_TIME_LIMIT_S = 30.0


def single_features(sizes: Sequence[int]) -> list[Feature]:
    """The feature that is always 1, and that of each candidate."""
    return [(), *(((index,),) for index in range(sum(sizes)))]


def limit_features(sizes: Sequence[int], names: Sequence[str], limits: Iterable[LimitRow]) -> list[Feature]:
    """The features of choices that meet in a limit: of the groups of candidates that count alike in it.

    They are the pairs of groups of two choices, and where these are few, the patterns of all of its choices: which
    edges of a node are not zero, say.

    Args:
        sizes: Number of candidates of each choice.
        names: Names of the choices.
        limits: Limits on choices.
    """
    offsets = np.cumsum([0, *sizes]).tolist()
    found: dict[Feature, None] = {}
    for limit in limits:
        groups: dict[int, list[Group]] = {}
        for name, weights in limit.weights:
            number = names.index(name)
            alike = [[index for index, other in enumerate(weights) if other == one] for one in dict.fromkeys(weights)]
            groups[number] = [tuple([offsets[number] + index for index in some]) for some in alike]
        for first, second in combinations(sorted(groups), 2):
            found.update(dict.fromkeys(product(groups[first], groups[second])))
        if prod(map(len, groups.values())) <= _MAX_PATTERNS:
            found.update(dict.fromkeys(product(*(groups[number] for number in sorted(groups)))))
    return list(found)


def term_features(sizes: Sequence[int], terms: Iterable[Feature]) -> list[Feature]:
    """The features of choices that meet in a kernel of the supernet's paths: its own, and all pairs of candidates.

    Args:
        sizes: Number of candidates of each choice.
        terms: Features of several groups.
    """
    offsets = np.cumsum([0, *sizes]).tolist()
    owner = np.repeat(np.arange(len(sizes)), sizes).tolist()
    found = dict.fromkeys(terms)
    meeting = dict.fromkeys(pair for term in found for pair in combinations(sorted(owner[g[0]] for g in term), 2))
    for pair in meeting:
        ours, theirs = (range(offsets[row], offsets[row + 1]) for row in pair)
        found.update(dict.fromkeys(((one,), (other,)) for one, other in product(ours, theirs)))
    return list(found)[:_MAX_FEATURES]


def activity(features: Sequence[Feature], rows: NDArray[np.intp], sizes: Sequence[int]) -> NDArray[np.bool_]:
    """Whether each feature is 1, of shape ``(architectures, features)``.

    Args:
        features: Features.
        rows: Indices of candidates, of shape ``(architectures, choices)``.
        sizes: Number of candidates of each choice.
    """
    gates = np.zeros((len(rows), sum(sizes)), bool)
    np.put_along_axis(gates, rows + np.cumsum([0, *sizes[:-1]]), True, 1)
    groups = {group: gates[:, list(group)].any(1) for group in dict.fromkeys(chain.from_iterable(features))}
    every = np.ones(len(rows), bool)
    columns = [np.logical_and.reduce([every, *(groups[group] for group in feature)]) for feature in features]
    return np.array(columns, bool).reshape(len(features), len(rows)).T


def explained(
    counts: NDArray[np.intp],
    features: Sequence[Feature],
    active: NDArray[np.bool_],
    factors: NDArray[np.float64] | None = None,
) -> dict[Feature, int]:
    """The few features whose sum, each times an integer, is a count in every architecture; none if there are none.

    The sum of the integers is minimal, since a kernel belongs to few candidates: the sparse solution of too few
    equations.

    Args:
        counts: How often a kernel runs, of shape ``(architectures,)``, somewhere more than 0.
        features: Features.
        active: Whether each is 1, of shape ``(architectures, features)``.
        factors: Factors of the integers in that sum, of shape ``(features,)``, which give another of several solutions.

    References:
        Chen, Donoho and Saunders, Atomic decomposition by basis pursuit, SIAM Journal on Scientific Computing 20, 1998.
    """
    most = np.where(active, counts[:, None], np.iinfo(np.intp).max).min(0)  # a feature is in each of its architectures
    usable = np.flatnonzero((most > 0) & active.any(0))
    first: dict[bytes, int] = {}
    for number in sorted(usable.tolist(), key=lambda number: len(features[number])):
        first.setdefault(np.packbits(active[:, number]).tobytes(), number)
    kept = list(first.values())
    if not active[counts > 0][:, kept].any(axis=1).all():
        return {}
    weights = np.array([max(len(features[number]), _ALWAYS) for number in kept])
    result = milp(
        weights if factors is None else weights * factors[kept],
        integrality=np.ones(len(kept)),
        bounds=Bounds(0, most[kept]),
        constraints=LinearConstraint(active[:, kept].astype(np.float64), counts, counts),
        options={"time_limit": _TIME_LIMIT_S},
    )
    if result.status != _SOLVED:
        return {}
    times = np.rint(result.x).astype(int).tolist()
    return {features[number]: n for number, n in zip(kept, times, strict=True) if n}
