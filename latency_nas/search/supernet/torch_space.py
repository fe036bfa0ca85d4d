"""The architectures of a torch supernet, with its candidates as modules or as options."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from torch import Tensor, nn

from latency_nas.errors import SearchError
from latency_nas.graph import OpGraph
from latency_nas.graph.op_graph import CHOICE
from latency_nas.graph.torch.reader import read_torch, unchanged
from latency_nas.kernel.kernel_call import KernelCall
from latency_nas.search.plan.space import Fuse, Space
from latency_nas.search.supernet.choice import Choice, choices_of_groups, choices_of_options
from latency_nas.search.supernet.supernet import find_choices, read_choices

__all__ = ["Subnet", "graph_space", "named_space", "option_space"]

Subnet = Callable[[Any, dict[str, Any]], Any]


def named_space(
    supernet: nn.Module,
    example_input: Tensor | tuple[Tensor, ...] | None,
    fuse: Fuse,
    *,
    run: Callable[[Any], Any] | None = None,
    choices: Sequence[Choice] | None = None,
    groups: Mapping[str, Iterable[nn.Module | None]] | None = None,
    options: Mapping[str, Sequence[Any]] | None = None,
    subnet: Subnet | None = None,
    gates: Callable[[Any], Mapping[str, Tensor]] | None = None,
) -> tuple[Space, tuple[Choice, ...]]:
    """The architectures of a supernet whose choices are recognised, or named in one of three ways.

    The arguments are those of `LatencyLoss.attach`, and the function that gives the kernels of a graph.

    Raises:
        SearchError: if choices are named in two ways, or are not recognised.
        InputMismatchError: if the input does not fit a layer.
    """
    if sum(way is not None for way in (choices, groups, options)) > 1 or (options is None) != (subnet is None):
        raise SearchError("Expected one of `choices`, `groups`, or `options` with `subnet`, to name the choices.")
    if options is not None and subnet is not None:
        space = option_space(supernet, options, subnet, example_input, fuse)
        return space, choices_of_options(space.candidates, gates)
    if groups is not None:
        given = choices_of_groups(supernet, groups, gates)
    else:
        given = find_choices(supernet) if choices is None else tuple(choices)
    graph, found = read_choices(supernet, given, example_input, run)
    return graph_space(graph, found, fuse), found


def graph_space(graph: OpGraph, choices: Sequence[Choice], fuse: Fuse) -> Space:
    """The architectures of a supernet that holds its candidates as modules.

    A candidate that gives zeros, or is None, is free; what it enters, such as the sum of a node, is priced as if it
    were there, as the networks that DARTS and NAS-Bench-201 derive run it.

    Args:
        graph: the supernet's graph, with its places as choices.
        choices: which places each choice decides.
        fuse: Function that gives the kernels of a graph.
    """
    places = {name: (choice.module, place) for choice in choices for name, place in choice.places.items()}
    free = tuple(
        f"{places[str(node.attrs['name'])][1][index]}."
        for node in graph.nodes
        if node.op == CHOICE
        for index in cast(tuple[int, ...], node.attrs.get("free", ()))
    )

    def calls(architecture: Mapping[str, int]) -> list[KernelCall]:
        network = graph.extract({name: architecture[choice] for name, (choice, _) in places.items()})
        return [call for call in fuse(network) if not f"{call.layer}.".startswith(free)]

    return Space(candidates={choice.module: choice.names for choice in choices}, calls=calls)


def option_space(
    supernet: nn.Module,
    options: Mapping[str, Sequence[Any]],
    subnet: Subnet,
    example_input: Tensor | tuple[Tensor, ...] | None,
    fuse: Fuse,
) -> Space:
    """The architectures of a supernet that is configured: elastic kernels, widths, depths, resolutions.

    Args:
        supernet: the network.
        options: of each choice, by name.
        subnet: a function of the supernet and a configuration, choice -> option, that gives the module to be priced:
            the supernet itself once it is configured, or better a network that was taken out of it; with its input as
            a pair, where that depends on the configuration.
        example_input: what the module's forward takes, unless `subnet` says so.
        fuse: Function that gives the kernels of a graph.

    Raises:
        SearchError: if a choice has fewer than two options, or `subnet` gives no module.
    """

    def calls(architecture: Mapping[str, int]) -> Sequence[KernelCall]:
        config = {name: values[architecture[name]] for name, values in options.items()}
        with unchanged(supernet):
            made = subnet(supernet, config)
            network, example = made if isinstance(made, tuple) else (made, example_input)
            if not isinstance(network, nn.Module):
                raise SearchError(
                    f"Expected `subnet` to give a module, or a module and its input, but got {type(network).__name__}."
                )
            return fuse(read_torch(network, example))

    return Space(candidates={name: tuple(map(str, values)) for name, values in options.items()}, calls=calls)
