"""A graph's, or a model's, kernels by an engine's rules."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from latency_nas.engine.engine import Engine
from latency_nas.engine.registry import get_engine
from latency_nas.engine.target import Target
from latency_nas.errors import GraphError, KernelError
from latency_nas.graph import OpGraph
from latency_nas.graph.parameter_reads import with_parameters
from latency_nas.kernel.kernel_call import KernelCall

__all__ = ["fuse", "read_kernels"]

_PLAIN = Target()


def fuse(graph: OpGraph, engine: str | Engine | None = None, target: Target = _PLAIN) -> tuple[KernelCall, ...]:
    """The kernels that an engine runs for a graph, in order.

    Args:
        graph: Graph without open choices.
        engine: Engine, or its name; the registry's default for None.
        target: What the engine's rules depend on.

    Raises:
        GraphError: if the engine, or this version of its rules, is not known, or a choice of the graph is open.
    """
    found = get_engine(engine)
    if target.version and target.version not in found.versions:
        raise GraphError(
            f"Expected a version whose rules are known ({', '.join(filter(None, found.versions)) or 'none'}) of "
            f"{found.title}, but got {target.version!r}."
        )
    return with_parameters(graph, found.fuse(graph, target))


def read_kernels(
    source: Any,
    engine: str | Engine | None,
    example_input: Any = None,
    *,
    target: Target = _PLAIN,
    input_shape: Sequence[int] | None = None,
) -> tuple[KernelCall, ...]:
    """The kernels that an engine runs for a model, in order.

    Args:
        source: What `read_model` takes, or a graph that has been read already.
        engine: Engine, or its name; the registry's default for None.
        example_input: As `read_model` takes it.
        target: What the engine's rules depend on.
        input_shape: As `read_model` takes it.

    Raises:
        GraphError: as `read_model` and `fuse`; or if an input is given with a graph, whose shapes are fixed; or if the
            engine would make a kernel that cannot be.
        InputMismatchError: if the input does not fit.
    """
    from latency_nas.graph.reader import read_model

    if isinstance(source, OpGraph):
        if example_input is not None or input_shape is not None:
            raise GraphError("Expected a graph without an input, since its shapes are fixed, but got both.")
        graph = source
    else:
        graph = read_model(source, example_input, input_shape=input_shape)
    try:
        return fuse(graph, engine, target)
    except KernelError as error:  # what fusion makes of a graph is checked only here
        name = str(source) if isinstance(source, str | os.PathLike) else f"the given {type(source).__name__}"
        raise GraphError(f"Expected {name} to fuse into valid kernels. {error}") from error
