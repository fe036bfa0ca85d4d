"""The choices of a supernet: where it chooses, among what, and by which weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from torch import Tensor, nn

from latency_nas.errors import SearchError
from latency_nas.search.supernet.sample import Sample

__all__ = [
    "Choice",
    "GatesOf",
    "ParameterOf",
    "check_names",
    "choices_of_groups",
    "choices_of_options",
]

Candidates = tuple[str | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One decision of a supernet: which of its candidates, in one place or, where weights are shared, in several.

    Args:
        module: the name of the choice: the module that chooses, or any other name.
        candidates: the names of the candidates' modules, None for one that is switched off; for a supernet that is
            configured, the options.
        weights: a function of the supernet that gives one number a candidate, of shape ``(candidates,)``,
            differentiable; None where a configuration is sampled, which `LatencyLoss.price` prices.
        logits: whether `weights` are architecture parameters still to be normalised by a softmax, or gates that are
            used as they are.
        others: the candidates of the other places that the same weights decide, as in DARTS's cells.
        sample: where the gates of the step that is under way can be caught, for supernets that draw them.

    Raises:
        SearchError: if there are fewer than two candidates, or another number of them in another place.
    """

    module: str
    candidates: Candidates
    weights: Callable[[nn.Module], Tensor] | None = None
    logits: bool = True
    others: tuple[Candidates, ...] = ()
    sample: Sample | None = field(default=None, compare=False)

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
        """The candidates' names; one that is switched off has that of its place."""
        return tuple(name or f"{self.module}.{index} (none)" for index, name in enumerate(self.candidates))

    @property
    def places(self) -> dict[str, Candidates]:
        """The candidates of each place, by a name of its own."""
        if not self.others:
            return {self.module: self.candidates}
        return {_parent(place): place for place in (self.candidates, *self.others)}


@dataclass(frozen=True, slots=True)
class ParameterOf:
    """Reads architecture parameters from a module of the supernet; a class, so that a loss can be pickled.

    Args:
        module: the name of the module.
        parameter: its parameter or other attribute that is a tensor.
        row: of a matrix, the row.
    """

    module: str
    parameter: str
    row: int | None = None

    def __call__(self, supernet: nn.Module) -> Tensor:
        """The parameters, of shape ``(candidates,)``."""
        held = cast(Tensor, getattr(supernet.get_submodule(self.module), self.parameter))
        if self.row is not None:
            return held[self.row]
        return held if held.dim() == 1 else held.reshape(-1)


@dataclass(frozen=True, slots=True)
class GatesOf:
    """Reads one choice's gates from a function that gives those of all."""

    gates: Callable[[Any], Mapping[str, Tensor]]
    key: str

    def __call__(self, supernet: nn.Module) -> Tensor:
        """The gates, of shape ``(candidates,)``."""
        return self.gates(supernet)[self.key]


def choices_of_groups(
    supernet: nn.Module,
    groups: Mapping[str, Iterable[nn.Module | None]],
    gates: Callable[[Any], Mapping[str, Tensor]] | None,
) -> tuple[Choice, ...]:
    """Choices that are named as groups of modules.

    Args:
        supernet: the network.
        groups: a name for each choice -> its candidates, such as a ``ModuleList`` or the values of a ``ModuleDict``.
        gates: a function of the supernet that gives the weights of each choice, which sum to one; None where
            configurations are sampled.

    Raises:
        SearchError: if a candidate is no module of the supernet, or the gates are those of other choices.
    """
    names = {id(module): name for name, module in supernet.named_modules()}
    if gates is not None:
        _check_keys(gates(supernet), groups)
    found = []
    for key, group in groups.items():
        modules = list(group.values() if isinstance(group, nn.ModuleDict) else group)
        for module in modules:
            if module is not None and id(module) not in names:
                raise SearchError(
                    f"Expected the candidates of `{key}` to be modules of {type(supernet).__name__}, but a "
                    f"{type(module).__name__} is not."
                )
        candidates = tuple(None if module is None else names[id(module)] for module in modules)
        weights = None if gates is None else GatesOf(gates, key)
        found.append(Choice(module=key, candidates=candidates, weights=weights, logits=False))
    return tuple(found)


def choices_of_options(
    options: Mapping[str, tuple[str, ...]], gates: Callable[[Any], Mapping[str, Tensor]] | None
) -> tuple[Choice, ...]:
    """The choices of a supernet that is configured; the weights as in `choices_of_groups`."""
    weights = {name: None if gates is None else GatesOf(gates, name) for name in options}
    return tuple(
        Choice(module=name, candidates=names, weights=weights[name], logits=False) for name, names in options.items()
    )


def _check_keys(given: Mapping[str, Tensor], groups: Mapping[str, Any]) -> None:
    if given.keys() != groups.keys():
        missing, more = sorted(groups.keys() - given.keys()), sorted(given.keys() - groups.keys())
        raise SearchError(
            f"Expected `gates` to give weights for each of the {len(groups)} choices and no more, but it lacks "
            f"{', '.join(missing) or 'none'} and has {', '.join(more) or 'none'} besides."
        )


def _parent(candidates: Candidates) -> str:
    """The name of the list that holds the candidates of a place."""
    first = next(name for name in candidates if name is not None)
    return first.rpartition(".")[0]


def check_names(supernet: nn.Module, choices: Sequence[Choice]) -> None:
    """Raises SearchError unless the choices are named once each, and their candidates are modules of the supernet."""
    if not choices:
        raise SearchError("Expected at least one choice, but got none.")
    modules = dict(supernet.named_modules())
    names = [choice.module for choice in choices]
    for name in names:
        if names.count(name) > 1:
            raise SearchError(f"Expected each choice once, but `{name}` is named {names.count(name)} times.")
    for candidate in (name for choice in choices for place in choice.places.values() for name in place):
        if candidate is not None and candidate not in modules:
            raise SearchError(
                f"Expected the names of modules of {type(supernet).__name__}, but it has no `{candidate}`."
            )
