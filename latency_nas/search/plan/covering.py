"""Architectures in which any two candidates of different choices meet."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

import numpy as np
from numpy.typing import NDArray

__all__ = ["covering_rows"]

_MAX_LISTED = 128  # spaces up to this size are looked at whole


def covering_rows(sizes: Sequence[int], random: np.random.Generator) -> NDArray[np.intp]:
    """Architectures in which any two candidates of different choices meet; of a small space, all.

    Each is begun by two that have not met, and goes on with those that have met the fewest of it (AETG: Cohen, Dalal,
    Fredman and Patton, IEEE Transactions on Software Engineering 23, 1997).

    Args:
        sizes: Number of candidates of each choice.
        random: Source of the order in which they meet.

    Returns:
        Indices of candidates, of shape ``(architectures, choices)``.
    """
    if prod(sizes) <= _MAX_LISTED:
        return np.array(list(product(*map(range, sizes))), np.intp)
    offsets = np.cumsum([0, *sizes[:-1]])
    owner = np.repeat(np.arange(len(sizes)), sizes)
    unmet = owner[:, None] != owner[None, :]
    rows = []
    while unmet.any():
        pairs = np.argwhere(unmet)
        flat = list(pairs[random.integers(len(pairs))])
        met = unmet[flat].sum(0)  # of each candidate: with how many that are picked it has not met
        for row in random.permutation([row for row in range(len(sizes)) if row not in owner[flat]]):
            within = slice(offsets[row], offsets[row] + sizes[row])
            flat.append(offsets[row] + (met[within] + random.random(sizes[row])).argmax())
            met += unmet[flat[-1]]
        unmet[np.ix_(flat, flat)] = False
        rows.append(np.sort(flat) - offsets)
    return np.array(rows, np.intp)
