"""`Identities`: names for the layers of configured networks that stay the same, however a network numbers them.

A network that is taken out of a supernet may number its blocks anew: its third block is the supernet's fifth where the
first stage is two blocks shorter. Its weights tell: they are those of the supernet, or a part of them (the first
channels, the middle of a kernel), in the same memory or copied. So a numbered module gets the name of the part of the
supernet that its weights come from. A module without such weights, such as a pooling, is named by its place after the
nearest one that has them; where none of a list has, the numbers stay.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from latency_nas.kernel.kernel_call import KernelCall

__all__ = ["Identities", "renamed"]

_Memory = tuple[torch.device, int]


class Identities:
    """Names the layers of networks that were taken out of a supernet.

    Args:
        supernet: Network that they were taken out of.
    """

    def __init__(self, supernet: nn.Module) -> None:
        self._supernet = supernet
        parameters = {name: tensor.detach() for name, tensor in supernet.named_parameters() if _has_numbers(tensor)}
        self._order = {name: number for number, name in enumerate(parameters)}
        self._by_memory: dict[_Memory, list[tuple[str, Tensor]]] = defaultdict(list)
        self._by_first: dict[float, list[tuple[str, Tensor]]] = defaultdict(list)  # first number -> middles of kernels
        for name, tensor in parameters.items():
            self._by_memory[_memory(tensor)].append((name, tensor))
            for middle in _middles(tensor):
                self._by_first[_first(middle)].append((name, middle))
        # whether networks have weights of their own, of which a few may be the supernet's by the same random numbers
        self._has_own = False
        self._names: dict[tuple[str, str], str] = {}  # name of the parent, and a parameter -> name of a module
        self._taken: set[tuple[str, str]] = set()  # name of the parent, and of a module

    @torch.no_grad()
    def names(self, network: nn.Module) -> dict[str, str]:
        """Path of each module of a network -> its name; none for the supernet itself, which has its own."""
        if network is self._supernet:
            return {}
        weights = dict(network.named_parameters())
        shared = {path: self._shared(tensor) for path, tensor in weights.items()}
        copied = {path: self._copied(tensor) for path, tensor in weights.items() if shared[path] is None}
        matrices = [path for path, tensor in weights.items() if tensor.dim() > 1]
        n_own = sum(shared[path] is None and copied[path] is None for path in matrices)
        self._has_own |= 2 * n_own > len(matrices)
        sources: dict[str, list[str]] = defaultdict(list)  # path of a module -> parameters that its weights come from
        for path in weights:
            source = shared[path] if shared[path] or self._has_own else copied[path]
            if source is not None:
                parts = path.split(".")[:-1]
                for depth in range(len(parts) + 1):
                    sources[".".join(parts[:depth])].append(source)
        names = {"": ""}
        for path, module in network.named_modules():
            children = [name for name, _ in module.named_children()]
            named = self._children(path, names.get(path, path), children, sources)
            names.update({_inside(path, child): name for child, name in named.items()})
        return names

    def _children(
        self, path: str, parent: str, children: Sequence[str], sources: Mapping[str, Sequence[str]]
    ) -> dict[str, str]:
        """The names of a module's children."""
        found: dict[str, str] = {}
        before, n_after = "", 0  # the last child with weights of the supernet, and how many came after it
        for child in children:
            own = sources.get(_inside(path, child))
            n_after += 1
            if not any(map(str.isdigit, child)):
                name = _inside(parent, child)
            elif own:
                name = before = self._name(parent, sorted(set(own), key=self._order.__getitem__))
                n_after = 0
            else:
                name = f"{before}+{n_after}" if before else _inside(parent, child)
            found[child] = name if name not in found.values() else f"{name}#{child}"
        return found

    def _name(self, parent: str, parameters: Sequence[str]) -> str:
        """The name of a module by the supernet's parameters that its weights come from."""
        known = next((name for each in parameters if (name := self._names.get((parent, each)))), None)
        if known is None:
            known = _common(parameters)
            if not known or (parent, known) in self._taken:
                known = parameters[0]
            self._taken.add((parent, known))
            if parent and not known.startswith(f"{parent}."):
                known = f"{parent}.{known}"
        self._names.update(dict.fromkeys([(parent, each) for each in parameters], known))
        return known

    def _shared(self, tensor: Tensor) -> str | None:
        """The supernet's parameter in whose memory these numbers are."""
        known = self._by_memory.get(_memory(tensor), ()) if _has_numbers(tensor) else ()
        return next((name for name, whole in known if _is_inside(tensor, whole)), None)

    def _copied(self, tensor: Tensor) -> str | None:
        """The supernet's parameter that holds the same numbers; None where there is none, or several could."""
        known = self._by_first.get(_first(tensor), ()) if _has_numbers(tensor) else ()
        found = {name for name, middle in known if _is_part(tensor, middle)}
        return found.pop() if len(found) == 1 else None


def renamed(calls: Sequence[KernelCall], names: Mapping[str, str]) -> list[KernelCall]:
    """The kernels of a network by other names of its modules.

    Args:
        calls: Kernels of the network.
        names: Path of a module -> its name; others keep their path.
    """

    def of(name: str) -> str:
        module, slash, op = name.partition("/")
        return names.get(module, module) + slash + op

    if not names:
        return list(calls)
    return [
        replace(call, layer=of(call.layer), nodes=tuple([of(node) for node in call.nodes]), reader=of(call.reader))
        for call in calls
    ]


def _has_numbers(tensor: Tensor) -> bool:
    return tensor.numel() > 0 and not tensor.is_meta


def _memory(tensor: Tensor) -> _Memory:
    return tensor.device, tensor.untyped_storage().data_ptr()


def _is_inside(tensor: Tensor, whole: Tensor) -> bool:
    """Whether a tensor of the same memory begins inside of another one: several may be views of one memory."""
    return 0 <= tensor.storage_offset() - whole.storage_offset() < whole.numel()


def _middles(tensor: Tensor) -> Iterator[Tensor]:
    """A tensor with its whole kernel, and with each smaller middle of it."""
    for cut in range((min(tensor.shape[2:], default=1) + 1) // 2):
        middle = tensor
        for axis in range(2, tensor.dim()):
            middle = middle.narrow(axis, cut, tensor.shape[axis] - 2 * cut)
        yield middle


def _first(tensor: Tensor) -> float:
    return float(tensor.flatten()[0])


def _is_part(tensor: Tensor, whole: Tensor) -> bool:
    """Whether a tensor is the first channels of a whole, with the same kernel size."""
    if tensor.dim() != whole.dim() or tensor.shape[2:] != whole.shape[2:]:
        return False
    if any(size > of for size, of in zip(tensor.shape, whole.shape, strict=True)):
        return False
    part = whole[tuple(slice(size) for size in tensor.shape)]
    return bool((tensor != tensor.reshape(-1)[0]).any()) and bool((tensor == part).all())


def _common(parameters: Sequence[str]) -> str:
    """The innermost module that holds all parameters."""
    paths = [parameter.split(".")[:-1] for parameter in parameters]
    n_common = next(
        (depth for depth, parts in enumerate(zip(*paths, strict=False)) if len(set(parts)) > 1),
        min(map(len, paths)),
    )
    return ".".join(paths[0][:n_common])


def _inside(path: str, child: str) -> str:
    return f"{path}.{child}" if path else child
