"""The choices of a supernet: where it chooses, among what, and by which weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from latency_nas.errors import SearchError
from latency_nas.graph import OpGraph
from latency_nas.graph.torch_reader import read_torch

__all__ = ["Choice", "find_choices", "read_supernet"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One place where a supernet chooses.

    Args:
        module: the name of the module that chooses; its output is taken to be that of one candidate, given its own
            first argument.
        candidates: the names of the candidates.
        weights: a function of the supernet that gives one number a candidate, of shape ``(candidates,)``,
            differentiable.
        logits: whether `weights` are architecture parameters still to be normalised by a softmax, or gates that are
            used as they are.

    Raises:
        SearchError: if there are fewer than two candidates.
    """

    module: str
    candidates: tuple[str, ...]
    weights: Callable[[nn.Module], Tensor]
    logits: bool = True

    def __post_init__(self) -> None:
        if len(self.candidates) < 2:
            raise SearchError(f"Expected at least two candidates of `{self.module}`, but got {len(self.candidates)}.")


def find_choices(supernet: nn.Module) -> tuple[Choice, ...]:
    """Recognise the style in which each module that chooses holds its candidates and one architecture parameter.

    That is a module with one ``ModuleList`` and one one-dimensional parameter of the same length, as in FBNet (arXiv
    1812.03443) and ProxylessNAS (arXiv 1812.00332); the weight of a candidate is the softmax of the parameter.

    Raises:
        SearchError: if no module is of that style; the message lists what came near, and the lines that name the
            choices.
    """
    found, near = [], []
    for name, module in supernet.named_modules():
        lists = {
            key: child for key, child in module.named_children() if isinstance(child, nn.ModuleList) and len(child) > 1
        }
        if len(lists) != 1:
            continue
        ((key, candidates),) = lists.items()
        vectors = [key for key, parameter in module.named_parameters(recurse=False) if parameter.dim() == 1]
        matching = [key for key in vectors if len(getattr(module, key)) == len(candidates)]
        path = f"{name}.{key}" if name else key
        if len(matching) == 1:
            names = tuple(f"{path}.{number}" for number in range(len(candidates)))
            found.append(Choice(module=name, candidates=names, weights=_ParameterOf(name, matching[0])))
        else:
            near.append(f"`{path}` ({len(candidates)} modules, {len(vectors)} parameter vectors of its own)")
    if not found:
        raise SearchError(_nothing_found(supernet, near))
    return tuple(found)


def read_supernet(
    supernet: nn.Module, example_input: Tensor | tuple[Tensor, ...], choices: Sequence[Choice] | None = None
) -> tuple[OpGraph, tuple[Choice, ...]]:
    """Read a supernet once, with every candidate of every choice. It is not changed.

    Args:
        supernet: the network.
        example_input: what its forward takes.
        choices: where it chooses; by default what `find_choices` recognises.

    Returns:
        The graph, and the choices in the order in which they run.

    Raises:
        SearchError: if the choices are not recognised, or one does not run.
        InputMismatchError: if the input does not fit a layer.

    Example:
        >>> graph, choices = read_supernet(supernet, example_input)                              # doctest: +SKIP
        >>> networks = [graph.extract(a) for a in covering_architectures(graph.choices, times=6)]  # doctest: +SKIP
    """
    given = find_choices(supernet) if choices is None else tuple(choices)
    _check_names(supernet, given)
    found = {choice.module: choice for choice in given}
    graph = read_torch(supernet, example_input, choices={name: choice.candidates for name, choice in found.items()})
    unmet = [name for name in found if name not in graph.choices]
    if unmet:
        raise SearchError(f"Expected every choice to run in the supernet's forward, but {', '.join(unmet)} did not.")
    return graph, tuple(found[name] for name in graph.choices)


def _check_names(supernet: nn.Module, choices: Sequence[Choice]) -> None:
    if not choices:
        raise SearchError("Expected at least one choice, but got none.")
    modules = dict(supernet.named_modules())
    names = [choice.module for choice in choices]
    for name in names:
        if names.count(name) > 1:
            raise SearchError(f"Expected each choice once, but `{name}` is named {names.count(name)} times.")
    for name in (name for choice in choices for name in (choice.module, *choice.candidates)):
        if name not in modules:
            raise SearchError(f"Expected the names of modules of {type(supernet).__name__}, but it has no `{name}`.")


@dataclass(frozen=True, slots=True)
class _ParameterOf:
    """Reads a parameter of a module of the supernet; a class and not a lambda, so that a loss can be pickled."""

    module: str
    parameter: str

    def __call__(self, supernet: nn.Module) -> Tensor:
        return cast(Tensor, getattr(supernet.get_submodule(self.module), self.parameter))


def _nothing_found(supernet: nn.Module, near: Sequence[str]) -> str:
    return (
        f"Expected {type(supernet).__name__} to hold modules that own a ModuleList of candidates and one parameter "
        f"vector of the same length, but found none; module lists seen: {', '.join(near) or 'none'}. Name the choices: "
        f"attach(supernet, x, choices=[Choice(module='blocks.0', candidates=('blocks.0.ops.0', 'blocks.0.ops.1'), "
        f"weights=lambda net: net.alphas[0])])."
    )
