"""Finds out how a function calls a layer: which of its methods, and with which arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from latency_nas.errors import GraphError

__all__ = ["LayerCall", "call_by"]


@dataclass(frozen=True, slots=True)
class LayerCall:
    """A call of a layer's method.

    Args:
        layer: Layer, a ``paddle.nn.Layer``.
        method: Name of the method, such as ``"forward"``.
        arguments: Its arguments and named arguments, with the tensors that it was called with.
    """

    layer: Any
    method: str
    arguments: tuple[tuple[Any, ...], dict[str, Any]]

    @property
    def tensors(self) -> list[Any]:
        """The tensors among the arguments."""
        import paddle

        return [item for item in paddle.utils.flatten(self.arguments) if isinstance(item, paddle.Tensor)]

    def __call__(self, *tensors: Any) -> Any:
        """Call it with other tensors in place of `tensors`, and the other arguments as they were."""
        import paddle

        given = iter(tensors)
        leaves = [
            next(given) if isinstance(item, paddle.Tensor) else item for item in paddle.utils.flatten(self.arguments)
        ]
        args, kwargs = paddle.utils.pack_sequence_as(self.arguments, leaves)
        return getattr(self.layer, self.method)(*args, **kwargs)


def call_by(run: Callable[[Any], Any], layer: Any) -> LayerCall:
    """The call that a function makes of a layer. The function is run once.

    Args:
        run: Function that calls the layer, or a method of it, once.
        layer: Layer, a ``paddle.nn.Layer``.

    Raises:
        GraphError: if the function calls none of its methods, or several.
    """
    import paddle

    found: list[LayerCall] = []
    with paddle.no_grad(), _observed(layer, found):
        run(layer)
    if len(found) != 1:
        listed = ", ".join(call.method for call in found) or "none"
        raise GraphError(
            f"Expected `run` to call {type(layer).__name__}, or a method of it, once, but it calls {listed}: write a "
            f"method that does what it does, and call that."
        )
    return found[0]


@contextmanager
def _observed(layer: Any, found: list[LayerCall]) -> Iterator[None]:
    """Note the calls of a layer's own methods from outside of them."""
    import paddle

    kinds = type(layer).__mro__[: type(layer).__mro__.index(paddle.nn.Layer)]
    names = {name for kind in kinds for name, value in vars(kind).items() if callable(value) and name[:2] != "__"}
    before = {name: layer.__dict__[name] for name in names & layer.__dict__.keys()}
    running: list[str] = []

    def observing(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if not running:
                found.append(LayerCall(layer, name, (args, kwargs)))
            running.append(name)
            try:
                return method(*args, **kwargs)
            finally:
                running.pop()

        return call

    for name in names:
        layer.__dict__[name] = observing(name, getattr(layer, name))
    try:
        yield
    finally:
        for name in names:
            layer.__dict__.pop(name)
        layer.__dict__.update(before)
