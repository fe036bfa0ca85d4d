"""Reads the weights of all choices from a supernet, in every step: so it looks nothing up that it can keep."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from operator import getitem
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from latency_nas.errors import SearchError
from latency_nas.search.supernet.architecture_parameters import whole
from latency_nas.search.supernet.choice import Choice, GatesOf, ParameterOf

__all__ = ["GateReader", "GivenWeights", "WeightReader"]

_HERE = {Tensor, nn.Parameter}  # types of tensors that are not sharded over ranks

_Path = tuple[Sequence[Any], Sequence[str], list[nn.Module]]
_Held = tuple[Sequence[Any], Sequence[str]]
_NOWHERE: _Path = ((), (), [])


class WeightReader(ABC):
    """Reads the weights of all choices, in every step."""

    logits_of_drawn: Sequence[bool] | None = None  # of each choice, whether what was drawn is logits; None: not read

    @property
    @abstractmethod
    def drawn(self) -> bool:
        """Whether the current step drew gates."""

    @abstractmethod
    def weights(self) -> tuple[Tensor, Tensor | None]:
        """Numbers of any shape, and which of them, flat, belong to the choices; None: all, in order."""

    @abstractmethod
    def sampled(self) -> Tensor:
        """As `weights`, but what was drawn, for the choices that draw."""

    def release(self) -> None:
        """Catch no more."""
        return


class GateReader(WeightReader):
    """The weights of all choices, of the tensors that hold them.

    Parameters are read from the modules that own them, which are found once and again when a module was replaced. They
    are joined by torch's own `stack` or `cat`, whose gradients are taken apart again without Python.

    Args:
        supernet: Network that is searched.
        choices: Choices whose weights are read.
        sampled: Whether what the supernet drew in its forward is preferred, where there is some.
    """

    def __init__(self, supernet: nn.Module, choices: Sequence[Choice], *, sampled: bool) -> None:
        self.supernet = (supernet,)  # in a tuple: this is no part of it
        self.choices = tuple(choices)
        self.samples = [choice.sample for choice in choices if choice.sample is not None] if sampled else []
        if sampled:
            self.logits_of_drawn = [choice.logits and choice.sample is None for choice in choices]
        self._forget()

    def _forget(self) -> None:
        self._path = _NOWHERE  # of each module on the way: its parent's children, its name, and itself
        self._held: _Held | None = None  # of each parameter: the dictionary that it is in, and its name
        self._alike = False  # whether there are several parameters, of one shape
        self._picks: Tensor | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_path": _NOWHERE, "_held": None, "_picks": None}

    def watch(self) -> None:
        """Begin to catch samples."""
        for sample in self.samples:
            sample.watch(self.supernet[0])

    def release(self) -> None:
        """Catch no more."""
        for sample in self.samples:
            sample.release()

    @property
    def drawn(self) -> bool:
        """Whether the current step drew gates."""
        return bool(self.samples) and torch.is_grad_enabled() and all(item.gates is not None for item in self.samples)

    def weights(self) -> tuple[Tensor, Tensor | None]:
        """Numbers of any shape, and which of them, flat, belong to the choices; None: all, in order.

        Raises:
            SearchError: if there are none, or not one for each candidate.
        """
        children, keys, modules = self._path
        if self._held is not None and list(map(dict.get, children, keys)) == modules:
            try:
                tensors = list(map(getitem, *self._held))
                here = tensors if _HERE.issuperset(map(type, tensors)) else list(map(whole, tensors))
                return torch.stack(here) if self._alike else _joined(here), self._picks
            except KeyError:
                pass
        self._forget()
        functions = [choice.weights for choice in self.choices]
        if all(isinstance(function, ParameterOf) for function in functions):
            self._check(self._called(functions))
            self._find([function for function in functions if isinstance(function, ParameterOf)])
            return self.weights()
        called = self._called(functions)
        self._check(called)
        return _joined(called), None

    def sampled(self) -> Tensor:
        """As `weights`, but what was drawn, for the choices that draw."""
        called = [
            self._called([choice.weights])[0] if choice.sample is None or choice.sample.gates is None
            else choice.sample.gates.reshape(-1)
            for choice in self.choices
        ]  # fmt: skip
        self._check(called)
        return _joined(called)

    def _called(self, functions: Sequence[Callable[[nn.Module], Tensor] | None]) -> list[Tensor]:
        supernet = self.supernet[0]
        given: dict[int, Any] = {}  # what gives the gates of all choices is called once
        tensors = []
        for function in functions:
            if function is None:
                raise SearchError(
                    "Expected choices with weights, but this supernet's configurations are sampled: "
                    "price one by latency.price(config)."
                )
            if isinstance(function, GatesOf):
                key = id(function.gates)
                given[key] = given[key] if key in given else function.gates(supernet)
                tensors.append(whole(given[key][function.key]))
            else:
                tensors.append(whole(function(supernet)))
        return tensors

    def _find(self, parameters: Sequence[ParameterOf]) -> None:
        """Keep where the parameters are."""
        root = self.supernet[0]
        path: dict[str, tuple[Any, str, nn.Module]] = {}
        held: dict[tuple[str, str], tuple[Any, str]] = {}
        begins: dict[tuple[str, str], int] = {}
        picks, n = [], 0
        for parameter in parameters:
            module, name = root, ""
            for key in filter(None, parameter.module.split(".")):
                name = f"{name}.{key}"
                path[name] = vars(module)["_modules"], key, module.get_submodule(key)
                module = path[name][2]
            source = parameter.module, parameter.parameter
            tensor = getattr(module, parameter.parameter)
            if source not in held:
                own = vars(module)["_parameters"]
                owner = own if parameter.parameter in own else vars(module)
                held[source], begins[source] = (owner, parameter.parameter), n
                n += tensor.numel()
            width = tensor.numel() if parameter.row is None else tensor[0].numel()
            picks.append(begins[source] + (parameter.row or 0) * width + np.arange(width))
        joined = np.concatenate(picks)
        in_order = np.array_equal(joined, np.arange(n))
        self._picks = None if in_order else torch.from_numpy(joined).to(tensor.device)
        children, keys, modules = zip(*path.values(), strict=True) if path else ((), (), ())
        owners, names = zip(*held.values(), strict=True)
        self._path, self._held = (children, keys, list(modules)), (owners, names)
        self._alike = len({owner[key].shape for owner, key in held.values()}) == 1 < len(held)

    def _check(self, tensors: Sequence[Tensor]) -> None:
        for tensor, choice in zip(tensors, self.choices, strict=True):
            if tensor.shape != (len(choice.candidates),):
                sizes = {
                    choice.module: tuple(tensor.shape) for choice, tensor in zip(self.choices, tensors, strict=True)
                }
                raise SearchError(
                    f"Expected a vector with a weight for each candidate of each choice, but got {sizes}."
                )


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    vectors = [tensor if tensor.dim() == 1 else tensor.reshape(-1) for tensor in tensors]
    return vectors[0] if len(vectors) == 1 else torch.cat(vectors)


class GivenWeights(WeightReader):
    """Weights that a function gives.

    Args:
        give: Function that gives them all, flat.
    """

    drawn = False

    def __init__(self, give: Callable[[], Tensor]) -> None:
        self.give = give

    def weights(self) -> tuple[Tensor, None]:
        """All of them."""
        return self.give(), None

    def sampled(self) -> Tensor:
        """As `weights`: nothing is drawn."""
        return self.give()
