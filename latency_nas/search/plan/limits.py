"""Limits on what choices may have together, as linear constraints: at most two edges a node, a fixed total depth."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import fsum, inf, isfinite
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from latency_nas.errors import SearchError, short_repr

__all__ = ["ChoiceLimit", "CountLimit", "LimitRow", "SumLimit", "UnlikeLimit", "limit_rows", "refuse_limits"]

_TOLERANCE = 1e-9  # of sums of weights, which are floating-point numbers


@dataclass(frozen=True, slots=True)
class LimitRow:
    """One linear constraint: the sum of the weights of the chosen candidates lies between two bounds.

    Args:
        weights: Choice and the weight of each of its candidates, for each choice that counts.
        lower: Least sum.
        upper: Largest sum.
    """

    weights: tuple[tuple[str, tuple[float, ...]], ...]
    lower: float
    upper: float

    def keeps(self, architecture: Mapping[str, int]) -> bool:
        """Whether an architecture, choice -> the index of its candidate, keeps the limit."""
        return bool(self.holds(fsum(weights[architecture[name]] for name, weights in self.weights)))

    def holds(self, totals: ArrayLike) -> Any:
        """Whether sums of weights, of any shape, lie between the bounds."""
        sums = np.asarray(totals)
        return (sums >= self.lower - self.slack) & (sums <= self.upper + self.slack)

    @property
    def slack(self) -> float:
        """By how much a sum may pass a bound, since its numbers are rounded."""
        return _TOLERANCE * max(1.0, *(abs(weight) for _, weights in self.weights for weight in weights))

    def __str__(self) -> str:
        names = ", ".join(f"`{name}`" for name, _ in self.weights)
        return f"a sum from {self.lower:g} to {self.upper:g} over {names}"


class ChoiceLimit(ABC):
    """A limit on choices, for ``LatencyLoss.attach(limits=...)``: `CountLimit`, `SumLimit` or `UnlikeLimit`."""

    @abstractmethod
    def rows(self, sizes: Mapping[str, int]) -> tuple[LimitRow, ...]:
        """The limit as linear constraints.

        Args:
            sizes: Choice -> number of its candidates.

        Raises:
            SearchError: if the limit does not fit the choices.
        """


@dataclass(frozen=True, slots=True)
class CountLimit(ChoiceLimit):
    """How many of some choices may have another candidate than some: at most two edges of a node that are not zero.

    Args:
        choices: Names of the choices.
        other_than: Index of the candidate that does not count, or the indices of several.
        at_most: Largest number of choices that count.
        at_least: Least number of choices that count.

    Example:
        >>> limit = CountLimit(("edge0", "edge1", "edge2"), other_than=0, at_most=2)
        >>> [row] = limit.rows({"edge0": 3, "edge1": 3, "edge2": 3})
        >>> row.keeps({"edge0": 1, "edge1": 0, "edge2": 2}), row.keeps({"edge0": 1, "edge1": 1, "edge2": 2})
        (True, False)
    """

    choices: Sequence[str]
    other_than: int | Sequence[int]
    at_most: float = inf
    at_least: float = -inf

    def rows(self, sizes: Mapping[str, int]) -> tuple[LimitRow, ...]:
        """The limit as one linear constraint; see `ChoiceLimit.rows`."""
        others = [self.other_than] if isinstance(self.other_than, int) else list(self.other_than)
        _check_choices(self.choices, sizes)
        for name in self.choices:
            for index in others:
                if not 0 <= index < sizes[name]:
                    raise SearchError(
                        f"Expected `other_than` to be a candidate of `{name}`, from 0 to {sizes[name] - 1}, but got "
                        f"{index}."
                    )
        weights = {name: [float(index not in others) for index in range(sizes[name])] for name in self.choices}
        return SumLimit(weights, at_most=self.at_most, at_least=self.at_least).rows(sizes)


@dataclass(frozen=True, slots=True)
class SumLimit(ChoiceLimit):
    """Bounds of a sum over choices to which each candidate adds a number: the total depth of all stages.

    Args:
        weights: Choice -> the number that each of its candidates adds.
        at_most: Largest sum.
        at_least: Least sum; the same as `at_most` for a fixed sum.

    Example:
        >>> limit = SumLimit({"depth1": (2, 3, 4), "depth2": (2, 3, 4)}, at_most=6, at_least=6)
        >>> [row] = limit.rows({"depth1": 3, "depth2": 3})
        >>> row.keeps({"depth1": 0, "depth2": 2}), row.keeps({"depth1": 0, "depth2": 1})
        (True, False)
    """

    weights: Mapping[str, Sequence[float]]
    at_most: float = inf
    at_least: float = -inf

    def rows(self, sizes: Mapping[str, int]) -> tuple[LimitRow, ...]:
        """The limit as one linear constraint; see `ChoiceLimit.rows`."""
        _check_choices(tuple(self.weights), sizes)
        for name, weights in self.weights.items():
            if len(weights) != sizes[name] or not all(map(isfinite, weights)):
                raise SearchError(
                    f"Expected a number for each of the {sizes[name]} candidates of `{name}`, but got "
                    f"{short_repr(list(weights))}."
                )
        if not self.at_least <= self.at_most or (self.at_most == inf and self.at_least == -inf):
            raise SearchError(
                f"Expected a limit from `at_least` to `at_most`, one of them given, but got {self.at_least} to "
                f"{self.at_most}."
            )
        numbers = tuple((name, tuple(map(float, weights))) for name, weights in self.weights.items())
        return (LimitRow(numbers, float(self.at_least), float(self.at_most)),)


@dataclass(frozen=True, slots=True)
class UnlikeLimit(ChoiceLimit):
    """No two neighbours alike: choices in a row of which two that follow each other have different candidates.

    Args:
        choices: Names of the choices, in their order. Candidates are alike if their indices are the same.

    Example:
        >>> rows = UnlikeLimit(("block0", "block1")).rows({"block0": 2, "block1": 2})
        >>> [all(row.keeps({"block0": one, "block1": other}) for row in rows) for one in (0, 1) for other in (0, 1)]
        [False, True, True, False]
    """

    choices: Sequence[str]

    def rows(self, sizes: Mapping[str, int]) -> tuple[LimitRow, ...]:
        """A linear constraint for each two neighbours and each index; see `ChoiceLimit.rows`."""
        _check_choices(self.choices, sizes)
        limits: list[LimitRow] = []
        for first, second in pairwise(self.choices):
            for index in range(min(sizes[first], sizes[second])):
                weights = {name: [float(other == index) for other in range(sizes[name])] for name in (first, second)}
                limits += SumLimit(weights, at_most=1).rows(sizes)
        return tuple(limits)


def limit_rows(limits: Sequence[ChoiceLimit] | ChoiceLimit, sizes: Mapping[str, int]) -> tuple[LimitRow, ...]:
    """All limits as linear constraints.

    Args:
        limits: Limits, or a single one.
        sizes: Choice -> number of its candidates.

    Raises:
        SearchError: if one is no limit, or does not fit the choices.
    """
    rows: list[LimitRow] = []
    for limit in (limits,) if isinstance(limits, ChoiceLimit) else limits:
        if not isinstance(limit, ChoiceLimit):
            raise SearchError(
                f"Expected limits on choices, such as `CountLimit(edges, other_than=0, at_most=2)`, but got "
                f"{short_repr(limit)}."
            )
        rows += limit.rows(sizes)
    return tuple(dict.fromkeys(rows))


def refuse_limits(rows: Sequence[LimitRow], what: str) -> None:
    """Refuse a plan with limits where all combinations of candidates are taken for architectures.

    Args:
        rows: Limits of the plan.
        what: What would be wrong, for the message.

    Raises:
        SearchError: if there are limits.
    """
    if rows:
        raise SearchError(
            f"Expected a plan without limits on its choices for {what}, but it has {rows[0]}: take "
            f"`dataclasses.replace(plan, limits=())` for all combinations of candidates, or draw architectures within "
            f"the limits by `sample_architectures`."
        )


def _check_choices(names: Sequence[str], sizes: Mapping[str, int]) -> None:
    if isinstance(names, str) or not names or len(set(names)) < len(names):
        raise SearchError(f"Expected the names of choices, each once, but got {short_repr(names)}.")
    if unknown := [name for name in names if name not in sizes]:
        raise SearchError(
            f"Expected limits on choices of the supernet, but `{unknown[0]}` is none of {', '.join(list(sizes)[:8])}"
            f"{' ...' if len(sizes) > 8 else ''}."
        )
