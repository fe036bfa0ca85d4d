"""A supernet as a search sees it: its choices, recognised, and its graph with every candidate of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from latency_nas.errors import SearchError
from latency_nas.graph import OpGraph
from latency_nas.graph.torch.reader import read_torch
from latency_nas.search.supernet.choice import Choice, check_names
from latency_nas.search.supernet.styles import STYLES, nothing_found

__all__ = ["find_choices", "read_choices", "read_supernet"]

_MAX_RUNS = 20  # of a supernet that samples what it runs


def find_choices(supernet: nn.Module) -> tuple[Choice, ...]:
    """Recognise the style in which a supernet holds its choices (see `latency_nas.search.supernet.styles`).

    Raises:
        SearchError: if it is of no known style; the message lists what was found, what was missing, and the lines that
            name the choices.
    """
    for find in STYLES.values():
        found = find(supernet)
        if found:
            return found
    raise SearchError(nothing_found(supernet))


def read_supernet(
    supernet: nn.Module, example_input: Tensor | tuple[Tensor, ...], choices: Sequence[Choice] | None = None
) -> tuple[OpGraph, tuple[Choice, ...]]:
    """Read a supernet once, with every candidate of every choice. It is not changed.

    Args:
        supernet: the network.
        example_input: what its forward takes.
        choices: where it chooses; by default what `find_choices` recognises.

    Returns:
        The graph, whose choices are the places, and the choices in the order in which they run.

    Raises:
        SearchError: if the choices are not recognised, or one does not run.
        InputMismatchError: if the input does not fit a layer.

    Example:
        >>> graph, choices = read_supernet(supernet, example_input)                              # doctest: +SKIP
        >>> networks = [graph.extract(a) for a in covering_architectures(graph.choices, times=6)]  # doctest: +SKIP
    """
    found = find_choices(supernet) if choices is None else tuple(choices)
    return read_choices(supernet, found, example_input)


def read_choices(
    supernet: nn.Module,
    choices: tuple[Choice, ...],
    example_input: Tensor | tuple[Tensor, ...] | None,
    run: Callable[[Any], Any] | None = None,
) -> tuple[OpGraph, tuple[Choice, ...]]:
    """As `read_supernet`, also by a function that runs the supernet; one that samples is run until all choices ran."""
    check_names(supernet, choices)
    places = {name: place for choice in choices for name, place in choice.places.items()}
    unmet: list[str] = []
    for _ in range(_MAX_RUNS if run is not None else 1):
        graph = read_torch(supernet, example_input, run=run, choices=places)
        order = list(graph.choices)
        unmet = [name for name in places if name not in graph.choices]
        if not unmet:
            return graph, tuple(sorted(choices, key=lambda choice: min(map(order.index, choice.places))))
    raise SearchError(f"Expected every choice to run in the supernet's forward, but {', '.join(unmet)} did not.")
