"""A model that is named on the command line, as ``package.module:callable``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latency_nas.errors import GraphError

if TYPE_CHECKING:
    from latency_nas.graph import OpGraph

__all__ = ["architectures_of", "parse_shape"]


def parse_shape(text: str) -> tuple[int, ...]:
    """A shape as it is typed: ``1,3,224,224``.

    Raises:
        GraphError: if it is none.
    """
    try:
        shape = tuple(int(part) for part in text.split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise GraphError(f"Expected --input-shape to be positive integers such as 1,3,224,224, but got {text!r}.")
    return shape


def architectures_of(source: str, input_shape: tuple[int, ...], times: int) -> list[OpGraph]:
    """The graphs that meet every candidate of the model `times` times; of a model without choices, its own.

    Args:
        source: ``package.module:callable``; the callable gives a torch module. The working directory is searched too.
        input_shape: of its input.
        times: networks in which each candidate is met.

    Raises:
        GraphError: if it does not import or cannot be read.
    """
    import torch

    from latency_nas.errors import SearchError
    from latency_nas.graph.architectures import covering_architectures
    from latency_nas.graph.reader import make_model
    from latency_nas.graph.torch.reader import read_torch
    from latency_nas.search.supernet.supernet import read_supernet

    made = make_model(source)
    try:
        graph, _choices = read_supernet(made, torch.zeros(input_shape))
    except SearchError:  # it chooses nowhere
        return [read_torch(made, input_shape=input_shape)]
    return [graph.extract(architecture) for architecture in covering_architectures(graph.choices, times=times)]
