"""Which architectures to meter, so that every candidate is met in several whole networks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

__all__ = ["covering_architectures", "random_architectures"]


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
    n_most = max(choices.values(), default=1)
    plan: list[dict[str, int]] = []
    for _ in range(times):
        columns = {name: np.resize(random.permutation(n), n_most) for name, n in choices.items()}
        shuffled = {name: random.permutation(column) for name, column in columns.items()}
        plan += [{name: int(column[row]) for name, column in shuffled.items()} for row in range(n_most)]
    return plan


def random_architectures(
    choices: Mapping[str, int], n: int, *, seed: int, unlike: list[dict[str, int]] | None = None
) -> list[dict[str, int]]:
    """`n` different architectures, each candidate equally likely, none of them in `unlike`."""
    random = np.random.default_rng(seed)
    found: list[dict[str, int]] = []
    for _ in range(100 * n):
        architecture = {name: int(random.integers(size)) for name, size in choices.items()}
        if architecture not in found and architecture not in (unlike or []):
            found.append(architecture)
        if len(found) == n:
            break
    return found
