"""All architectures whose score can be near a bound, listed choice by choice.

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
from latency_nas.search.select.program import Program
from latency_nas.search.select.relaxation import Relaxation

__all__ = ["Listing", "list_within", "width_of"]

_N_BINS = 1000  # of sums of regrets, when architectures are counted
_GROWTH = 8.0  # of the range of the bins, where too few are in it
_SMALLEST = 1e-12  # range of the bins as a share of all regrets
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


def list_within(program: Program, relaxation: Relaxation, width: float, *, max_listed: int) -> Listing | None:
    """The architectures whose score is at most `width` below the bound; None if there are too many to list.

    Choices are added one by one. What is left of the others bounds each row, so that most beginnings that cannot keep
    the rows, or whose score will be too low, are left out early.

    Args:
        program: Program whose rows they have to keep.
        relaxation: Its relaxation.
        width: How far below the bound.
        max_listed: Number of architectures, or of beginnings of them, at most.
    """
    sizes = list(program.sizes.values())
    options = [
        start + np.flatnonzero(part <= width)
        for start, part in zip(
            program.starts().values(), np.split(relaxation.regrets, np.cumsum(sizes)[:-1]), strict=True
        )
    ]
    order = sorted(range(len(sizes)), key=lambda number: -_second(relaxation.regrets[options[number]]))
    matrix, lower, upper = _sums_of(program, relaxation.bound - width)
    low, high = lower.copy(), upper.copy()
    for gates in options:
        low, high = low - matrix[:, gates].max(1), high - matrix[:, gates].min(1)
    regrets, sums, chosen = np.zeros(1), np.zeros((len(matrix), 1)), np.zeros((0, 1), np.int32)
    for number in order:
        gates = options[number]
        low, high = low + matrix[:, gates].max(1), high + matrix[:, gates].min(1)
        totals = [sums + matrix[:, [gate]] for gate in gates]
        kept = [
            np.flatnonzero(
                (regrets + relaxation.regrets[gate] <= width)
                & ((total >= low[:, None]) & (total <= high[:, None])).all(0)
            )
            for gate, total in zip(gates, totals, strict=True)
        ]
        if sum(map(len, kept)) > max_listed:
            return None
        sums = np.concatenate([total[:, rows] for total, rows in zip(totals, kept, strict=True)], axis=1)
        regrets = np.concatenate(
            [regrets[rows] + relaxation.regrets[gate] for gate, rows in zip(gates, kept, strict=True)]
        )
        gate_of = np.repeat(gates, list(map(len, kept))).astype(np.int32)
        chosen = np.concatenate([chosen[:, np.concatenate(kept)], gate_of[None]])
    return _listing(program, chosen[np.argsort(order)].T.astype(np.intp), relaxation.bound - width)


def _second(regrets: NDArray[np.float64]) -> float:
    """The second smallest regret. Choices that multiply the list most come last."""
    return float(np.partition(regrets, 1)[1]) if len(regrets) > 1 else np.inf


def _sums_of(program: Program, floor: float) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The coefficients of the candidates in the limits and in the score, and bounds of their sums for any products."""
    rows = program.limit_rows()
    scores, unit = program.objective()
    matrix = np.vstack([rows.values.toarray(), scores])
    products = matrix[:, program.n_candidates :]
    lower = np.append(rows.lower, floor / unit) - np.maximum(products, 0.0).sum(1) - _TOLERANCE
    upper = np.append(rows.upper, np.inf) - np.minimum(products, 0.0).sum(1) + _TOLERANCE
    return matrix[:, : program.n_candidates], lower, upper


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
