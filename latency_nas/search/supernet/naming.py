"""Ways to name the choices of a supernet that is not recognised: groups of candidates, and options."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from latency_nas.errors import SearchError
from latency_nas.search.plan.architecture import Architecture
from latency_nas.search.supernet.choice import Choice, GatesOf

__all__ = ["Choices", "Configure", "Gates", "Groups", "Options", "groups_of", "options_of"]

Gates = Callable[[Any], Mapping[str, Any]]
Configure = Callable[[Any, dict[str, Any]], Any]
SetArchitecture = Callable[[Any, Architecture], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Choices among modules; made by `groups_of`."""

    modules: Mapping[str, tuple[Any, ...]]
    gates: Gates | None
    set_architecture: SetArchitecture | None = None

    def choices(self, supernet: Any, modules: Mapping[str, Any]) -> list[Choice]:
        """The choices of a supernet.

        Args:
            supernet: Network that is searched.
            modules: Modules of the supernet by name.

        Raises:
            SearchError: if a candidate is no module of the supernet, or the gates are those of other choices.
        """
        _check_gates(self.gates, supernet, self.modules)
        names: dict[int, list[str]] = {}
        for name, module in modules.items():
            names.setdefault(id(module), []).append(name)
        found = []
        for key, group in self.modules.items():
            for module in group:
                if module is not None and id(module) not in names:
                    raise SearchError(
                        f"Expected the candidates of `{key}` to be modules of {type(supernet).__name__}, but a "
                        f"{type(module).__name__} is not."
                    )
            candidates = _named([None if module is None else names[id(module)] for module in group])
            weights = None if self.gates is None else GatesOf(self.gates, key, self.set_architecture)
            found.append(Choice(module=key, candidates=candidates, weights=weights, logits=False))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Choices among the options of a supernet that is configured; made by `options_of`."""

    options: Mapping[str, tuple[Any, ...]]
    configure: Configure
    gates: Gates | None
    set_architecture: SetArchitecture | None = None

    def choices(self, supernet: Any) -> list[Choice]:
        """The choices of a supernet.

        Raises:
            SearchError: if a choice has fewer than two options, or the gates are those of other choices.
        """
        _check_gates(self.gates, supernet, self.options)
        return [
            Choice(
                module=name, candidates=tuple(map(str, values)), logits=False, among_options=True,
                weights=None if self.gates is None else GatesOf(self.gates, name, self.set_architecture),
            )
            for name, values in self.options.items()
        ]  # fmt: skip


Choices = Choice | Groups | Options | Sequence[Choice | Groups | Options]


def groups_of(
    modules_by_name: Mapping[str, Iterable[Any]],
    *,
    gates: Gates | None = None,
    set_architecture: SetArchitecture | None = None,
) -> Groups:
    """Say where a supernet chooses among modules, for `LatencyLoss.attach(choices=...)`.

    Args:
        modules_by_name: Candidates of each choice by its name: modules in a ``ModuleList``, a ``ModuleDict`` or a list,
            with None for a candidate that runs nothing.
        gates: Function of the supernet that gives the weights of each choice by its name. The weights of one choice sum
            to one and carry gradients. Leave it out where the supernet samples paths (see `LatencyLoss.use_config`).
        set_architecture: Function of the supernet and an architecture (choice -> index) that makes it the argmax of
            `gates`, for `LatencyLoss.discretize`. It is not needed where the gates of each choice are the softmax of
            as many numbers of one parameter: these are found by autograd.

    Example:
        >>> choices = groups_of({"first": net.blocks[0].ops},
        ...                     gates=lambda net: {"first": net.alphas[0].softmax(-1)})  # doctest: +SKIP
        >>> latency.attach(net, x, choices=choices)                                      # doctest: +SKIP
    """
    return Groups(
        modules={
            name: tuple(group.values() if hasattr(group, "values") else group)
            for name, group in modules_by_name.items()
        },
        gates=gates,
        set_architecture=set_architecture,
    )


def options_of(
    options: Mapping[str, Sequence[Any]],
    configure: Configure,
    *,
    gates: Gates | None = None,
    set_architecture: SetArchitecture | None = None,
) -> Options:
    """Say how a supernet is configured (elastic kernels, widths ...), for `LatencyLoss.attach(choices=...)`.

    Args:
        options: Options of each choice by its name.
        configure: Function of the supernet and a configuration (choice -> option) that sets the configuration and
            returns what runs: the supernet itself, or a module that was taken out of it. A module may number its
            layers anew: they are known by the weights that they share with the supernet or copy from it. Where the
            input depends on the configuration, as a resolution does, it returns a pair of the module and its example
            input.
        gates: Function of the supernet that gives the weights of each choice by its name, as in `groups_of`.
        set_architecture: Function that makes an architecture the argmax of `gates`, as in `groups_of`.

    Example:
        >>> choices = options_of({"depth": (2, 3, 4)}, lambda net, config: net.subnet(**config))  # doctest: +SKIP
        >>> latency.attach(net, x, choices=choices)                                               # doctest: +SKIP
        >>> latency.price({"depth": 3}).latency_ms                                                # doctest: +SKIP
    """
    return Options(
        options={name: tuple(values) for name, values in options.items()},
        configure=configure,
        gates=gates,
        set_architecture=set_architecture,
    )


def _named(names: Sequence[Sequence[str] | None]) -> tuple[str | None, ...]:
    """One of each candidate's names: where a module has several, the one in the list that holds the others, too."""
    lists = [{name.rpartition(".")[0] for name in several} for several in names if several is not None]
    common = set.intersection(*lists) if lists else set[str]()
    return tuple(
        None if several is None else next((name for name in several if name.rpartition(".")[0] in common), several[0])
        for several in names
    )


def _check_gates(gates: Gates | None, supernet: Any, choices: Mapping[str, Any]) -> None:
    """Call `gates` once, to check that it gives weights for each of the choices."""
    if gates is None:
        return
    given = gates(supernet)
    if given.keys() != choices.keys():
        missing, unknown = sorted(choices.keys() - given.keys()), sorted(given.keys() - choices.keys())
        raise SearchError(
            f"Expected `gates` to give weights for each of the {len(choices)} choices and no more, but it lacks "
            f"{', '.join(missing) or 'none'} and has {', '.join(unknown) or 'none'} besides."
        )
