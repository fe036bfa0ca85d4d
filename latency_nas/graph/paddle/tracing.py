"""Lets Paddle write the program of a layer.

The forward runs once in Paddle's static mode, as plain Python: loops over layers and decisions by shapes run as they
are written. A forward that decides by the value of a tensor fails then. Paddle's own conversion of its source, which
makes operators of such decisions, is tried next; it refuses some of Python's syntax and functions.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from latency_nas.errors import GraphError

__all__ = ["write_program"]


def write_program(
    layer: Any, inputs: Sequence[Any], path: Path, *, call: Callable[..., Any] | None, before_retry: Callable[[], None]
) -> None:
    """Write the program of a layer to a file.

    Args:
        layer: Layer, a ``paddle.nn.Layer``.
        inputs: Specification of each input, an ``InputSpec``.
        path: File to write, with the suffix ``.json``.
        call: Function that is given the inputs and calls the layer; None for its forward.
        before_retry: Function that is called before the forward is run a second time.

    Raises:
        GraphError: if Paddle cannot write it.
    """
    import paddle

    prefix = str(path.with_suffix(""))
    with warnings.catch_warnings(action="ignore"):
        try:
            with _named(layer):
                paddle.jit.save(_traced(layer, call or layer.forward), prefix, [list(inputs)])
        except Exception as error:  # whatever a user's forward raises
            refused = _refused(layer, error)
            if call is not None:
                raise refused from error
            before_retry()
            try:
                with _named(layer):
                    paddle.jit.save(layer, prefix, list(inputs))
            except Exception:  # the same
                raise refused from error


@contextmanager
def _named(layer: Any) -> Iterator[None]:
    """Give each operator the name of the layer that makes it, in place of a name that counts classes."""
    names = _Names()
    hooks = []
    for path, part in layer.named_sublayers():
        hooks.append(part.register_forward_pre_hook(names.enter))
        hooks.append(part.register_forward_post_hook(names.leave(path)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _Names:
    """Names the operators of the program that is being written."""

    def __init__(self) -> None:
        self._begins: list[int] = []  # number of operators when each of the running layers was called
        self._named: set[int] = set()  # places of the operators that have a name

    def enter(self, *_: Any) -> None:
        """Note that a layer is called."""
        self._begins.append(len(_operators()))

    def leave(self, path: str) -> Callable[..., None]:
        """A hook that names what a layer has made, except for what the layers in it made."""

        def name(*_: Any) -> None:
            operators = _operators()
            for place in range(self._begins.pop(), len(operators)):
                if place not in self._named:
                    self._named.add(place)
                    operators[place].set_str_attr("struct_name", path)

        return name


def _operators() -> Any:
    import paddle

    return paddle.static.default_main_program().global_block().ops


def _traced(layer: Any, call: Callable[..., Any]) -> Any:
    """A layer that runs `call` on its inputs, in evaluation mode."""
    import paddle

    class Traced(paddle.nn.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer
            self.training = False

        @paddle.jit.not_to_static  # type: ignore[untyped-decorator]
        def forward(self, inputs: Any) -> Any:
            return call(*inputs)

    return Traced()


def _refused(layer: Any, error: Exception) -> GraphError:
    lines = str(error).strip().splitlines()
    said = lines[-1].strip().removeprefix(f"{type(error).__name__}: ") if lines else "no message"
    advice = " Its forward must not decide by the value of a tensor." if "pir.Value" in str(error) else ""
    return GraphError(
        f"Expected Paddle to write the program of {type(layer).__name__}, but it fails ({type(error).__name__}: "
        f"{said}).{advice}"
    )
