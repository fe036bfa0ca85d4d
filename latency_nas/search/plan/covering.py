"""Architectures that show cases: any two candidates of different choices together, or given ones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latency_nas.search.plan.diagrams import Path

__all__ = ["MAX_LISTED", "covering_rows", "every_row", "new_rows", "rows_along"]

MAX_LISTED = 128  # spaces up to this size are listed whole


def every_row(sizes: Sequence[int]) -> NDArray[np.intp]:
    """All architectures of a small space, as indices of candidates: shape ``(architectures, choices)``."""
    return np.array(list(product(*map(range, sizes))), np.intp)


def new_rows(rows: ArrayLike, known: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Architectures that are not among those that are known, each once."""
    before = set(map(bytes, known))
    return list({bytes(row): row for row in np.ascontiguousarray(rows, np.intp) if bytes(row) not in before}.values())


def covering_rows(sizes: Sequence[int], random: np.random.Generator, *, pairs: bool = True) -> NDArray[np.intp]:
    """Architectures in which any two candidates of different choices occur together; all of a small space.

    Each starts with a pair that is not covered yet and adds, choice by choice, the candidate with the most new pairs
    (AETG: Cohen, Dalal, Fredman and Patton, IEEE Transactions on Software Engineering 23, 1997).

    Args:
        sizes: Number of candidates of each choice.
        random: Generator of the order.
        pairs: Whether any two candidates have to occur together; otherwise every candidate occurs at least twice, once
            with those of its index in all choices.

    Returns:
        Indices of candidates, of shape ``(architectures, choices)``.
    """
    if not pairs:
        equal = [[min(index, size - 1) for size in sizes] for index in range(max(sizes))]
        mixed = [np.resize(random.permutation(size), max(sizes)) for size in sizes]
        return np.array([*equal, *np.transpose(mixed)], np.intp)
    if prod(sizes) <= MAX_LISTED:
        return every_row(sizes)
    offsets = np.cumsum([0, *sizes[:-1]])
    owner = np.repeat(np.arange(len(sizes)), sizes)
    uncovered = owner[:, None] != owner[None, :]
    rows = []
    while uncovered.any():
        left = np.argwhere(uncovered)
        flat = list(left[random.integers(len(left))])
        n_new = uncovered[flat].sum(0)  # for each candidate: pairs with picked ones that are not covered yet
        for row in random.permutation([row for row in range(len(sizes)) if row not in owner[flat]]):
            within = slice(offsets[row], offsets[row] + sizes[row])
            flat.append(offsets[row] + (n_new[within] + random.random(sizes[row])).argmax())
            n_new += uncovered[flat[-1]]
        uncovered[np.ix_(flat, flat)] = False
        rows.append(np.sort(flat) - offsets)
    return np.array(rows, np.intp)


def rows_along(
    paths: Sequence[tuple[Path, int]], sizes: Sequence[int], random: np.random.Generator, n_at_most: int
) -> NDArray[np.intp]:
    """Random architectures in given cases, each in as many of them as fit together.

    Args:
        paths: The cases, and the number of architectures that is wanted in each.
        sizes: Number of candidates of each choice.
        random: Generator of the architectures.
        n_at_most: Number of architectures; some cases may be left out.

    Returns:
        Indices of candidates, of shape ``(architectures, choices)``.
    """
    rows: list[NDArray[np.intp]] = []
    wanted = list(paths)
    while wanted and len(rows) < n_at_most:
        allowed: Path = {}
        rest = []
        random.shuffle(wanted)
        for path, n in wanted:
            both = {
                choice: tuple([index for index in some if index in allowed.get(choice, some)])
                for choice, some in path.items()
            }
            fits = all(both.values())
            if fits:
                allowed |= both
            if n > fits:
                rest.append((path, n - fits))
        wanted = rest
        row = random.integers(0, sizes)
        for choice, some in allowed.items():
            row[choice] = random.choice(some)
        rows.append(row)
    return np.array(rows, np.intp).reshape(-1, len(sizes))
