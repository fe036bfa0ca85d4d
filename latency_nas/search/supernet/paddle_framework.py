"""Supernets written in Paddle."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import paddle
from paddle import nn

from latency_nas.graph import OpGraph
from latency_nas.graph.paddle.layer import read_layer
from latency_nas.graph.restored import restored
from latency_nas.search.supernet.choice import ElementsOf, ParameterOf
from latency_nas.search.supernet.framework import Framework
from latency_nas.search.supernet.paddle_sample import PaddleSample
from latency_nas.search.supernet.softmax_row import SoftmaxRow, elements_of_softmax

__all__ = ["PADDLE"]


class _Paddle(Framework):
    softmax = "paddle.nn.functional.softmax({0})"
    lists = (nn.LayerList, nn.LayerDict)
    parameter_lists = (nn.ParameterList,)
    with_matrices = (nn.Linear, nn.Embedding)
    softmaxes = (nn.Softmax,)
    sample = PaddleSample

    def is_module(self, value: Any) -> bool:
        return isinstance(value, nn.Layer)

    def modules(self, supernet: nn.Layer) -> dict[str, Any]:
        return dict(supernet.named_sublayers(include_self=True, remove_duplicate=False))

    def named_modules(self, supernet: nn.Layer) -> Iterator[tuple[str, Any]]:
        return iter(supernet.named_sublayers(include_self=True))

    def children(self, module: nn.Layer) -> dict[str, Any]:
        return dict(module._sub_layers)  # noqa: SLF001 - there is no public way

    def parameters(self, module: nn.Layer) -> dict[str, Any]:
        return {name: value for name, value in module._parameters.items() if value is not None}  # noqa: SLF001

    def tensors(self, module: nn.Layer) -> dict[str, Any]:
        plain = module._buffers.items()  # noqa: SLF001 - where Paddle puts the tensors that are attributes
        trained = {name: value for name, value in plain if value is not None and not value.stop_gradient}
        return {**trained, **self.parameters(module)}

    def read(
        self,
        network: nn.Layer,
        example_input: Any = None,
        *,
        run: Callable[[Any], Any] | None = None,
        choices: Mapping[str, Sequence[str | None]] | None = None,
        known_weights: Container[str] = (),
    ) -> OpGraph:
        return read_layer(network, example_input, run=run, choices=choices)

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

    def identities(self, supernet: nn.Layer) -> Callable[[nn.Layer], Mapping[str, str]]:
        return lambda network: {}  # a program numbers its operators, and does not say which layer runs them

    def one_hot(self, supernet: nn.Layer, index: int, n: int) -> Any:
        return paddle.eye(n)[index]

    def raise_above(self, supernet: nn.Layer, weights: ParameterOf | ElementsOf, index: int, margin: float) -> None:
        above = float(weights(supernet).max()) + margin
        if isinstance(weights, ElementsOf):
            weights, index = weights.parts[index], 0
        whole = weights.whole(supernet)
        values = whole.numpy().copy()
        flat = values.reshape(-1) if weights.row is None else values[weights.row]
        flat[index + (weights.span or (0, 0))[0]] = above
        whole.set_value(values)

    def softmax_row(self, supernet: nn.Layer, weights: Callable[[Any], Any], *, logits: bool) -> SoftmaxRow | None:
        def gates() -> Any:
            given = weights(supernet)
            return nn.functional.softmax(given) if logits else given

        parameters = [parameter for parameter in supernet.parameters() if not parameter.stop_gradient]
        slopes = paddle.grad(gates().sum(), parameters, allow_unused=True)
        leaves = [leaf for leaf, slope in zip(parameters, slopes, strict=True) if slope is not None]
        if len(leaves) != 1:
            return None
        [leaf] = leaves
        before = leaf.numpy()
        try:
            leaf.set_value(np.zeros_like(before))
            given = gates()
            rows = [paddle.grad(gate, [leaf], retain_graph=True)[0].flatten().numpy() for gate in given]
            elements = elements_of_softmax(given.numpy(), np.stack(rows))
        finally:
            leaf.set_value(before)
        return None if elements is None else SoftmaxRow(leaf, elements)

    def raise_element(self, row: SoftmaxRow, index: int, margin: float) -> None:
        values = row.tensor.numpy().copy()
        numbers = values.reshape(-1)[list(row.elements)]
        if numbers.argmax() != index:
            values.reshape(-1)[row.elements[index]] = numbers.max() + margin
            row.tensor.set_value(values)

    def read_by(self, supernet: nn.Layer, weights: Callable[[Any], Any]) -> set[str]:
        return set()  # no weights are followed through a program


PADDLE: Final[Framework] = _Paddle()
