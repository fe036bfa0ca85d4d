"""Supernets written in Paddle."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import paddle
from paddle import nn

from latency_nas.errors import SearchError
from latency_nas.graph import OpGraph
from latency_nas.graph.paddle.layer import read_layer
from latency_nas.graph.restored import restored
from latency_nas.search.supernet.choice import Choice, ElementsOf, ParameterOf
from latency_nas.search.supernet.framework import Framework
from latency_nas.search.supernet.inventory import Inventory
from latency_nas.search.supernet.sample import Sample

__all__ = ["PADDLE"]

_LISTS = (nn.LayerList, nn.LayerDict)


class _Paddle(Framework):
    softmax = "paddle.nn.functional.softmax({0})"

    def __init__(self) -> None:
        self.styles = {"a layer with a list of candidates and a parameter vector of its own": find_per_op_alphas}

    def is_module(self, value: Any) -> bool:
        return isinstance(value, nn.Layer)

    def modules(self, supernet: nn.Layer) -> dict[str, Any]:
        return dict(supernet.named_sublayers(include_self=True))

    def read(
        self,
        network: nn.Layer,
        example_input: Any = None,
        *,
        run: Callable[[Any], Any] | None = None,
        choices: Mapping[str, Sequence[str | None]] | None = None,
        known_weights: Container[str] = (),
    ) -> OpGraph:
        if run is not None:
            raise SearchError(
                "Expected `example_input` of a Paddle supernet, but got `run`: Paddle traces its forward."
            )
        return read_layer(network, example_input, choices=choices)

    @contextlib.contextmanager
    def unchanged(self, supernet: nn.Layer) -> Iterator[None]:
        layers = supernet.sublayers(include_self=True)
        random_state = paddle.get_rng_state()
        try:
            with restored(layers):
                for layer in layers:
                    layer.training = False
                yield
        finally:
            paddle.set_rng_state(random_state)

    def one_hot(self, supernet: nn.Layer, index: int, n: int) -> Any:
        return paddle.eye(n)[index]

    def inventory(self, supernet: nn.Layer) -> Inventory:
        lists: dict[str, int] = {}
        children: dict[str, int] = {}
        vectors: dict[str, int] = {}
        matrices: dict[str, tuple[int, int]] = {}
        for path, layer in supernet.named_sublayers(include_self=True):
            n = len(list(layer.children()))
            if n > 1:
                (lists if isinstance(layer, _LISTS) else children)[path] = n
            for name, parameter in _own_parameters(layer).items() if n else ():
                key = f"{path}.{name}".lstrip(".")
                if parameter.size == max(parameter.shape, default=0):
                    vectors[key] = parameter.size
                elif parameter.ndim == 2:
                    matrices[key] = tuple(parameter.shape)
        return Inventory(lists=lists, children=children, vectors=vectors, matrices=matrices)

    def raise_above(self, supernet: nn.Layer, weights: ParameterOf | ElementsOf, index: int, margin: float) -> None:
        above = float(weights(supernet).max()) + margin
        if isinstance(weights, ElementsOf):
            weights, index = weights.parts[index], 0
        whole = weights.whole(supernet)
        values = whole.numpy().copy()
        flat = values.reshape(-1) if weights.row is None else values[weights.row]
        flat[index + (weights.span or (0, 0))[0]] = above
        whole.set_value(values)

    def read_by(self, supernet: nn.Layer, weights: Callable[[Any], Any]) -> set[str]:
        return set()  # no weights are followed through a program


def find_per_op_alphas(supernet: nn.Layer) -> tuple[Choice, ...]:
    """Layers with one list of candidates and one parameter vector of the same length, such as a mixed op."""
    found: dict[int, Choice] = {}  # id of the parameter -> the choice
    for path, layer in supernet.named_sublayers(include_self=True):
        lists = {name: child for name, child in layer.named_children() if isinstance(child, _LISTS) and len(child) > 1}
        if len(lists) != 1:
            continue
        ((name, candidates),) = lists.items()
        fitting = [key for key, parameter in _own_parameters(layer).items() if parameter.size == len(candidates)]
        if len(fitting) == 1:
            keys = [key for key, _ in candidates.named_children()]
            names = tuple(f"{path}.{name}.{key}".lstrip(".") for key in keys)
            weights, parameter = ParameterOf(path, fitting[0]), id(getattr(layer, fitting[0]))
            first = found.get(parameter)
            found[parameter] = (
                Choice(module=path, candidates=names, weights=weights, sample=GumbelSample(path))
                if first is None
                else replace(first, others=(*first.others, names), sample=None)  # each place draws its own
            )
    return tuple(found.values())


class GumbelSample(Sample):
    """Catches what ``paddle.nn.functional.gumbel_softmax`` gives inside the forward of a layer."""

    def watch(self, supernet: nn.Layer) -> None:
        """Catch gates from now on, by hooks on the layer."""
        self.release()
        layer = dict(supernet.named_sublayers(include_self=True))[self.module]
        enter, leave = layer.register_forward_pre_hook(self._begin), layer.register_forward_post_hook(self._end)
        self._release = [enter.remove, leave.remove, self._end]

    def _begin(self, *_: Any) -> None:
        self._end()  # an earlier forward may have failed and not ended
        self.gates = None  # those of the step before
        original = self._original = nn.functional.gumbel_softmax

        def caught(*args: Any, **kwargs: Any) -> Any:
            self.gates = original(*args, **kwargs)
            return self.gates

        nn.functional.gumbel_softmax = caught

    def _end(self, *_: Any) -> None:
        if self._original is not None:
            nn.functional.gumbel_softmax = self._original
        self._original = None

    _original: Any = None


def _own_parameters(layer: nn.Layer) -> dict[str, Any]:
    """The parameters that a layer owns itself."""
    return {name: value for name, value in layer._parameters.items() if value is not None}  # noqa: SLF001 - there is no public way


PADDLE: Final[Framework] = _Paddle()
