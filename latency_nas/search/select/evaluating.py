"""Evaluates architectures by a function of the user's, one by one or several at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import ceil, isfinite
from typing import Any

from latency_nas.errors import SearchError, short_repr
from latency_nas.search.plan.architecture import Architecture
from latency_nas.search.select.ray_map import n_slots, ray_map

__all__ = ["Evaluate", "finite", "in_batches", "on_cluster", "one_by_one"]

# gives the index and the number of each architecture, in any order, as soon as it is evaluated
Evaluate = Callable[[Sequence[Architecture]], Iterator[tuple[int, Any]]]

_KEPT = "What was evaluated before is kept in the file, if `path` names one."


def one_by_one(function: Callable[[Architecture], Any]) -> Evaluate:
    """Evaluate by a function of one architecture."""

    def evaluate(architectures: Sequence[Architecture]) -> Iterator[tuple[int, Any]]:
        for index, architecture in enumerate(architectures):
            try:
                value = function(architecture)
            except Exception as error:
                error.add_note(f"The architecture was {dict(architecture)}. {_KEPT}")
                raise
            yield index, value

    return evaluate


def in_batches(function: Callable[[Sequence[Architecture]], Any]) -> Evaluate:
    """Evaluate by a function of several architectures, which gives as many numbers."""

    def evaluate(architectures: Sequence[Architecture]) -> Iterator[tuple[int, Any]]:
        try:
            values = list(function(architectures))
        except Exception as error:
            error.add_note(f"The architectures were {short_repr(list(map(dict, architectures)))}. {_KEPT}")
            raise
        if len(values) != len(architectures):
            raise SearchError(
                f"Expected a number for each of the {len(architectures)} architectures, but got {len(values)}."
            )
        yield from sorted(enumerate(values), key=lambda pair: not _is_finite(pair[1]))  # so that the finite are kept

    return evaluate


def on_cluster(evaluate: Evaluate, address: str, *, batch: bool, n_gpus: float) -> Evaluate:
    """Evaluate on a Ray cluster.

    Args:
        evaluate: Evaluation of several architectures on one machine.
        address: Address of the cluster.
        batch: Whether a task takes an equal part of the architectures, instead of one.
        n_gpus: Number of GPUs of each task.
    """

    def evaluate_parts(architectures: Sequence[Architecture]) -> Iterator[tuple[int, Any]]:
        size = max(1, ceil(len(architectures) / n_slots(address))) if batch else 1
        parts = [architectures[begin : begin + size] for begin in range(0, len(architectures), size)]
        for part, values in ray_map(partial(_listed, evaluate), parts, address=address, n_gpus=n_gpus):
            yield from ((part * size + index, value) for index, value in values)

    return evaluate_parts


def _listed(evaluate: Evaluate, architectures: Sequence[Architecture]) -> list[tuple[int, Any]]:
    return list(evaluate(architectures))


def finite(value: Any, what: str) -> float:
    """`value` as a float.

    Args:
        value: Number, array or tensor of one number.
        what: Description of the number, for the message.

    Raises:
        SearchError: if it is no number, NaN or infinite.
    """
    if not _is_finite(value):
        raise SearchError(f"Expected {what} to be a finite number, but got {short_repr(value)}. {_KEPT}")
    return float(value)


def _is_finite(value: Any) -> bool:
    try:
        return isfinite(value)
    except (TypeError, ValueError, RuntimeError):  # NumPy and torch raise each their own for several numbers
        return False
