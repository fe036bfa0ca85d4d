"""Messages about inputs of an ONNX model whose sizes are open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

from latency_nas.errors import InputMismatchError

__all__ = ["how_to_give", "lacking_shapes"]


def lacking_shapes(model: str, n_inputs: int, values: Mapping[str, onnx.ValueInfoProto]) -> InputMismatchError:
    """The error about inputs whose sizes are open.

    Args:
        model: Name of the model.
        n_inputs: Number of all its inputs.
        values: Inputs whose sizes are open, by name.
    """
    listed = []
    for name, value in values.items():
        sizes = [size.dim_param or max(size.dim_value, 0) or "?" for size in value.type.tensor_type.shape.dim]
        listed.append(f"`{name}` ({', '.join(map(str, sizes))})")
    way = f": {how_to_give(list(values))}" if n_inputs > 1 else ""
    return InputMismatchError(
        f"Expected `input_shape` for the input{'s' if len(listed) > 1 else ''} {', '.join(listed)} of {model}, "
        f"whose sizes are open{way}."
    )


def how_to_give(names: Sequence[str]) -> str:
    """How to give the shapes of several inputs, in Python and at the command line."""
    return (
        f"give input_shape={{{', '.join(f'{name!r}: (...)' for name in names)}}}, or "
        f"{' '.join(f'--input-shape {name}=...' for name in names)}"
    )
