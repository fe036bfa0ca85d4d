"""`selected`: lets a supernet compute the network of one architecture, whatever its gates are.

Where the forward calls any candidate of a choice, the selected one answers. The supernet then mixes equal outputs,
w_1 y + ... + w_k y with weights that sum to one, which gives y: the same property by which its graph is read (see
`latency_nas.graph.torch.choices`). Architecture parameters are set to a one-hot softmax besides, so that y is not even
rounded, and so that the weight of a candidate that is None does not count.

Limitations:
1. A mixture whose weights do not sum to one, such as sigmoids, gives a multiple of y.
2. Weights of edges, such as those of PC-DARTS, are applied as the supernet has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from latency_nas.errors import SearchError
from latency_nas.search.supernet.choice import Choice, ParameterOf

__all__ = ["selected"]

# The softmax of 0 and 80 is 1.8e-35 and 1: one to the last digit of float64, and not so small that it becomes 0, which
# a supernet that draws two different candidates does not take.
_LOGIT = 80.0


@contextmanager
def selected(
    supernet: nn.Module, choices: Sequence[Choice], architecture: Mapping[str, int]
) -> Iterator[Callable[[], list[str]]]:
    """Let `supernet` compute the network of one architecture inside the block.

    Args:
        supernet: Network that is searched.
        choices: Choices among its modules.
        architecture: Index of the candidate of each choice.

    Yields:
        A function that names the choices of which no candidate was called so far.

    Raises:
        SearchError: if a candidate is None, and its choice has gates that cannot be set.
    """
    places = {
        choice.module: [
            _Place(
                modules=tuple(None if name is None else supernet.get_submodule(name) for name in candidates),
                chosen=architecture[choice.module],
            )
            for candidates in choice.places.values()
        ]
        for choice in choices
    }
    with ExitStack() as stack:
        _answer(places, stack)
        for choice in choices:
            stack.enter_context(_one_hot(choice, supernet, architecture[choice.module]))
        yield lambda: [name for name, group in places.items() if not any(place.called for place in group)]


@dataclass(slots=True, eq=False)
class _Place:
    """One place of a choice.

    Args:
        modules: Its candidates.
        chosen: Index of the selected one.
        called: Candidates that were called with the present arguments.
        arguments: Arguments that the output is of.
        output: Output of the selected candidate.
        inside: Whether the selected candidate runs now.
    """

    modules: tuple[nn.Module | None, ...]
    chosen: int
    called: set[nn.Module] = field(default_factory=set)
    arguments: list[Any] = field(default_factory=list)
    output: Any = None
    inside: bool = False

    def answer(self, module: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """What the call of a candidate gives: a copy of the output of the selected one."""
        chosen = self.modules[self.chosen]
        if self.inside and module is chosen:
            return forward(*args, **kwargs)
        arguments = tree_leaves((args, kwargs))
        known = len(arguments) == len(self.arguments) and all(map(_same, arguments, self.arguments))
        if not known or not self.called or module in self.called:
            self.called, self.arguments = set(), arguments
            self.inside = True
            try:
                self.output = args[0] if chosen is None else chosen(*args, **kwargs)
            finally:
                self.inside = False
        self.called.add(module)
        return tree_map_only(Tensor, torch.clone, self.output)


def _same(one: Any, other: Any) -> bool:
    return one is other


def _answer(places: Mapping[str, Sequence[_Place]], stack: ExitStack) -> None:
    """Let places answer the calls of their candidates, until the stack is closed."""
    members: dict[nn.Module, str] = {}
    for name, group in places.items():
        for place in group:
            for module in {module: None for module in place.modules if module is not None}:
                if module in members:
                    raise SearchError(
                        f"Expected each candidate in one place, but those of `{members[module]}` and `{name}` are the "
                        f"same modules: give `derive`, which makes the network of an architecture."
                    )
                members[module] = name
                stack.callback(_put_back, module, vars(module).get("forward"))
                vars(module)["forward"] = _answering(module, place)


def _answering(module: nn.Module, place: _Place) -> Callable[..., Any]:
    forward = module.forward

    def answer(*args: Any, **kwargs: Any) -> Any:
        return place.answer(module, forward, args, kwargs)

    return answer


def _put_back(module: nn.Module, own_forward: Any) -> None:
    vars(module).pop("forward", None)
    if own_forward is not None:
        vars(module)["forward"] = own_forward


@contextmanager
@torch.no_grad()
def _one_hot(choice: Choice, supernet: nn.Module, index: int) -> Iterator[None]:
    """Set the architecture parameters of a choice to the selected candidate; where that is None, to another one."""
    if choice.weights is None:
        yield
        return
    if not isinstance(choice.weights, ParameterOf):
        if None in choice.candidates:
            raise SearchError(
                f"Expected the gates of `{choice.module}` to be an architecture parameter, since one of its candidates "
                f"is None, but a function gives them: give `derive`, which makes the network of an architecture."
            )
        yield
        return
    numbers = choice.weights(supernet).data  # a view, so that the parameter itself is changed, but not its version
    before = numbers.clone()
    runs = [number for number, name in enumerate(choice.candidates) if name is not None]
    try:
        numbers.zero_()
        numbers[index if index in runs else runs[0]] = _LOGIT if choice.logits else 1.0
        yield
    finally:
        numbers.copy_(before)
