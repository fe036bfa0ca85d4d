"""Which architectures to meter, so that every candidate is met in several whole networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count, product
from math import prod

import numpy as np

__all__ = ["covering_architectures", "random_architectures"]

_MAX_LISTED = 10_000  # spaces up to this size are listed and shuffled, larger ones drawn from


def covering_architectures(choices: Mapping[str, int], *, times: int, seed: int = 0) -> list[dict[str, int]]:
    """As few random architectures as meet each candidate of each choice at least `times` times.

    Args:
        choices: the number of candidates of each choice, as `OpGraph.choices` gives it.
        times: how often each candidate is to be met.
        seed: of the shuffles.

    Returns:
        ``times * max(choices.values())`` architectures, each choice -> candidate.

    Example:
        >>> plan = covering_architectures({"a": 2, "b": 3}, times=2)
        >>> len(plan), sorted(architecture["b"] for architecture in plan)
        (6, [0, 0, 1, 1, 2, 2])
    """
    random = np.random.default_rng(seed)
    n_max = max(choices.values(), default=1)
    plan: list[dict[str, int]] = []
    for _ in range(times):
        columns = {name: np.resize(random.permutation(n), n_max) for name, n in choices.items()}
        shuffled = {name: random.permutation(column) for name, column in columns.items()}
        plan += [{name: int(column[row]) for name, column in shuffled.items()} for row in range(n_max)]
    return plan


def random_architectures(
    choices: Mapping[str, int], n: int, *, seed: int, unlike: Sequence[Mapping[str, int]] = ()
) -> list[dict[str, int]]:
    """`n` different architectures drawn uniformly, none of them in `unlike`; fewer if there are no more."""
    random = np.random.default_rng(seed)
    if prod(choices.values()) <= _MAX_LISTED:
        listed = [dict(zip(choices, row, strict=True)) for row in product(*map(range, choices.values()))]
        drawn: Iterator[dict[str, int]] = (listed[index] for index in random.permutation(len(listed)))
    else:
        drawn = ({name: int(random.integers(size)) for name, size in choices.items()} for _ in count())
    taken = {tuple(architecture[name] for name in choices) for architecture in unlike}
    n_left = prod(choices.values()) - len(taken)
    found: list[dict[str, int]] = []
    while len(found) < min(n, n_left):
        architecture = next(drawn)
        row = tuple(architecture.values())
        if row not in taken:
            taken.add(row)
            found.append(architecture)
    return found
