"""The choices of a supernet written in Paddle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from latency_nas.errors import MissingExtraError, SearchError
from latency_nas.graph import OpGraph
from latency_nas.graph.paddle.layer import read_layer
from latency_nas.search.supernet.choice import Choice

try:
    from paddle import nn
except ImportError as error:
    raise MissingExtraError(
        "Expected Paddle, to search a supernet written in it: pip install 'latency-nas[paddle]'"
    ) from error

__all__ = ["find_layer_choices", "layer_groups", "read_paddle_supernet"]


def find_layer_choices(supernet: nn.Layer) -> tuple[Choice, ...]:
    """Layers with one ``LayerList`` of candidates and one parameter of the same length, such as a mixed op.

    Raises:
        SearchError: if there is none; the message lists what was found, and the lines that name the choices.
    """
    found, lists = [], []
    for path, layer in supernet.named_sublayers(include_self=True):
        held = {name: child for name, child in layer.named_children() if isinstance(child, nn.LayerList)}
        lists += [f"`{_joined(path, name)}` ({len(child)} layers)" for name, child in held.items()]
        lengths = {name: parameter.size for name, parameter in layer._parameters.items() if parameter is not None}  # noqa: SLF001 - the only door to a layer's own
        for name, child in held.items() if len(held) == 1 else ():
            fitting = [key for key, length in lengths.items() if length == len(child) > 1]
            if len(fitting) == 1:
                candidates = tuple(_joined(path, f"{name}.{index}") for index in range(len(child)))
                found.append(Choice(module=path, candidates=candidates, weights=_OwnParameter(path, fitting[0])))
    if not found:
        raise SearchError(
            f"Expected {type(supernet).__name__} to have layers with a LayerList of candidates and one parameter as "
            f"long as it, but it has none. Found: lists of layers: {', '.join(lists) or 'none'}. Name the choices: "
            f"latency.attach(supernet, example_input, groups={{'first': supernet.blocks[0].ops}}, "
            f"gates=lambda net: {{'first': softmax(net.alphas[0])}})."
        )
    return tuple(found)


def layer_groups(
    supernet: nn.Layer, groups: Mapping[str, Iterable[nn.Layer | None]], gates: Callable[[Any], Mapping[str, Any]]
) -> tuple[Choice, ...]:
    """Choices that are named as groups of layers; `gates` gives the weights of each, which sum to one.

    Raises:
        SearchError: if a candidate is no layer of the supernet, or the gates are those of other choices.
    """
    names = {id(layer): path for path, layer in supernet.named_sublayers()}
    given = gates(supernet)
    if given.keys() != groups.keys():
        raise SearchError(
            f"Expected `gates` to give weights for {', '.join(groups)}, but it gives them for {', '.join(given)}."
        )
    found = []
    for key, group in groups.items():
        layers = list(group)
        if any(layer is not None and id(layer) not in names for layer in layers):
            raise SearchError(f"Expected the candidates of `{key}` to be layers of {type(supernet).__name__}.")
        candidates = tuple(None if layer is None else names[id(layer)] for layer in layers)
        found.append(Choice(module=key, candidates=candidates, weights=_Gates(gates, key), logits=False))
    return tuple(found)


def read_paddle_supernet(
    supernet: nn.Layer, example_input: Any, choices: tuple[Choice, ...]
) -> tuple[OpGraph, tuple[Choice, ...]]:
    """The graph of a supernet with every candidate, and its choices in the order in which they run.

    Raises:
        SearchError: if a choice does not run.
        GraphError: if Paddle cannot write its program.
    """
    graph = read_layer(supernet, example_input, choices={choice.module: choice.candidates for choice in choices})
    order = list(graph.choices)
    unmet = [choice.module for choice in choices if choice.module not in order]
    if unmet:
        raise SearchError(f"Expected every choice to run in the supernet's forward, but {', '.join(unmet)} did not.")
    return graph, tuple(sorted(choices, key=lambda choice: order.index(choice.module)))


class _OwnParameter:
    """Reads the parameter of one layer."""

    def __init__(self, path: str, name: str) -> None:
        self.path, self.name = path, name

    def __call__(self, supernet: nn.Layer) -> Any:
        layer = supernet
        for key in filter(None, self.path.split(".")):
            layer = getattr(layer, key) if hasattr(layer, key) else layer[int(key)]
        return getattr(layer, self.name)


class _Gates:
    """Reads one choice's gates from a function that gives those of all."""

    def __init__(self, gates: Callable[[Any], Mapping[str, Any]], key: str) -> None:
        self.gates, self.key = gates, key

    def __call__(self, supernet: nn.Layer) -> Any:
        return self.gates(supernet)[self.key]


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
