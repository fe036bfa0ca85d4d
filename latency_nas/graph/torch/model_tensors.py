"""`ModelTensors`: the names of a torch model's parameters and buffers, and which layers are TorchScript."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from latency_nas.errors import GraphError

__all__ = ["ModelTensors"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTensors:
    """The parameters and buffers of a model.

    Args:
        parameters: Names of the parameters, by the ids of their tensors.
        buffers: Names of the buffers, by the ids of their tensors.
        tensors: All of them. Scripted modules make such tensors anew where nobody holds them.
        on_meta: Names of those that are on ``meta``.
        scripted: Names of the layers that are TorchScript. They tell nobody when they run.
        are_known: Whether these are all the parameters: a frozen script has made constants of them.
    """

    parameters: dict[int, str]
    buffers: dict[int, str]
    tensors: tuple[Tensor, ...]
    on_meta: frozenset[str]
    scripted: frozenset[str]
    are_known: bool

    @classmethod
    def of(cls, model: nn.Module) -> ModelTensors:
        """The tensors of a model.

        Raises:
            GraphError: if a module is lazy: its first input would change its class and its weights.
        """
        parameters, buffers = list(model.named_parameters()), list(model.named_buffers())
        if any(is_lazy(tensor) for _, tensor in (*parameters, *buffers)):
            _refuse_lazy(model)
        scripts = {path: part for path, part in model.named_modules() if isinstance(part, torch.jit.ScriptModule)}
        return cls(
            parameters={id(tensor): name for name, tensor in parameters},
            buffers={id(tensor): name for name, tensor in buffers},
            tensors=tuple(tensor for _, tensor in (*parameters, *buffers)),
            on_meta=frozenset(name for name, tensor in (*parameters, *buffers) if tensor.is_meta),
            scripted=frozenset(scripts),
            are_known=all(hasattr(part, "training") for part in scripts.values()),
        )

    @classmethod
    def named(cls, parameters: Iterable[tuple[Tensor, str]], buffers: Iterable[tuple[Tensor, str]]) -> ModelTensors:
        """Tensors with names, of no model."""
        parameters, buffers = list(parameters), list(buffers)
        return cls(
            parameters={id(tensor): name for tensor, name in parameters},
            buffers={id(tensor): name for tensor, name in buffers},
            tensors=tuple(tensor for tensor, _ in (*parameters, *buffers)),
            on_meta=frozenset(),
            scripted=frozenset(),
            are_known=True,
        )

    def layer_of(self, parameter: str, running: str) -> str:
        """The layer that an op belongs to, by a parameter that it reads and by the module that runs."""
        owner = parameter.rpartition(".")[0]
        return owner if parameter and owner in self.scripted else running


def _refuse_lazy(model: nn.Module) -> None:
    for path, module in model.named_modules():
        if any(map(is_lazy, (*module.parameters(recurse=False), *module.buffers(recurse=False)))):
            raise GraphError(
                f"Expected parameters with sizes, but layer `{path}` ({type(module).__name__}) takes them from its "
                f"first input: run the model once on an example input, then read it."
            )
