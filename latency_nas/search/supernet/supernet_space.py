"""Makes the `Space` of a supernet whose choices are recognised or named: what an engine runs for each architecture."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from latency_nas.errors import SearchError
from latency_nas.graph import OpGraph
from latency_nas.kernel.kernel_call import KernelCall
from latency_nas.search.plan.architecture import Architecture
from latency_nas.search.plan.space import Fuse, Space
from latency_nas.search.supernet.choice import Choice, check_names, check_none
from latency_nas.search.supernet.contexts import merges_equals
from latency_nas.search.supernet.gated_nodes import GatedGraph, entangled_choices
from latency_nas.search.supernet.identity import renamed
from latency_nas.search.supernet.naming import Choices, Groups, Options
from latency_nas.search.supernet.summands import same_weights
from latency_nas.search.supernet.supernet import find_choices, framework_of, read_choices
from latency_nas.search.supernet.zero_edges import with_additions_of_zeros

__all__ = ["Derive", "NamedSpace", "graph_space", "parts_of", "supernet_space"]

logger = logging.getLogger(__name__)

Derive = Callable[[Any, Architecture], Any]
_Calls = Callable[[Mapping[str, int]], Sequence[KernelCall]]
_Space = tuple[Space, tuple[Choice, ...], Mapping[str, str]]  # with its choices, and the names of the network's modules


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedSpace:
    """The architectures of a supernet, with its choices and options.

    Args:
        space: Kernels that the engine runs for each architecture.
        choices: Choices among modules, in the order in which they run, then choices among options.
        options: Options of each choice, for a supernet that is configured.
        resting: Choices among modules that ran in none of the configurations that were read so far.
        paths: Function that gives the space of the paths through the supernet, where `space` is that of networks which
            are derived from it; otherwise None.
    """

    space: Space
    choices: tuple[Choice, ...]
    options: dict[str, tuple[Any, ...]]
    resting: set[str]
    paths: Callable[[], Space] | None = None

    def check_run(self) -> None:
        """Check, when the plan is made, that each choice ran.

        Raises:
            SearchError: if one ran in no configuration.
        """
        if self.resting:
            raise SearchError(
                f"Expected every choice to run in some configuration of the supernet, but {', '.join(self.resting)} "
                f"ran in none."
            )


def supernet_space(
    supernet: Any,
    example_input: Any,
    fuse: Fuse,
    *,
    choices: Choices | None = None,
    run: Callable[[Any], Any] | None = None,
    derive: Derive | None = None,
) -> NamedSpace:
    """The architectures of a supernet; the arguments are those of `LatencyLoss.attach`.

    Args:
        supernet: Module of torch, or layer of Paddle.
        example_input: Input of its forward.
        fuse: Function that gives the kernels of a graph.
        choices: Choices of the supernet; None for a style that is recognised.
        run: Function that calls the supernet once.
        derive: Function of the supernet and an architecture that gives the network that is deployed for it.

    Raises:
        SearchError: if the choices are not recognised, or an argument does not fit.
        InputMismatchError: if the input does not fit a layer.
    """
    framework = framework_of(supernet)
    modules = framework.modules(supernet)
    among_modules, elastic = parts_of(supernet, choices, modules)
    among_options = [choice for part in elastic for choice in part.choices(supernet)]
    check_names(supernet, [*among_modules, *among_options], modules)
    resting = set[str]()
    if elastic:
        configured = _Configured(supernet, example_input, fuse, run, elastic, among_modules)
        found, resting = (*configured.weighted(), *among_options), configured.resting
        paths = partial(Space, candidates={choice.module: choice.names for choice in found}, calls=configured)
    else:
        graph, found = read_choices(supernet, among_modules, example_input, run)
        paths = partial(graph_space, graph, found, fuse)
    if derive is None:
        space = paths()
    else:
        derived, resting = _Derived(supernet, example_input, fuse, derive), set()
        space = Space(candidates={choice.module: choice.names for choice in found}, calls=derived)
    return NamedSpace(
        space=space,
        choices=found,
        options={name: values for part in elastic for name, values in part.options.items()},
        resting=resting,
        paths=None if derive is None else paths,
    )


class _Configured:
    """Gives what the engine runs for a configuration and the candidates that are chosen among its modules."""

    def __init__(
        self,
        supernet: Any,
        example_input: Any,
        fuse: Fuse,
        run: Callable[[Any], Any] | None,
        elastic: Sequence[Options],
        among_modules: Sequence[Choice],
    ) -> None:
        self._supernet, self._example_input, self._fuse, self._run = supernet, example_input, fuse, run
        self._elastic, self._among_modules = elastic, among_modules
        self._framework = framework_of(supernet)
        self._names = self._framework.identities(supernet)
        self._spaces: dict[tuple[int, ...], _Space] = {}  # of each configuration that was read
        self.resting = {choice.module for choice in among_modules}  # choices that ran in no configuration so far

    def __call__(self, architecture: Mapping[str, int]) -> Sequence[KernelCall]:
        if not self._among_modules:
            with self._framework.unchanged(self._supernet):
                network, example = self._configured(architecture)
                calls = self._fuse(self._framework.read(network, example, run=self._run))
                return renamed(calls, self._names(network))
        space, _, names = self._space(architecture)
        return renamed(space.calls(architecture), names)

    def weighted(self) -> tuple[Choice, ...]:
        """The choices among modules and tensors; those among tensors as the first and last options show them."""
        tensors: dict[str, Choice] = {}
        for end in (0, -1) if self._among_modules else ():
            config = {name: range(len(values))[end] for part in self._elastic for name, values in part.options.items()}
            tensors |= {choice.module: choice for choice in self._space(config)[1] if choice.among_tensors}
        not_among_modules = [each for each in self._among_modules if same_weights(each, list(tensors.values()))]
        self.resting.difference_update([choice.module for choice in not_among_modules])
        return (*(choice for choice in self._among_modules if choice not in not_among_modules), *tensors.values())

    def _space(self, architecture: Mapping[str, int]) -> _Space:
        """The space of a configuration: the candidates among its modules; its choices, and names of its modules."""
        key = tuple(architecture[name] for part in self._elastic for name in part.options)
        if key not in self._spaces:
            with self._framework.unchanged(self._supernet):
                network, example = self._configured(architecture)
                graph, found = read_choices(network, self._among_modules, example, self._run, all_run=False)
                names = self._names(network)
            self._spaces[key] = graph_space(graph, found, self._fuse), found, names
            self.resting.difference_update([choice.module for choice in found])
        return self._spaces[key]

    def _configured(self, architecture: Mapping[str, int]) -> tuple[Any, Any]:
        """The configured network, and its example input."""
        network, example = self._supernet, self._example_input
        for part in self._elastic:
            config = {name: values[architecture[name]] for name, values in part.options.items()}
            made = part.configure(network, config)
            network, example = made if isinstance(made, tuple) else (made, example)
            if not self._framework.is_module(network):
                raise SearchError(
                    f"Expected `configure` to give a module, or a module and its input, but got "
                    f"{type(network).__name__}."
                )
        return network, example


class _Derived:
    """Gives what the engine runs for the network that a user's function derives."""

    def __init__(self, supernet: Any, example_input: Any, fuse: Fuse, derive: Derive) -> None:
        self._supernet, self._example_input, self._fuse, self._derive = supernet, example_input, fuse, derive
        self._framework = framework_of(supernet)
        self._names = self._framework.identities(supernet)

    def __call__(self, architecture: Mapping[str, int]) -> Sequence[KernelCall]:
        with self._framework.unchanged(self._supernet):
            try:
                network = self._derive(self._supernet, Architecture(architecture))
            except Exception as error:
                error.add_note(f"`derive` was called for {dict(architecture)}.")
                raise
            if not self._framework.is_module(network):
                raise SearchError(f"Expected `derive` to give a module, but got {type(network).__name__}.")
            return renamed(self._fuse(self._framework.read(network, self._example_input)), self._names(network))


def graph_space(graph: OpGraph, choices: Sequence[Choice], fuse: Fuse) -> Space:
    """The architectures of a supernet that holds its candidates as modules.

    A candidate that gives zeros is absent from the network, and so is the addition of its output (but see
    `latency_nas.search.supernet.zero_edges`).

    Args:
        graph: Graph of the supernet, which has a choice for each place.
        choices: Choices, each of one or more places.
        fuse: Function that gives the kernels of a graph.
    """
    places = {name: choice.module for choice in choices for name in choice.places}
    graph, free = with_additions_of_zeros(graph, places)
    gated = GatedGraph(graph, entangled_choices(graph))
    if gated.names:
        logger.warning(
            "The choices %s decide together in many cases which layers are deployed: the cost of a candidate is "
            "multiplied by their gates, and what several of them read is always priced.",
            ", ".join(sorted(gated.names)),
        )

    def calls(architecture: Mapping[str, int]) -> Sequence[KernelCall]:
        calls = gated.calls({name: architecture[choice] for name, choice in places.items()}, fuse)
        return [call for call in calls if free.isdisjoint(call.nodes[:1])] if free else calls

    numbers = {name: number for number, choice in enumerate(choices) for name in choice.places}
    return Space(
        candidates={choice.module: choice.names for choice in choices},
        calls=calls,
        contexts=lambda diagrams: gated.contexts(numbers, diagrams, merged=merges_equals(fuse)),
    )


def parts_of(supernet: Any, choices: Choices | None, modules: Mapping[str, Any]) -> tuple[list[Choice], list[Options]]:
    """The choices among modules, and the `Options` that name the choices among options.

    Args:
        supernet: Module of torch, or layer of Paddle.
        choices: Choices of the supernet; None for a style that is recognised.
        modules: Modules of the supernet by name.

    Raises:
        SearchError: if the choices are not recognised, or an item is none.
    """
    if choices is None:
        recognised = list(find_choices(supernet))
        check_none(recognised)
        return recognised, []
    found: list[Choice] = []
    elastic: list[Options] = []
    for part in [choices] if isinstance(choices, Choice | Groups | Options) else choices:
        if isinstance(part, Options):
            elastic.append(part)
        elif isinstance(part, Groups):
            found += part.choices(supernet, modules)
        elif isinstance(part, Choice):
            found.append(part)
        else:
            raise SearchError(
                f"Expected `choices` to be of groups_of(...), options_of(...) or Choice, but got {type(part).__name__}."
            )
    return found, elastic
