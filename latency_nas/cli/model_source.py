"""Models named on the command line as ``package.module:callable``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latency_nas.graph import OpGraph

__all__ = ["architectures_of"]


def architectures_of(source: str, input_shape: tuple[int, ...], times: int) -> list[OpGraph]:
    """Architectures of a supernet that contain every candidate `times` times. A model without choices has one.

    Args:
        source: ``package.module:callable``, whose callable returns a torch module. The working directory is searched
            too.
        input_shape: Shape of the model's input.
        times: Number of architectures that contain each candidate.

    Raises:
        GraphError: if it does not import or cannot be read.
    """
    import torch

    from latency_nas.errors import SearchError
    from latency_nas.graph.architectures import covering_architectures
    from latency_nas.graph.reader import make_model
    from latency_nas.graph.torch.reader import read_torch
    from latency_nas.search.supernet.supernet import read_supernet

    model = make_model(source)
    try:
        graph, _choices = read_supernet(model, torch.zeros(input_shape))
    except SearchError:  # no choices: a plain model
        return [read_torch(model, input_shape=input_shape)]
    return [graph.extract(architecture) for architecture in covering_architectures(graph.choices, times=times)]
