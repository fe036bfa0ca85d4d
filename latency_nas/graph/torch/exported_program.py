"""Reads an exported program (``torch.export.ExportedProgram``) that is in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.export import ExportedProgram, unflatten
from torch.export.graph_signature import InputKind
from torch.utils._pytree import tree_unflatten

from latency_nas.errors import InputMismatchError
from latency_nas.graph.op_graph import OpGraph
from latency_nas.graph.torch.reader import read_torch

__all__ = ["read_exported_program"]


def read_exported_program(
    program: ExportedProgram, example_input: Any = None, *, input_shape: Sequence[int] | None = None
) -> OpGraph:
    """Read an exported program as the module that it was exported from.

    Args:
        program: Result of ``torch.export.export``.
        example_input: Its inputs, as those of a module. Without them it is read with those that it was exported for.
        input_shape: Shape of the only float input.

    Raises:
        InputMismatchError: if neither is given and the program leaves sizes open.
    """
    module = unflatten(program)
    if example_input is not None or input_shape is not None:
        return read_torch(module, example_input, input_shape=input_shape)
    args, kwargs = tree_unflatten(_inputs(program), program.call_spec.in_spec)
    return read_torch(module, run=lambda made: made(*args, **kwargs))


def _inputs(program: ExportedProgram) -> list[Any]:
    """Inputs of the shapes and types that a program takes, and its arguments that are no tensors."""
    given = {
        spec.arg.name: spec.arg for spec in program.graph_signature.input_specs if spec.kind is InputKind.USER_INPUT
    }
    metas = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    opened = [name for name in given if not all(isinstance(size, int) for size in getattr(metas[name], "shape", ()))]
    if opened:
        raise InputMismatchError(
            f"Expected `example_input` or `input_shape` for a program whose sizes are open, but got neither for "
            f"{', '.join(opened)}."
        )
    return [
        torch.empty(meta.shape, dtype=meta.dtype) if isinstance(meta := metas[name], torch.Tensor) else
        getattr(argument, "value", None)
        for name, argument in given.items()
    ]  # fmt: skip
