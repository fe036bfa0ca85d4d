"""Supernets written in torch."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from latency_nas.graph import OpGraph
from latency_nas.graph.torch.aten import tensors_of
from latency_nas.graph.torch.gate_trace import leaf_names
from latency_nas.graph.torch.reader import read_torch
from latency_nas.graph.torch.unchanged import unchanged
from latency_nas.search.supernet.architecture_parameters import architecture_parameters
from latency_nas.search.supernet.choice import ElementsOf, ParameterOf
from latency_nas.search.supernet.framework import Framework
from latency_nas.search.supernet.identity import Identities
from latency_nas.search.supernet.sample import Sample
from latency_nas.search.supernet.softmax_row import SoftmaxRow, elements_of_softmax

__all__ = ["TORCH"]


class _Torch(Framework):
    softmax = "{0}.softmax(-1)"
    lists = (nn.ModuleList, nn.ModuleDict)
    parameter_lists = (nn.ParameterList,)
    with_matrices = (nn.Linear, nn.Embedding)
    softmaxes = (nn.Softmax,)
    sample = Sample

    def is_module(self, value: Any) -> bool:
        return isinstance(value, nn.Module)

    def modules(self, supernet: nn.Module) -> dict[str, Any]:
        return dict(supernet.named_modules(remove_duplicate=False))

    def named_modules(self, supernet: nn.Module) -> Iterator[tuple[str, Any]]:
        return iter(supernet.named_modules())

    def children(self, module: nn.Module) -> dict[str, Any]:
        return dict(vars(module)["_modules"])

    def parameters(self, module: nn.Module) -> dict[str, Any]:
        return dict(module.named_parameters(recurse=False))

    def tensors(self, module: nn.Module) -> dict[str, Any]:
        plain = {key: value for key, value in vars(module).items() if isinstance(value, Tensor) and value.requires_grad}
        return {**plain, **self.parameters(module)}

    def read(
        self,
        network: nn.Module,
        example_input: Any = None,
        *,
        run: Callable[[Any], Any] | None = None,
        choices: Mapping[str, Sequence[str | None]] | None = None,
        known_weights: Container[str] = (),
    ) -> OpGraph:
        return read_torch(network, example_input, run=run, choices=choices, known_weights=known_weights)

    def unchanged(self, supernet: nn.Module) -> AbstractContextManager[None]:
        return unchanged(supernet)

    def identities(self, supernet: nn.Module) -> Callable[[nn.Module], Mapping[str, str]]:
        return Identities(supernet).names

    def one_hot(self, supernet: nn.Module, index: int, n: int) -> Tensor:
        device = next((parameter.device for parameter in supernet.parameters()), None)
        return torch.eye(n, device=device)[index]

    @torch.no_grad()
    def raise_above(self, supernet: nn.Module, weights: ParameterOf | ElementsOf, index: int, margin: float) -> None:
        above = weights(supernet).max() + margin
        if isinstance(weights, ElementsOf):
            weights, index = weights.parts[index], 0
        weights(supernet)[index] = above  # of a view, so that the parameter itself is changed

    def softmax_row(self, supernet: nn.Module, weights: Callable[[Any], Any], *, logits: bool) -> SoftmaxRow | None:
        def gates() -> Tensor:
            given: Tensor = weights(supernet)
            return given.softmax(-1) if logits else given

        with self.unchanged(supernet), torch.enable_grad():
            leaves = architecture_parameters(lambda: gates().sum())
            if len(leaves) != 1:
                return None
            [leaf] = leaves
            before = leaf.detach().clone()
            try:
                leaf.data.zero_()  # leaves the version, by which autograd notices changes, as it was
                given = gates()
                slopes = [torch.autograd.grad(gate, leaf, retain_graph=True)[0].reshape(-1) for gate in given]
                elements = elements_of_softmax(given.tolist(), torch.stack(slopes).tolist())
            finally:
                leaf.data.copy_(before)
        return None if elements is None else SoftmaxRow(leaf, elements)

    @torch.no_grad()
    def raise_element(self, row: SoftmaxRow, index: int, margin: float) -> None:
        numbers = row.tensor.reshape(-1)[list(row.elements)]
        if int(numbers.argmax()) != index:
            place = np.unravel_index(row.elements[index], row.tensor.shape)
            row.tensor[tuple(map(int, place))] = numbers.max() + margin

    def read_by(self, supernet: nn.Module, weights: Callable[[Any], Any]) -> set[str]:
        with torch.enable_grad():
            given = weights(supernet)
        names = leaf_names(supernet)
        leaves = architecture_parameters(lambda: torch.stack([tensor.sum() for tensor in tensors_of(given)]).sum())
        return {names[id(leaf)] for leaf in leaves if id(leaf) in names}


TORCH: Final[Framework] = _Torch()
