"""The kernels of a graph or of a model, by an engine's rules."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from latency_nas.engine.engine import Engine
from latency_nas.engine.registry import get_engine
from latency_nas.engine.target import Target
from latency_nas.errors import GraphError, KernelError
from latency_nas.graph import OpGraph
from latency_nas.graph.branches import decide_branches, open_branches
from latency_nas.graph.input_shapes import InputShape
from latency_nas.graph.parameter_reads import with_parameters
from latency_nas.kernel.kernel_call import KernelCall

__all__ = ["fuse", "read_branches", "read_kernels"]

_PLAIN = Target()


def fuse(graph: OpGraph, engine: str | Engine | None = None, target: Target = _PLAIN) -> tuple[KernelCall, ...]:
    """The kernels that an engine runs for a graph, in order.

    Args:
        graph: Graph without open choices.
        engine: Engine, or its name; by default the registry's first.
        target: Device and settings that the engine's rules depend on.

    Raises:
        GraphError: if the engine or the version of its rules is unknown, or a choice or branch of the graph is open.
    """
    if names := open_branches(graph):
        raise _open(names)
    found = get_engine(engine)
    if target.version and target.version not in found.versions:
        raise GraphError(
            f"Expected a version whose rules are known ({', '.join(filter(None, found.versions)) or 'none'}) of "
            f"{found.title}, but got {target.version!r}."
        )
    return with_parameters(graph, found.fuse(graph, target))


def _open(names: Sequence[str]) -> GraphError:
    return GraphError(
        f"Expected a network whose ops follow from the shapes of its inputs, but their values decide "
        f"{', '.join(names)}: `LatencyEstimator.predict` gives the interval of what it can cost, "
        "`decide_branches` what can run."
    )


def read_kernels(
    source: Any,
    engine: str | Engine | None,
    example_input: Any = None,
    *,
    target: Target = _PLAIN,
    input_shape: InputShape | None = None,
) -> tuple[KernelCall, ...]:
    """The kernels that an engine runs for a model, in order.

    Args:
        source: Graph, or any model that `read_model` accepts.
        engine: Engine, or its name; by default the registry's first.
        example_input: Example input of the model, as in `read_model`.
        target: Device and settings that the engine's rules depend on.
        input_shape: Shape of the model's input, as in `read_model`.

    Raises:
        GraphError: as `read_branches`. Or if the values of an input decide what runs.
        InputMismatchError: if the input does not fit.
    """
    networks = read_branches(source, engine, example_input, target=target, input_shape=input_shape)
    if len(networks) > 1:
        raise _open([name for decisions, _ in networks for name in decisions])
    return networks[0][1]


def read_branches(
    source: Any,
    engine: str | Engine | None,
    example_input: Any = None,
    *,
    target: Target = _PLAIN,
    input_shape: InputShape | None = None,
) -> list[tuple[dict[str, bool], tuple[KernelCall, ...]]]:
    """The kernels that an engine runs for a model: one network, or one for each way in which values of inputs decide.

    Args:
        source: Graph, or any model that `read_model` accepts.
        engine: Engine, or its name; by default the registry's first.
        example_input: Example input of the model, as in `read_model`.
        target: Device and settings that the engine's rules depend on.
        input_shape: Shape of the model's input, as in `read_model`.

    Returns:
        The decisions, name of a branch -> whether its condition is true, and the kernels in order, of each network.

    Raises:
        GraphError: as `read_model` and `fuse`. Or if an input is given with a graph, whose shapes are fixed. Or if a
            fused kernel is invalid.
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
        return [(dict(each.decisions), fuse(each.graph, engine, target)) for each in decide_branches(graph)]
    except KernelError as error:  # fused kernels are checked only when they are made
        name = str(source) if isinstance(source, str | os.PathLike) else f"the given {type(source).__name__}"
        raise GraphError(f"Expected {name} to fuse into valid kernels. {error}") from error
