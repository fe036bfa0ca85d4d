"""`Choice`: one decision of a supernet, with its candidates and their weights."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from latency_nas.errors import SearchError
from latency_nas.search.plan.architecture import Architecture
from latency_nas.search.supernet.module_path import module_at
from latency_nas.search.supernet.sample import Sample

__all__ = ["Choice", "ElementsOf", "GatesOf", "ParameterOf", "check_names", "check_none"]

Candidates = tuple[str | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One decision of a supernet between candidates: in one place or, where weights are shared, in several.

    Args:
        module: Name of the choice: the module that chooses, or any other name.
        candidates: Names of the candidates' modules, with None for a candidate that runs nothing; or, for a supernet
            that is configured, the options as text.
        weights: Function of the supernet that gives a tensor of shape ``(candidates,)``, differentiable; None where
            configurations are sampled (see `LatencyLoss.use_config`).
        logits: Whether `weights` are architecture parameters that a softmax is still to normalise; otherwise they are
            gates that are used as they are.
        others: Candidates of the other places that the same weights decide, as in DARTS's cells.
        sample: Catcher of the gates that the current forward pass draws; None where none are drawn.
        among_tensors: Whether the candidates are the summands of a weighted sum, such as the edges of a node. They are
            tensors, not modules, and may hold choices themselves.
        among_options: Whether the candidates are options of a supernet that is configured.

    Example:
        >>> choice = Choice(module="blocks.0", candidates=("blocks.0.ops.0", "blocks.0.ops.1", None))
        >>> choice.names
        ('blocks.0.ops.0', 'blocks.0.ops.1', 'blocks.0.2 (none)')

    Raises:
        SearchError: if there are fewer than two candidates, or the places have different numbers of them.
    """

    module: str
    candidates: Candidates
    weights: Callable[[Any], Any] | None = None
    logits: bool = True
    others: tuple[Candidates, ...] = ()
    sample: Sample | None = field(default=None, compare=False)
    among_tensors: bool = False
    among_options: bool = False

    def __post_init__(self) -> None:
        if len(self.candidates) < 2:
            raise SearchError(f"Expected at least two candidates of `{self.module}`, but got {len(self.candidates)}.")
        for other in self.others:
            if len(other) != len(self.candidates):
                raise SearchError(
                    f"Expected {len(self.candidates)} candidates of `{self.module}` in each of its places, but one has "
                    f"{len(other)}."
                )

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the candidates; one that runs nothing is named by its index."""
        return tuple(name or f"{self.module}.{index} (none)" for index, name in enumerate(self.candidates))

    @property
    def places(self) -> dict[str, Candidates]:
        """Name of each place -> its candidates."""
        if not self.others:
            return {self.module: self.candidates}
        return {_parent(place): place for place in (self.candidates, *self.others)}


@dataclass(frozen=True, slots=True)
class ParameterOf:
    """Reads architecture parameters from a module of the supernet. It is a class so that a loss can be pickled.

    Args:
        module: Name of the module.
        parameter: Name of its parameter, or of another attribute that is a tensor.
        row: Row of a matrix; None for the whole parameter.
        span: First number, and the number after the last one, of a part of the flattened parameter; instead of `row`.
    """

    module: str
    parameter: str
    row: int | None = None
    span: tuple[int, int] | None = None

    def __call__(self, supernet: Any) -> Any:
        """The architecture parameters, of shape ``(candidates,)``."""
        tensor = self.whole(supernet)
        if self.row is not None:
            return tensor[self.row]
        if self.span is not None:
            return tensor.reshape([-1])[slice(*self.span)]
        return tensor if tensor.ndim == 1 else tensor.reshape([-1])

    @property
    def name(self) -> str:
        """The name of the parameter in the supernet."""
        return f"{self.module}.{self.parameter}".lstrip(".")

    def whole(self, supernet: Any) -> Any:
        """The parameter with all its rows."""
        return getattr(module_at(supernet, self.module), self.parameter)


@dataclass(frozen=True, slots=True)
class ElementsOf:
    """Reads architecture parameters number by number, for a choice whose weights are held in several places.

    Args:
        parts: Where the number of each candidate is: parameters with a `span` of one number.
    """

    parts: tuple[ParameterOf, ...]

    def __call__(self, supernet: Any) -> Any:
        """The architecture parameters, of shape ``(candidates,)``."""
        numbers = [part(supernet) for part in self.parts]
        join: Callable[[list[Any]], Any] = torch.cat if isinstance(numbers[0], Tensor) else sys.modules["paddle"].concat
        return join(numbers)


@dataclass(frozen=True, slots=True)
class GatesOf:
    """Reads the gates of one choice from a function that gives those of all choices.

    Args:
        gates: Function of the supernet that gives the gates of each choice by its name.
        key: Name of the choice.
        set_architecture: Function of the supernet and an architecture that makes it the argmax of the gates; None
            where the gates are the softmax of a parameter's numbers, which can be moved.
    """

    gates: Callable[[Any], Mapping[str, Any]]
    key: str
    set_architecture: Callable[[Any, Architecture], object] | None = None

    def __call__(self, supernet: Any) -> Any:
        """The gates, of shape ``(candidates,)``."""
        return self.gates(supernet)[self.key]


def _parent(candidates: Candidates) -> str:
    """The name of the list that holds the candidates of a place."""
    first = next(name for name in candidates if name is not None)
    return first.rpartition(".")[0]


def check_none(recognised: Sequence[Choice]) -> None:
    """Check that no candidate of a recognised choice is None: it may be one that is only switched off now.

    Raises:
        SearchError: if one is; the message names it.
    """
    for choice in recognised:
        for place, candidates in choice.places.items():
            if None in candidates:
                raise SearchError(
                    f"Expected candidates that are modules, but candidate {candidates.index(None)} of `{place}` is "
                    f"None: attach while no path is switched off, or, if it runs nothing in the deployed network, say "
                    f"so by choices=latency_nas.find_choices(supernet)."
                )


def check_names(supernet: Any, choices: Sequence[Choice], modules: Iterable[str]) -> None:
    """Check that each choice is named once, and that candidates are modules of the supernet.

    Args:
        supernet: Network that is searched.
        choices: Choices of the supernet.
        modules: Names of its modules.

    Raises:
        SearchError: if a choice is named twice, or a candidate is no module of the supernet.
    """
    if not choices:
        raise SearchError("Expected at least one choice, but got none.")
    known = set(modules)
    names = [choice.module for choice in choices]
    for name in names:
        if names.count(name) > 1:
            raise SearchError(f"Expected each choice once, but `{name}` is named {names.count(name)} times.")
    among_modules = (choice for choice in choices if not (choice.among_tensors or choice.among_options))
    for candidate in (name for choice in among_modules for place in choice.places.values() for name in place):
        if candidate is not None and candidate not in known:
            raise SearchError(
                f"Expected the names of modules of {type(supernet).__name__}, but it has no `{candidate}`."
            )
