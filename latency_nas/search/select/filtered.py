"""`Filtered`: how many candidates passed budgets, failed them, or are uncertain, and which."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_nas.search.select.budget import Budget
from latency_nas.search.select.outcome import FAILED, PASSED, UNCERTAIN

__all__ = ["Filtered"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filtered:
    """The result of `filter_by_budget`.

    Args:
        budgets: Budgets that were asked for.
        n_passed: Number of candidates that keep every limit with the budget's confidence.
        n_failed: Number of candidates that break a limit with the budget's confidence.
        n_uncertain: Number of the others: the estimate is too near to a limit to tell.
        outcomes: Outcome of each candidate, 0 failed, 1 uncertain, 2 passed, of shape ``(candidates,)``; None for
            candidates from files.
        output: File that was written.
    """

    budgets: tuple[Budget, ...]
    n_passed: int
    n_failed: int
    n_uncertain: int
    outcomes: NDArray[np.uint8] | None = field(default=None, repr=False)
    output: Path | None = None

    @classmethod
    def of(cls, budgets: tuple[Budget, ...], counts: NDArray[Any], **fields: Any) -> Filtered:
        """A result from the numbers of candidates with each outcome."""
        n_failed, n_uncertain, n_passed = (int(counts[outcome]) for outcome in (FAILED, UNCERTAIN, PASSED))
        return cls(budgets=budgets, n_passed=n_passed, n_failed=n_failed, n_uncertain=n_uncertain, **fields)

    @property
    def n(self) -> int:
        """Number of candidates."""
        return self.n_passed + self.n_failed + self.n_uncertain

    @property
    def passed(self) -> NDArray[np.intp]:
        """Indices of the candidates that passed: ``candidates[filtered.passed]``; empty for candidates from files."""
        return self._with(PASSED)

    @property
    def uncertain(self) -> NDArray[np.intp]:
        """Indices of the candidates that are uncertain; empty for candidates from files."""
        return self._with(UNCERTAIN)

    def _with(self, outcome: int) -> NDArray[np.intp]:
        return np.flatnonzero([] if self.outcomes is None else self.outcomes == outcome)

    def __str__(self) -> str:
        counts = {"passed": self.n_passed, "failed": self.n_failed, "uncertain": self.n_uncertain}
        shares = ", ".join(f"{n:,} {name} ({n / max(self.n, 1):.1%})" for name, n in counts.items())
        return f"{self.n:,} candidates: {shares}\n" + "\n".join(map(str, self.budgets))
