"""Recognises the choices of a supernet, and reads its graph with every candidate of each choice."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from latency_nas.errors import SearchError
from latency_nas.graph import OpGraph
from latency_nas.search.supernet.choice import Choice, check_names
from latency_nas.search.supernet.framework import Framework
from latency_nas.search.supernet.inventory import Inventory, inventory_of, lines_for
from latency_nas.search.supernet.styles import STYLES
from latency_nas.search.supernet.summands import check_weights, known_weights, same_weights, summand_choices
from latency_nas.search.supernet.torch_framework import TORCH

__all__ = ["find_choices", "framework_of", "read_choices", "read_supernet"]

_MAX_RUNS = 20  # runs of a supernet that samples what it runs
_N_LISTED = 6  # names in a list of an error message


def framework_of(supernet: Any) -> Framework:
    """The framework that a supernet is written in.

    Raises:
        SearchError: if it is neither a torch module nor a Paddle layer.
    """
    if isinstance(supernet, nn.Module):
        return TORCH
    paddle = sys.modules.get("paddle")  # without Paddle there are no layers, and it is not imported for this
    if paddle is not None and isinstance(supernet, paddle.nn.Layer):
        from latency_nas.search.supernet.paddle_framework import PADDLE

        return PADDLE
    raise SearchError(
        f"Expected the supernet to be a torch module or a Paddle layer, but got {type(supernet).__name__}."
    )


def find_choices(supernet: Any) -> tuple[Choice, ...]:
    """Recognise the style in which a supernet holds its choices (see `latency_nas.search.supernet.styles`).

    Args:
        supernet: Module of torch, or layer of Paddle.

    Raises:
        SearchError: if it is of no known style; the message lists what was found, and lines that name the choices.
    """
    framework = framework_of(supernet)
    found: tuple[Choice, ...] = ()
    for find in STYLES.values():
        found += tuple(choice for choice in find(supernet, framework) if not found or _is_inside(choice, found))
    if found:
        return found
    inventory = inventory_of(supernet, framework)
    raise SearchError(
        f"Expected {type(supernet).__name__} to be a supernet of a known style ({'; '.join(STYLES)}), but it "
        f"is none. {_listed(inventory)} Name the choices: {lines_for(inventory, framework.softmax)}"
    )


def _is_inside(choice: Choice, others: Sequence[Choice]) -> bool:
    """Whether a weighted choice is among parts of the candidates of others, as the ops of an edge that is weighted."""
    names = [name for name in choice.candidates if name is not None]
    outer = tuple(f"{name}." for other in others for name in other.candidates if name is not None)
    return choice.weights is not None and bool(outer) and all(name.startswith(outer) for name in names)


def read_supernet(
    supernet: Any, example_input: Any, choices: Sequence[Choice] | None = None
) -> tuple[OpGraph, tuple[Choice, ...]]:
    """Trace a supernet in one pass, with every candidate of every choice. It is not changed.

    Args:
        supernet: Module of torch, or layer of Paddle.
        example_input: Input of its forward.
        choices: Choices of the supernet; by default those that `find_choices` recognises.

    Returns:
        The graph, in which each choice is left open, and the choices in the order in which they run.

    Raises:
        SearchError: if the choices are not recognised, or one does not run.
        InputMismatchError: if the input does not fit a layer.

    Example:
        >>> graph, choices = read_supernet(supernet, example_input)                              # doctest: +SKIP
        >>> networks = [graph.extract(a) for a in covering_architectures(graph.choices, times=6)]  # doctest: +SKIP
    """
    found = find_choices(supernet) if choices is None else tuple(choices)
    check_names(supernet, found, framework_of(supernet).modules(supernet))
    return read_choices(supernet, found, example_input)


def read_choices(
    network: Any,
    choices: Sequence[Choice],
    example_input: Any,
    run: Callable[[Any], Any] | None = None,
    *,
    all_run: bool = True,
) -> tuple[OpGraph, tuple[Choice, ...]]:
    """As `read_supernet`, but with `run`, a function that runs the supernet, instead of `example_input`.

    A supernet that samples what it runs is run again until every choice has run. Choices among tensors (see
    `latency_nas.search.supernet.summands`) are found in the graph. Without `all_run`, choices and places of choices
    that do not run are left out: those of blocks that a configuration drops.
    """
    framework = framework_of(network)
    known = known_weights(network, choices, framework)
    places = {name: place for choice in choices for name, place in choice.places.items()}
    not_run: list[str] = []
    for _ in range(_MAX_RUNS if run is not None and all_run else 1):
        graph = framework.read(network, example_input, run=run, choices=places, known_weights=known)
        among_tensors = summand_choices(graph)
        if not_among_modules := [choice for choice in choices if same_weights(choice, among_tensors)]:
            left = [choice for choice in choices if choice not in not_among_modules]
            return read_choices(network, left, example_input, run, all_run=all_run)
        order = list(graph.choices)
        not_run = [name for name in places if name not in graph.choices]
        if not not_run:
            check_weights(graph, choices)
            found = [*choices, *among_tensors]
            return graph, tuple(sorted(found, key=lambda choice: min(map(order.index, choice.places))))
    if not all_run:
        return read_choices(network, _left(choices, not_run), example_input, run)
    raise SearchError(f"Expected every choice to run in the supernet's forward, but {', '.join(not_run)} did not.")


def _left(choices: Sequence[Choice], not_run: Sequence[str]) -> list[Choice]:
    """The choices without the places that do not run."""
    left = [
        (choice, [candidates for name, candidates in choice.places.items() if name not in not_run])
        for choice in choices
    ]
    return [replace(choice, candidates=places[0], others=tuple(places[1:])) for choice, places in left if places]


def _listed(found: Inventory) -> str:
    """The parts of a supernet in a sentence."""
    beside = [
        f"`{name}` ({n})"
        for name, n in found.children.items()
        if any((vector.rpartition(".")[0], length) == (name, n) for vector, length in found.vectors.items())
    ]
    parts = {
        **({"children of a module beside a vector of their number": beside} if beside else {}),
        "lists of modules": [f"`{name}` ({n} modules)" for name, n in found.lists.items()],
        "parameter vectors": [f"`{name}` ({n})" for name, n in found.vectors.items()],
        "matrices": [f"`{name}` ({rows} x {columns})" for name, (rows, columns) in found.matrices.items()],
    }
    return f"Found: {'; '.join(f'{what}: {_few(names)}' for what, names in parts.items())}."


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _N_LISTED} more" if len(names) > _N_LISTED else ""
    return f"{', '.join(names[:_N_LISTED]) or 'none'}{more}"
