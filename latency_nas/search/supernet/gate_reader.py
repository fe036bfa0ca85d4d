"""Reads the weights of all choices from a supernet. That happens in every step, so places are looked up only once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from operator import getitem
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from latency_nas.errors import SearchError
from latency_nas.search.supernet.architecture_parameters import gathered
from latency_nas.search.supernet.choice import Choice, GatesOf, ParameterOf
from latency_nas.search.supernet.picked import Picked, is_logits
from latency_nas.search.supernet.ran import Ran
from latency_nas.search.supernet.sample import Sample

__all__ = [
    "GateReader",
    "GivenWeights",
    "WeightReader",
    "all_drawn",
    "drawn_by",
    "evaluate",
    "gates_of",
    "undrawn_logits",
    "use_what_ran",
]

_UNSHARDED = {Tensor, nn.Parameter}  # types of tensors that are not sharded over ranks

_Path = tuple[Sequence[Any], Sequence[str], list[nn.Module]]  # for each module: the dict that it is in, its key, itself
_Places = tuple[Sequence[Any], Sequence[str]]  # for each parameter: the dict that it is in, and its key
_NO_PATH: _Path = ((), (), [])


class WeightReader(ABC):
    """Reads the weights of all choices, in every step."""

    logits_of_drawn: Sequence[bool] | None = (
        None  # for each choice, whether `sampled` gives logits; None: never sampled
    )
    picked = Picked([])  # the configuration in use, of choices without weights

    @property
    @abstractmethod
    def drawn(self) -> bool:
        """Whether the current step drew gates."""

    @abstractmethod
    def weights(self) -> tuple[Tensor, Tensor | None]:
        """A tensor of any shape, and the flat indices of the choices' weights in it; None for all, in order."""

    @abstractmethod
    def sampled(self) -> Tensor:
        """The weights, flat; for choices that draw gates, the gates that were drawn."""

    def release(self) -> None:
        """Stop catching samples."""
        return


class GateReader(WeightReader):
    """Reads weights from the parameters of a torch module, or by functions of it.

    Parameters are read from the modules that own them. These are looked up once, and again after a module was replaced.
    The parameters are joined by torch's own `stack` or `cat`, whose backward pass needs no Python.

    Args:
        supernet: Network that is searched.
        choices: Choices whose weights are read.
        sampled: Whether gates that the supernet drew in its forward take precedence.
    """

    def __init__(self, supernet: nn.Module, choices: Sequence[Choice], *, sampled: bool) -> None:
        self.supernet = (supernet,)  # in a tuple, so that it is no submodule of anything
        self.choices = tuple(choices)
        self.picked = Picked(choices)
        self._drawn: list[list[Sample | Ran]] = [drawn_by(choice) if sampled else [] for choice in choices]
        self.samples = list(chain.from_iterable(self._drawn))
        if sampled:
            self.logits_of_drawn = undrawn_logits(choices, self._drawn)
        self._forget()

    def _forget(self) -> None:
        self._path = _NO_PATH  # the modules on the way to the parameters, to notice when one is replaced
        self._places: _Places | None = None
        self._same_shape = False  # whether there are several parameters, all of one shape
        self._picks: Tensor | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_path": _NO_PATH, "_places": None, "_picks": None}

    def watch(self) -> None:
        """Begin to catch samples."""
        for sample in self.samples:
            sample.watch(self.supernet[0])

    def release(self) -> None:
        """Stop catching samples."""
        for sample in self.samples:
            sample.release()

    @property
    def drawn(self) -> bool:
        """Whether the current step drew gates."""
        return torch.is_grad_enabled() and all_drawn(self._drawn)

    def weights(self) -> tuple[Tensor, Tensor | None]:
        """A tensor of any shape, and the flat indices of the choices' weights in it; None for all, in order.

        Raises:
            SearchError: if a choice has no weights, or not one for each candidate.
        """
        children, keys, modules = self._path
        if self._places is not None and list(map(dict.get, children, keys)) == modules:
            try:
                tensors = list(map(getitem, *self._places))
                full = tensors if _UNSHARDED.issuperset(map(type, tensors)) else list(map(gathered, tensors))
                return torch.stack(full) if self._same_shape else _joined(full), self._picks
            except KeyError:  # a parameter was removed: look all of them up again
                pass
        self._forget()
        functions = [choice.weights for choice in self.choices]
        if all(isinstance(function, ParameterOf) for function in functions):
            self._check(self._evaluated(self.choices))
            self._find([function for function in functions if isinstance(function, ParameterOf)])
            return self.weights()
        vectors = self._evaluated(self.choices)
        self._check(vectors)
        return _joined(vectors), None

    def sampled(self) -> Tensor:
        """The weights, flat; for choices that draw gates, the gates that were drawn."""
        vectors = [
            self._evaluated([choice])[0] if (gates := gates_of(drawn)) is None else gathered(gates).reshape(-1)
            for choice, drawn in zip(self.choices, self._drawn, strict=True)
        ]  # fmt: skip
        self._check(vectors)
        return _joined(vectors)

    def _evaluated(self, choices: Sequence[Choice]) -> list[Tensor]:
        use_what_ran(self.samples, self.picked)
        return list(map(gathered, evaluate(choices, self.supernet[0], self.picked)))

    def _find(self, parameters: Sequence[ParameterOf]) -> None:
        """Look up where the parameters are, for the steps to come."""
        root = self.supernet[0]
        path: dict[str, tuple[Any, str, nn.Module]] = {}
        places: dict[tuple[str, str], tuple[Any, str]] = {}
        begins: dict[tuple[str, str], int] = {}  # index of a parameter's first number, when all are joined
        picks, n = [], 0
        for parameter in parameters:
            module, name = root, ""
            for key in filter(None, parameter.module.split(".")):
                name = f"{name}.{key}"
                path[name] = vars(module)["_modules"], key, module.get_submodule(key)
                module = path[name][2]
            source = parameter.module, parameter.parameter
            tensor = getattr(module, parameter.parameter)
            if source not in places:
                own = vars(module)["_parameters"]
                owner = own if parameter.parameter in own else vars(module)
                places[source], begins[source] = (owner, parameter.parameter), n
                n += tensor.numel()
            width = tensor.numel() if parameter.row is None else tensor[0].numel()
            first = (parameter.row or 0) * width
            picks.append(begins[source] + np.arange(*(parameter.span or (first, first + width))))
        joined = np.concatenate(picks)
        in_order = np.array_equal(joined, np.arange(n))
        self._picks = None if in_order else torch.from_numpy(joined).to(tensor.device)
        children, keys, modules = zip(*path.values(), strict=True) if path else ((), (), ())
        owners, names = zip(*places.values(), strict=True)
        self._path, self._places = (children, keys, list(modules)), (owners, names)
        self._same_shape = len({owner[key].shape for owner, key in places.values()}) == 1 < len(places)

    def _check(self, tensors: Sequence[Tensor]) -> None:
        for tensor, choice in zip(tensors, self.choices, strict=True):
            if tensor.shape != (len(choice.candidates),):
                sizes = {
                    choice.module: tuple(tensor.shape) for choice, tensor in zip(self.choices, tensors, strict=True)
                }
                raise SearchError(
                    f"Expected a vector with a weight for each candidate of each choice, but got {sizes}."
                )


def drawn_by(choice: Choice) -> list[Sample | Ran]:
    """What may tell which gates a choice drew: those that are caught, otherwise which candidate ran."""
    found: list[Sample | Ran] = [] if choice.sample is None else [choice.sample]
    return found if choice.among_tensors or choice.among_options else [*found, Ran(choice)]


def undrawn_logits(choices: Sequence[Choice], drawn: Sequence[Sequence[Sample | Ran]]) -> list[bool]:
    """Whether a softmax is still to normalise what is read of each choice, when drawn gates take precedence."""
    return [logits and not of_choice for logits, of_choice in zip(is_logits(choices), drawn, strict=True)]


def gates_of(drawn: Sequence[Sample | Ran]) -> Any:
    """The gates that were drawn; None if none were."""
    return next((gates for item in drawn if (gates := item.gates) is not None), None)


def use_what_ran(drawn: Iterable[Sample | Ran], picked: Picked) -> None:
    """Use the candidates that ran, for choices without weights."""
    for item in drawn:
        if isinstance(item, Ran) and item.is_drawn and item.choice.weights is None:
            picked.indices[item.choice.module] = item.index


def all_drawn(drawn: Sequence[Sequence[Sample | Ran]]) -> bool:
    """Whether the current step drew gates of all choices that draw any."""
    watched = [item for item in drawn if item]
    return bool(watched) and all(any(item.is_drawn for item in of) for of in watched)


def evaluate(choices: Sequence[Choice], supernet: Any, picked: Picked) -> list[Any]:
    """The weights of each choice, as tensors of the supernet's framework.

    Args:
        choices: Choices of the supernet. A function that gives the gates of several of them is called once.
        supernet: Network that is searched.
        picked: Configuration in use, which takes the place of weights.

    Raises:
        SearchError: if a choice has no weights, and no configuration is in use.
    """
    given: dict[int, Any] = {}  # id of a function that gives the gates of all choices -> its result
    tensors = []
    for choice in choices:
        function = choice.weights
        if function is None:
            tensors.append(picked.gates(choice.module, supernet))
        elif isinstance(function, GatesOf):
            key = id(function.gates)
            given[key] = given[key] if key in given else function.gates(supernet)
            tensors.append(given[key][function.key])
        else:
            tensors.append(function(supernet))
    return tensors


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    vectors = [tensor if tensor.dim() == 1 else tensor.reshape(-1) for tensor in tensors]
    return vectors[0] if len(vectors) == 1 else torch.cat(vectors)


class GivenWeights(WeightReader):
    """Weights that a function gives.

    Args:
        give: Function that gives the weights of all choices, flat.
    """

    drawn = False

    def __init__(self, give: Callable[[], Tensor]) -> None:
        self.give = give

    def weights(self) -> tuple[Tensor, None]:
        """The weights, flat, all of which belong to the choices in order."""
        return self.give(), None

    def sampled(self) -> Tensor:
        """As `weights`: nothing is drawn."""
        return self.give()
