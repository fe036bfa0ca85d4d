"""Converts configurations (choice -> option) to architectures (choice -> index or name of a candidate) and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from latency_nas.errors import SearchError
from latency_nas.search.plan.architecture import Architecture, indices_of
from latency_nas.search.plan.plan import CostPlan

__all__ = ["indices_given", "options_of_architecture", "picks_of"]


def picks_of(config: Mapping[str, Any], plan: CostPlan, options: Mapping[str, Sequence[Any]]) -> dict[str, int | str]:
    """The candidate that a configuration picks for each choice.

    Args:
        config: Candidate of each choice by its index or its name, or its option where the choice has options.
        plan: Plan that names the candidates.
        options: Options of each choice, for a supernet that is configured.

    Raises:
        SearchError: if a choice is not given one of its options, or a number could be an index or a name.
    """
    names = dict(zip(plan.choices, plan.candidates, strict=True))
    return {
        choice: _option(choice, picked, names.get(choice, ()))
        if choice in options
        else _candidate(choice, picked, names.get(choice, ()))
        for choice, picked in config.items()
    }


def _option(choice: str, picked: Any, names: Sequence[str]) -> int:
    if str(picked) not in names:
        raise SearchError(
            f"Expected one of the options {', '.join(names)} of `{choice}`, but got {picked!r}; an architecture of "
            f"indices is priced by latency.plan.cost."
        )
    return names.index(str(picked))


def _candidate(choice: str, picked: Any, names: Sequence[str]) -> Any:
    index = names.index(str(picked)) if str(picked) in names else None
    if isinstance(picked, int) and index is not None and index != picked:
        raise SearchError(
            f"Expected an index or a name for `{choice}`, but {picked} could be both: give {str(picked)!r} for the "
            f"candidate of that name, or price indices by latency.plan.cost."
        )
    return picked


def options_of_architecture(architecture: Mapping[str, int], options: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """The options that an architecture of indices picks; choices without options keep the index.

    Raises:
        SearchError: if the supernet has no options.
    """
    if not options:
        raise SearchError("Expected a supernet that was attached by its options: no other has configurations.")
    return {name: options[name][index] if name in options else index for name, index in architecture.items()}


def indices_given(config: Mapping[str, Any], plan: CostPlan, options: Mapping[str, Sequence[Any]]) -> dict[str, int]:
    """The index of the candidate that a configuration picks, for the choices that it names.

    Args:
        config: Configuration as `picks_of` takes it, or an architecture, of all choices or some.
        plan: Plan that names the candidates.
        options: Options of each choice, for a supernet that is configured.

    Raises:
        SearchError: if it names a choice that the plan has not, or gives one no candidate of it.
    """
    candidates = dict(zip(plan.choices, plan.candidates, strict=True))
    if unknown := [name for name in config if name not in candidates]:
        raise SearchError(f"Expected choices of the supernet, but it has no `{unknown[0]}`.")
    picks = config if isinstance(config, Architecture) else picks_of(config, plan, options)
    return dict(zip(picks, indices_of(picks, list(picks), [candidates[name] for name in picks]), strict=True))
