"""A model that is named on the command line, as ``package.module:callable``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
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
    from latency_nas.graph.torch_reader import read_torch
    from latency_nas.measure.plan import covering_architectures
    from latency_nas.search.choice import read_supernet

    module_name, _, attribute = source.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        made = getattr(importlib.import_module(module_name), attribute)()
    except Exception as error:  # whatever a user's module or constructor raises
        raise GraphError(
            f"Expected {source!r} to be package.module:callable that gives a torch module, but it fails "
            f"({type(error).__name__}: {error})."
        ) from error
    finally:
        sys.path.remove(str(Path.cwd()))
    if not isinstance(made, torch.nn.Module):
        raise GraphError(f"Expected {source!r} to give a torch module, but it gives {type(made).__name__}.")
    try:
        graph, _choices = read_supernet(made, torch.zeros(input_shape))
    except SearchError:  # it chooses nowhere
        return [read_torch(made, input_shape=input_shape)]
    return [graph.extract(architecture) for architecture in covering_architectures(graph.choices, times=times)]
