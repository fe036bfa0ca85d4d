"""Samples of a supernet's architectures: random ones, and ones that contain every candidate several times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count, product
from math import prod

import numpy as np

__all__ = ["covering_architectures", "random_architectures"]

_MAX_LISTED = 10_000  # spaces up to this size are listed and shuffled; from larger ones, architectures are drawn


def covering_architectures(choices: Mapping[str, int], *, times: int, seed: int = 0) -> list[dict[str, int]]:
    """The smallest set of random architectures in which each candidate of each choice occurs at least `times` times.

    Args:
        choices: Number of candidates of each choice, as in `OpGraph.choices`.
        times: Minimum number of architectures that contain each candidate.
        seed: Seed of the random numbers.

    Returns:
        ``times * max(choices.values())`` architectures, each choice -> candidate.

    Example:
        >>> architectures = covering_architectures({"a": 2, "b": 3}, times=2)
        >>> len(architectures), sorted(architecture["b"] for architecture in architectures)
        (6, [0, 0, 1, 1, 2, 2])
    """
    random = np.random.default_rng(seed)
    n_max = max(choices.values(), default=1)
    architectures: list[dict[str, int]] = []
    for _ in range(times):
        columns = {name: np.resize(random.permutation(n), n_max) for name, n in choices.items()}
        shuffled = {name: random.permutation(column) for name, column in columns.items()}
        architectures += [{name: int(column[row]) for name, column in shuffled.items()} for row in range(n_max)]
    return architectures


def random_architectures(
    choices: Mapping[str, int], n: int, *, seed: int, unlike: Sequence[Mapping[str, int]] = ()
) -> list[dict[str, int]]:
    """`n` different random architectures, drawn uniformly.

    Args:
        choices: Number of candidates of each choice, as in `OpGraph.choices`.
        n: Number of architectures. If the space has fewer, all are returned.
        seed: Seed of the random numbers.
        unlike: Architectures to exclude.

    Example:
        >>> len(random_architectures({"a": 2, "b": 3}, 4, seed=0)), len(random_architectures({"a": 2}, 4, seed=0))
        (4, 2)
    """
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
