"""Choices among tensors: the summands of sums whose weights are a softmax of architecture parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from latency_nas.errors import SearchError
from latency_nas.graph import Node, OpGraph
from latency_nas.graph.op_graph import CHOICE
from latency_nas.search.supernet.choice import Choice, ElementsOf, GatesOf, ParameterOf
from latency_nas.search.supernet.framework import Framework

__all__ = ["check_weights", "known_weights", "same_weights", "summand_choices"]


def known_weights(supernet: Any, choices: Sequence[Choice], framework: Framework) -> frozenset[str]:
    """The names of the parameters that only choices among modules have their weights from.

    A parameter in a module beside its list of candidates is left out: its numbers may also weight the outputs of
    modules that run in a row, or on inputs of their own (see `same_weights`).

    Args:
        supernet: Network that is searched.
        choices: Choices among its modules.
        framework: Framework that it is written in.
    """
    functions = [choice.weights for choice in choices]
    given = {id(item.gates): item.gates for item in functions if isinstance(item, GatesOf)}
    others = [item for item in functions if item is not None and not isinstance(item, GatesOf | ParameterOf)]
    names = {item.name for item in functions if isinstance(item, ParameterOf) and item.row is not None}
    for item in (*given.values(), *others):
        names |= framework.read_by(supernet, item)
    return frozenset(names)


def summand_choices(graph: OpGraph) -> list[Choice]:
    """The choices among tensors of a supernet's graph, in the order in which they run."""
    makers = {index: node for node in graph.nodes for index in node.outputs}
    found: dict[str, Choice] = {}
    for node in graph.nodes:
        if node.op == CHOICE and "parameters" in node.attrs:
            name = str(node.attrs["name"])
            found.setdefault(
                name,
                Choice(
                    module=name,
                    candidates=_names(name, node, [makers.get(index) for index in node.inputs]),
                    weights=_weights(str(node.attrs["parameters"]).split("\n"), cast(Any, node.attrs["elements"])),
                    among_tensors=True,
                ),
            )
    return list(found.values())


def check_weights(graph: OpGraph, choices: Sequence[Choice]) -> None:
    """Check that candidates that a matrix was found for are not weighted by another parameter.

    Raises:
        SearchError: if they are.
    """
    places = {name: choice for choice in choices for name in choice.places}
    for node in graph.nodes:
        by, choice = node.attrs.get("weighted_by"), places.get(str(node.attrs.get("name", "")))
        weights = choice.weights if choice is not None else None
        if by and isinstance(weights, ParameterOf) and weights.row is not None and weights.name != by:
            raise SearchError(
                f"Expected the candidates of `{node.attrs['name']}` to be weighted by `{weights.name}`, whose shape "
                f"they fit, but the forward weights them by `{by}`: name the choices by groups_of, or give the cells "
                f"of one of these matrices the attribute `reduction` (True), and the matrix a name with `reduce` in it."
            )


def same_weights(choice: Choice, others: Sequence[Choice]) -> bool:
    """Whether the weights of a choice among modules are those of another choice among tensors.

    Then its candidates are no alternatives for one input, but run on inputs of their own: edges, or blocks in a row.
    """
    weights = choice.weights
    return isinstance(weights, ParameterOf) and any(
        isinstance(other.weights, ParameterOf)
        and (other.weights.name, len(other.candidates)) == (weights.name, len(choice.candidates))
        and (other.weights.span or (0, 0))[0] == (weights.row or 0) * len(choice.candidates)
        for other in others
    )


def _names(name: str, node: Node, makers: Sequence[Node | None]) -> tuple[str, ...]:
    """The names of the summands: the modules that make them, where these differ."""
    modules = [maker.modules[-1] if maker is not None and maker.modules else "" for maker in makers]
    clear = len(set(modules)) == len(modules) and not {"", *node.modules} & set(modules)
    return tuple(modules) if clear else tuple(f"{name}.{index}" for index in range(len(makers)))


def _weights(parameters: Sequence[str], elements: Sequence[int]) -> ParameterOf | ElementsOf:
    begin = elements[0]
    if len(set(parameters)) == 1 and list(elements) == list(range(begin, begin + len(elements))):
        return _part(parameters[0], begin, begin + len(elements))
    return ElementsOf(tuple(_part(name, index, index + 1) for name, index in zip(parameters, elements, strict=True)))


def _part(parameter: str, begin: int, end: int) -> ParameterOf:
    module, _, name = parameter.rpartition(".")
    return ParameterOf(module, name, span=(begin, end))
