"""`read_model`: reads a model of any supported kind into an `OpGraph`."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latency_nas.errors import GraphError, InputMismatchError, short_repr
from latency_nas.graph.input_shapes import InputShape, check_input_shape
from latency_nas.graph.op_graph import OpGraph

if TYPE_CHECKING:
    from torch import nn

__all__ = ["make_model", "read_model"]


def _read_onnx(source: Any, input_shape: InputShape | None) -> OpGraph:
    from latency_nas.graph.onnx.reader import read_onnx

    return read_onnx(source, input_shape=input_shape)


def _read_paddle(source: Path, input_shape: InputShape | None) -> OpGraph:
    from latency_nas.graph.paddle.reader import read_paddle

    weights = source.with_suffix(".pdiparams")
    return read_paddle(source, weights if weights.is_file() else None, input_shape=input_shape)


def _read_torch_file(source: Path, example_input: Any, input_shape: InputShape | None) -> OpGraph:
    from latency_nas.graph.torch.file import read_torch_file

    return read_torch_file(source, example_input, _one(input_shape, f"the file {source}"))


def _read_mnn(source: Path, input_shape: InputShape | None) -> OpGraph:
    from latency_nas.graph.mnn.reader import read_mnn

    return read_mnn(source, input_shape=input_shape)


def _one(given: InputShape | None, model: str) -> Sequence[int] | None:
    """The one shape that is given.

    Raises:
        InputMismatchError: if shapes are given by name.
    """
    if isinstance(given, Mapping):
        raise InputMismatchError(
            f"Expected one `input_shape` for {model}, but got shapes of {', '.join(given) or 'no input'}: only those "
            f"of an ONNX model are given by name. Other models take `example_input`."
        )
    return given


# suffix of a file -> its reader
_READERS: dict[str, Callable[[Path, InputShape | None], OpGraph]] = {
    ".onnx": _read_onnx,
    ".mnn": _read_mnn,
    ".pdmodel": _read_paddle,
    ".json": _read_paddle,
}
_TORCH_FILES = (".pt2", ".pt", ".pth", ".jit", ".ts", ".torchscript")


def read_model(source: Any, example_input: Any = None, *, input_shape: InputShape | None = None) -> OpGraph:
    """Read a model into an `OpGraph`.

    Args:
        source: Torch module or exported program, ``paddle.nn.Layer``, file ``.onnx``, ``.mnn``, ``.pdmodel`` or PIR
            ``.json``, file of `torch.export` (``.pt2``) or of TorchScript (``.pt``), ``package.module:callable`` as in
            `make_model`, or ONNX model in memory (bytes or a ``ModelProto``).
        example_input: Example input for the forward of a torch module or file, or of a Paddle layer.
        input_shape: Shape of the only input whose sizes are open, or of the only float input of a module. For an ONNX
            model with several inputs, a mapping input -> shape of those that are open. An exported program needs
            neither, unless it leaves sizes open.

    Raises:
        GraphError: if the source is none of these, or cannot be read.
        InputMismatchError: if the input does not fit, or a size in `input_shape` is not a positive integer.

    Example:
        >>> from torch import nn
        >>> [node.op for node in read_model(nn.ReLU(), input_shape=(1, 8)).nodes]
        ['relu']
    """
    input_shape = check_input_shape(input_shape)
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        if path.suffix in _TORCH_FILES:
            return _read_torch_file(path, example_input, input_shape)
        if path.suffix in _READERS:
            return _READERS[path.suffix](path, input_shape)
        if ":" not in str(source):
            raise GraphError(
                f"Expected a model's file ({', '.join((*_READERS, *_TORCH_FILES))}) or package.module:callable, but "
                f"got {str(source)!r}."
            )
        source = make_model(str(source))
    if type(source).__name__ == "ExportedProgram" and "torch.export" in sys.modules:
        from latency_nas.graph.torch.exported_program import read_exported_program

        return read_exported_program(source, example_input, input_shape=_one(input_shape, "an exported program"))
    torch_module = sys.modules.get("torch.nn.modules.module")
    if torch_module is not None and isinstance(source, torch_module.Module):
        from latency_nas.graph.torch.reader import read_torch

        return read_torch(source, example_input, input_shape=_one(input_shape, f"the module {type(source).__name__}"))
    paddle = sys.modules.get("paddle")
    if paddle is not None and isinstance(source, paddle.nn.Layer):
        from latency_nas.graph.paddle.layer import read_layer

        return read_layer(source, example_input, input_shape=_one(input_shape, f"the layer {type(source).__name__}"))
    if isinstance(source, bytes) or type(source).__name__ == "ModelProto":
        return _read_onnx(source, input_shape)
    raise GraphError(
        f"Expected a torch module, a Paddle layer, a model's file or an ONNX model, but got {short_repr(source)}."
    )


def make_model(source: str) -> nn.Module:
    """Make a torch module by a callable.

    Args:
        source: ``package.module:callable``. The working folder is searched too.

    Raises:
        GraphError: if the callable does not import, fails, or returns something else.
    """
    from torch import nn

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
    if not isinstance(made, nn.Module):
        raise GraphError(f"Expected {source!r} to give a torch module, but it gives {type(made).__name__}.")
    return made
