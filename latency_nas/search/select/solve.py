"""`Solver`: the best architecture of a program within its limits, with a proof.

The relaxation gives a bound, and how much each candidate lowers it. Few candidates lower it by so little that they can
be part of the best architecture. First, the architectures near the bound are listed, in longer and longer lists, until
one is near enough to the bound. Where a list would be too long, the candidates that are left are the core: it is solved
as a mixed-integer program (HiGHS, by SciPy), and its solution shows which candidates make the next core, until none
outside it can lead to a better solution.

References:
    Balas and Zemel, An algorithm for large zero-one knapsack problems, Operations Research 28, 1980 (the core).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from time import monotonic

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

from latency_nas.errors import SearchError
from latency_nas.search.plan.architecture import Architecture
from latency_nas.search.plan.limits import LimitRow
from latency_nas.search.select.budget import Limit
from latency_nas.search.select.enumeration import Listing, list_within, width_of
from latency_nas.search.select.linear_limits import LinearLimit
from latency_nas.search.select.program import Factors, Program
from latency_nas.search.select.relaxation import Relaxation, relax

__all__ = ["Optimum", "Solver"]

_OPTIMAL, _TIME_LIMIT, _INFEASIBLE = 0, 1, 2  # SciPy's codes
_TOLERANCE = 1e-6  # of HiGHS, for the gap between score and bound
_FIRST_CORE = 40  # candidates of the first core, beside the best one of each choice
_GROWTH = 4.0  # of a core without a solution
_WIDENING = 1.5  # of a list whose best architecture is not proved
_NARROWEST = 0.01  # width of a list as a share of the width within which so many architectures are
_WIDEST = 4.0  # width of a first list as a multiple of it, at most
_LISTED = 100_000, 400_000, 1_600_000  # architectures that a listing looks at
_MAX_LISTED_PRODUCTS = 50_000_000  # products that a listing multiplies
_TANGENT_ROUNDS = 20  # linear relaxations, each with the tangents at the solution of the one before


@dataclass(frozen=True, slots=True)
class Optimum:
    """The best architecture that was found.

    Args:
        architecture: Choice -> the index of its candidate.
        score: Its score.
        bound: Score that no architecture exceeds.
    """

    architecture: Architecture
    score: float
    bound: float


class Solver:
    """Finds the best architecture within limits, then the best of the others, and so on.

    Args:
        sizes: Choice -> number of its candidates.
        scores: Score of each candidate, and of sets of candidates of different choices.
        limits: Limits that an architecture has to keep.
        rows: Limits on choices to keep, beside those of the limits' plans.
        max_gap: Share of the score by which it may be below the bound.
        time_limit_s: Time for all solutions, in seconds; None for as long as it takes.

    Attributes:
        out_of_time: Whether the time limit ended the search for the last solution.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        scores: Mapping[Factors, float],
        limits: Sequence[Limit],
        *,
        rows: Sequence[LimitRow] = (),
        max_gap: float = 0.0,
        time_limit_s: float | None = None,
    ) -> None:
        self.program, self.limits, self.max_gap = Program.of(sizes, scores), limits, max_gap
        self.rows = [LinearLimit(self.program, limit) for limit in limits]
        self.choice_rows = tuple(dict.fromkeys([*rows, *(row for limit in limits for row in limit.plan.limits)]))
        for row in self.choice_rows:
            self.program.keep(row)
        self.deadline = None if time_limit_s is None else monotonic() + time_limit_s
        self.out_of_time = False
        self.listing: Listing | None = None
        self.ceiling = inf  # score that no architecture exceeds which is not excluded yet

    def solve(self) -> Optimum | None:
        """The best architecture; None if none keeps the limits, or if it is `out_of_time` before one is found.

        Raises:
            SearchError: if the solver failed.
        """
        self.out_of_time = self._remaining_s() == 0
        if self.out_of_time:
            return None
        if (best := self._best_listed()) and self._is_proved(best):
            return best
        relaxation = self._relax()
        if relaxation is None:
            return None
        self.ceiling = min(self.ceiling, relaxation.bound)
        best = self._solve_by_lists(relaxation)
        if self.ceiling == -inf or (best and self._is_proved(best)):
            return best
        return self._solve_by_cores(relaxation, best)

    def exclude(self, architecture: Mapping[str, int], n_choices: int) -> None:
        """Exclude architectures that differ from one in fewer than `n_choices` choices."""
        self.program.differ(architecture, n_choices)
        if self.listing is not None:
            self.listing.exclude(architecture, n_choices)

    def _keeps(self, architecture: Architecture) -> bool:
        """Whether an architecture keeps all limits, exactly."""
        kept = all(row.keeps(architecture) for row in self.choice_rows)
        return kept and all(limit.keeps(architecture) for limit in self.limits)

    def _is_proved(self, best: Optimum) -> bool:
        return best.bound - best.score <= self.max_gap * abs(best.score)

    def _best_listed(self) -> Optimum | None:
        """The best architecture of the listing that keeps the limits exactly."""
        if self.listing is None:
            return None
        for number in range(len(self.listing.rows)):
            found = self.listing.architecture(number)
            if self._keeps(found):
                self.listing.skip(number)
                score = self.program.score(found)
                return Optimum(found, score, max(score, self.listing.floor))
        return None

    def _solve_by_lists(self, relaxation: Relaxation) -> Optimum | None:
        """The best architecture of longer and longer lists, until it is proved or the list would be too long."""
        sizes = list(self.program.sizes.values())
        best: Optimum | None = None
        for n_listed in _LISTED:
            if n_listed * len(self.program.products) > _MAX_LISTED_PRODUCTS:
                break
            widest, width, is_complete = width_of(relaxation, sizes, n_listed), 0.0, True
            while is_complete and width < inf and self._remaining_s() != 0:
                proving = relaxation.bound - self._enough(self.ceiling) if self.max_gap else widest
                width = max(min(proving, _WIDEST * widest), _WIDENING * width, _NARROWEST * widest)
                self.listing = list_within(self.program, relaxation, width, max_listed=n_listed)
                best = self._better(best, self._best_listed())
                if best is not None and self._is_proved(best):
                    return best
                is_complete = width > 0 and self.listing.floor <= relaxation.bound - width
        return best

    def _better(self, best: Optimum | None, listed: Optimum | None) -> Optimum | None:
        """The better one of two, with the bound that follows from the listing that the second one is the best of."""
        if self.listing is not None:
            self.ceiling = min(self.ceiling, self.listing.floor if listed is None else listed.bound)
        found = [each for each in (best, listed) if each is not None]
        if not found:
            return None
        better = max(found, key=lambda each: each.score)
        return Optimum(better.architecture, better.score, max(better.score, self.ceiling))

    def _enough(self, bound: float) -> float:
        """A score that is near enough to a bound."""
        return bound - self.max_gap * abs(bound) / (1 + self.max_gap)

    def _solve_by_cores(self, relaxation: Relaxation, best: Optimum | None) -> Optimum | None:
        """The best architecture of larger and larger cores, until none outside the core can be better."""
        width = _first_width(relaxation, len(self.program.sizes))
        widest = float(relaxation.regrets.max())
        while True:
            found, bound = self._solve_core(relaxation.regrets <= width, best)
            if found is not None and (best is None or found.score > best.score):
                best = found
            outside = relaxation.bound - width if width < widest else -inf
            bound = min(max(bound, outside), self.ceiling)
            if best is not None:
                is_proved = bound - best.score <= _TOLERANCE * self.program.objective()[1]
                best = Optimum(best.architecture, best.score, best.score if is_proved else bound)
                left = best.score + self.max_gap * abs(best.score)
                if min(outside, self.ceiling) <= left or self.out_of_time:
                    self.ceiling = best.bound
                    return best
                width = min(relaxation.bound - left, widest)
            elif width >= widest or self.out_of_time:
                return None
            else:
                width = min(_GROWTH * width, widest)

    def _relax(self) -> Relaxation | None:
        for _ in range(_TANGENT_ROUNDS):
            relaxation = relax(self.program, time_limit_s=self._remaining_s())
            if relaxation is None or relaxation.values is None:
                break
            cuts = [rows.cut(relaxation.values) for rows in self.rows]
            if not any(cuts):
                break
        return relaxation

    def _remaining_s(self) -> float | None:
        return None if self.deadline is None else max(self.deadline - monotonic(), 0.0)

    def _solve_core(self, is_core: NDArray[np.bool_], best: Optimum | None) -> tuple[Optimum | None, float]:
        """The best architecture of some candidates, and the bound that was proved for these.

        Solutions that exceed a limit, by the solver's tolerance or since it is not linear, are cut off.
        """
        bound = inf
        while True:
            values, core_bound = self._branch_and_bound(is_core, best)
            bound = min(bound, core_bound)
            if values is None:
                return None, bound
            found = self.program.architecture(values)
            if self._keeps(found):
                score = self.program.score(found)
                return Optimum(found, score, bound), bound
            for rows in self.rows:
                rows.cut(self.program.values(found))
            self.program.differ(found, 1)

    def _branch_and_bound(
        self, is_core: NDArray[np.bool_], best: Optimum | None
    ) -> tuple[NDArray[np.float64] | None, float]:
        """Values of all variables in the best solution of the core, and the bound of its score."""
        program = self.program
        are_core = [all(is_core[list(group)].any() for group in factors) for factors in program.products]
        kept = np.append(is_core, are_core).astype(bool)
        objective, unit = program.objective()
        rows = [LinearConstraint(each.values[:, kept], each.lower, each.upper)
                for each in (program.choice_rows(), program.other_rows())]  # fmt: skip
        lowest = -inf if best is None else best.score / unit
        rows.append(LinearConstraint(objective[kept][None], lowest, self.ceiling / unit + _TOLERANCE))
        integral = np.arange(len(kept))[kept] < program.n_candidates
        remaining_s = self._remaining_s()
        options = {"mip_rel_gap": self.max_gap} | ({} if remaining_s is None else {"time_limit": remaining_s})
        result = milp(-objective[kept], integrality=integral, bounds=Bounds(0, 1), constraints=rows, options=options)
        self.out_of_time |= result.status == _TIME_LIMIT
        if result.status == _INFEASIBLE:
            return None, -inf
        if result.status not in {_OPTIMAL, _TIME_LIMIT}:
            raise SearchError(f"Expected the knapsack to be solved, but the solver gave up: {result.message}")
        bound = inf if result.mip_dual_bound is None else -result.mip_dual_bound * unit
        if result.x is None:
            return None, bound
        values = np.zeros(len(kept))
        values[kept] = result.x
        return values, bound


def _first_width(relaxation: Relaxation, n_choices: int) -> float:
    """The regret of the last candidate of the first core."""
    last = min(n_choices + _FIRST_CORE, len(relaxation.regrets)) - 1
    return float(np.partition(relaxation.regrets, last)[last])
