"""All architectures whose score can be near a bound, listed.

The score of an architecture is below the bound by at least the sum of its candidates' regrets (see
`latency_nas.search.select.relaxation`). Where the bound is tight, few architectures have a sum below a small width, and
listing them all is much faster than branching.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latency_nas.search.plan.architecture import Architecture
from latency_nas.search.select.halves import Windows, join
from latency_nas.search.select.program import Program
from latency_nas.search.select.relaxation import Relaxation

__all__ = ["Listing", "list_within", "width_of"]

_N_BINS = 1000  # of sums of regrets, when architectures are counted
_GROWTH = 8.0  # of the range of the bins, where too few are in it
_SMALLEST = 1e-12  # range of the bins as a share of all regrets
_PAIRS = 50  # that are looked at, for each combination of half of the choices
_TOLERANCE = 1e-6  # of rows, whose limits are in the thousands (`Program.bound`)


@dataclass(slots=True)
class Listing:
    """Architectures that keep the rows of a program, best first; none above `floor` is missing.

    Args:
        choices: Names of the choices.
        rows: Indices of candidates, of shape ``(architectures, choices)``.
        scores: Their scores, of shape ``(architectures,)``.
        floor: Score above which the listing is complete.
    """

    choices: Sequence[str]
    rows: NDArray[np.intp]
    scores: NDArray[np.float64]
    floor: float

    def exclude(self, architecture: Mapping[str, int], n_choices: int) -> None:
        """Leave out architectures that differ from one in fewer than `n_choices` choices."""
        self._keep((self.rows != [architecture[name] for name in self.choices]).sum(1) >= n_choices)

    def skip(self, n: int) -> None:
        """Leave out the first `n` architectures."""
        self._keep(np.arange(len(self.rows)) >= n)

    def architecture(self, number: int) -> Architecture:
        """One of the architectures."""
        return Architecture(zip(self.choices, self.rows[number].tolist(), strict=True))

    def _keep(self, kept: NDArray[np.bool_]) -> None:
        self.rows, self.scores = self.rows[kept], self.scores[kept]


def width_of(relaxation: Relaxation, sizes: Sequence[int], n_architectures: float) -> float:
    """A width that is not exceeded by the sum of regrets of at most so many architectures; inf where all are fewer.

    The sums are counted by dynamic programming over bins.
    """
    if np.prod(np.asarray(sizes, np.float64)) <= n_architectures:
        return float("inf")
    split = np.split(relaxation.regrets, np.cumsum(sizes)[:-1])
    total = float(sum(part.max() for part in split))
    highest = total
    while True:
        n_within = int(np.searchsorted(_counts(split, highest).cumsum(), n_architectures, side="right"))
        if n_within == _N_BINS and highest < total:
            highest = min(_GROWTH * highest, total)
        elif n_within >= _N_BINS // 10 or highest < _SMALLEST * total:
            return highest * n_within / _N_BINS
        else:
            highest *= (n_within + 1) / _N_BINS


def _counts(regrets: Sequence[NDArray[np.float64]], highest: float) -> NDArray[np.float64]:
    """Number of architectures in each bin of the sum of regrets, from 0 to `highest`; each regret is rounded down."""
    counts = np.zeros(_N_BINS)
    counts[0] = 1
    for part in regrets:
        before, counts = counts, np.zeros(_N_BINS)
        for shift in np.floor(part[part < highest] / highest * _N_BINS).astype(int).tolist():
            counts[shift:] += before[: _N_BINS - shift]
    return counts


def list_within(program: Program, relaxation: Relaxation, width: float, *, max_listed: int) -> Listing:
    """The architectures whose score is at most `width` below the bound, or less where there are too many to list.

    Args:
        program: Program whose rows they have to keep.
        relaxation: Its relaxation.
        width: How far below the bound, at most; `Listing.floor` says down to which score the listing is complete.
        max_listed: Number of architectures that are looked at, at most.
    """
    starts, sizes = program.starts().values(), list(program.sizes.values())
    options = [
        start + np.flatnonzero(part <= width)
        for start, part in zip(starts, np.split(relaxation.regrets, np.cumsum(sizes)[:-1]), strict=True)
    ]
    order = sorted(range(len(sizes)), key=lambda number: -_second(relaxation.regrets[options[number]]))
    windows = Windows.of(program, relaxation, width)
    parts = [[options[number] for number in order[part::2]] for part in (0, 1)]
    n_combinations = max(max_listed // _PAIRS, 1)
    left = windows.half(parts[0], parts[1], width, n_combinations)
    right = windows.half(parts[1], parts[0], width, n_combinations)
    first, second, complete = join(left, right, windows, width, max_listed)
    gates = np.empty((len(first), len(sizes)), np.intp)
    gates[:, order[::2]], gates[:, order[1::2]] = left.gates[:, first].T, right.gates[:, second].T
    return _listing(program, gates, relaxation.bound - complete)


def _second(regrets: NDArray[np.float64]) -> float:
    """The second smallest regret. Choices that multiply the list most come last."""
    return float(np.partition(regrets, 1)[1]) if len(regrets) > 1 else np.inf


def _listing(program: Program, gates: NDArray[np.intp], floor: float) -> Listing:
    """The architectures of chosen candidates, of shape ``(architectures, choices)``, that keep the rows."""
    scores = np.asarray(program.scores)[gates].sum(1)
    kept = np.ones(len(gates), bool)
    if program.products:
        products = program.product_values(gates)
        scores += products @ np.asarray(program.scores)[program.n_candidates :]
        rows = program.limit_rows()
        values = rows.values.toarray()
        sums = values[:, gates].sum(2).T + products @ values[:, program.n_candidates :].T
        kept = ((sums >= rows.lower - _TOLERANCE) & (sums <= rows.upper + _TOLERANCE)).all(1)
    order = np.flatnonzero(kept)[np.argsort(-scores[kept], kind="stable")]
    starts = np.array(list(program.starts().values()))
    return Listing(tuple(program.sizes), gates[order] - starts, scores[order], floor)
