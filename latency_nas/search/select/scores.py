"""The user's own scores of candidates, and of pairs of candidates of two choices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_nas.errors import SearchError, short_repr
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.select.program import Factors

__all__ = ["Scores", "read_scores"]

# choice, or a pair of choices -> a number for each candidate, or each pair of them; by order or by name
Scores = Mapping[Any, Any]


def read_scores(scores: Scores, plan: CostPlan) -> dict[Factors, float]:
    """The score of each candidate, and of each pair of candidates that has one.

    Args:
        scores: Choice -> scores of its candidates in their order, or candidate -> score; a pair of choices -> an array
            of shape ``(candidates of the first, candidates of the second)``, or candidate of the first -> scores of
            those of the second.
        plan: Plan that has the choices.

    Raises:
        SearchError: if a choice has no scores or is unknown, their number is another one than that of the candidates,
            or a score is not a finite number.
    """
    if not isinstance(scores, Mapping):
        raise SearchError(f"Expected scores as a mapping: choice -> score of each candidate; got {short_repr(scores)}.")
    names = dict(zip(plan.choices, plan.candidates, strict=True))
    starts = dict(zip(plan.choices, plan.offsets.tolist(), strict=False))
    missing = [name for name in plan.choices if name not in scores]
    if missing:
        raise SearchError(f"Expected a score for each candidate of each choice, but `{missing[0]}` has none.")
    found: dict[Factors, float] = {}
    for key, given in scores.items():
        choices = _choices_of(key, names)
        values = _array(given, [names[name] for name in choices], " and ".join(f"`{name}`" for name in choices))
        for index in zip(*values.nonzero(), strict=True):
            factors = tuple(sorted((starts[name] + int(number),) for name, number in zip(choices, index, strict=True)))
            if factors in found:
                raise SearchError(f"Expected scores of each pair of choices once, but {key} are given in both orders.")
            found[factors] = float(values[index])
    return found


def _choices_of(key: Any, names: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    choices = key if isinstance(key, tuple) else (key,)
    if any(name not in names for name in choices) or len(set(choices)) < len(choices) or not 1 <= len(choices) <= 2:
        raise SearchError(
            f"Expected scores of the plan's choices, or of two different ones, but got {short_repr(key)}: its choices "
            f"are {short_repr(tuple(names))}."
        )
    return choices


def _array(given: Any, candidates: Sequence[Sequence[str]], of: str) -> NDArray[np.float64]:
    shape = tuple(map(len, candidates))
    try:
        values = np.asarray(_ordered(given, candidates, of), np.float64)
    except (TypeError, ValueError) as error:
        if isinstance(error, SearchError):
            raise
        raise SearchError(f"Expected numbers as scores of {of}, but got {short_repr(given)}.") from error
    if values.shape != shape:
        raise SearchError(
            f"Expected scores of {of} of the shape {shape}, one for each candidate, but got the shape {values.shape}."
        )
    if not np.isfinite(values).all():
        index = tuple(np.argwhere(~np.isfinite(values))[0])
        which = ", ".join(names[number] for names, number in zip(candidates, index, strict=True))
        raise SearchError(f"Expected finite scores, but that of {which} of {of} is {values[index]}.")
    return values


def _ordered(given: Any, candidates: Sequence[Sequence[str]], of: str) -> Any:
    """Scores in the order of the candidates, where they are given by name."""
    if not isinstance(given, Mapping):
        return given
    names = candidates[0]
    if given.keys() != set(names):
        differing = ", ".join(sorted(map(str, given.keys() ^ set(names))))
        raise SearchError(f"Expected a score for each candidate of {of} and no more, but {differing} differ.")
    return [_ordered(given[name], candidates[1:], of) for name in names]
