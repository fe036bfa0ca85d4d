"""`score_replacements`: scores each candidate by the loss of a network in which one choice is replaced by it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from math import isclose
from typing import Any

import torch
from torch import Tensor, nn

from latency_nas.errors import SearchError
from latency_nas.graph.torch.unchanged import unchanged
from latency_nas.measure.repetition import Progress
from latency_nas.search.plan.architecture import Architecture, indices_of
from latency_nas.search.select.evaluating import finite
from latency_nas.search.select.evaluation_file import EvaluationFile
from latency_nas.search.select.ray_map import ray_map
from latency_nas.search.supernet.choice import Choice, check_names
from latency_nas.search.supernet.gate_reader import evaluate
from latency_nas.search.supernet.naming import Choices
from latency_nas.search.supernet.picked import Picked
from latency_nas.search.supernet.selected import selected
from latency_nas.search.supernet.supernet_space import Derive, parts_of

__all__ = ["score_replacements"]

LossFunction = Callable[[Any, Any], Any]

_SAME = 1e-4  # relative difference of a loss that is computed again: GPUs do not add in a fixed order


def score_replacements(
    supernet: nn.Module,
    loss_fn: LossFunction,
    batches: Iterable[Any],
    *,
    choices: Choices | None = None,
    derive: Derive | None = None,
    base: Mapping[str, Any] | None = None,
    seed: int = 0,
    path: str | os.PathLike[str] | None = None,
    ray_address: str | None = None,
    on_progress: Progress | None = None,
) -> dict[str, list[float]]:
    """Score each candidate of each choice by the loss of the base network with this one replacement.

    The score of candidate j of choice i is -mean over batches of loss(base with i = j), so that higher is better and
    the scores of an architecture's candidates can be added (Puzzle's replace-1-block scores). A supernet of n choices
    with k candidates takes 1 + n (k - 1) passes over the batches.

    Networks are computed in evaluation mode and without gradients; each pass begins with the same random state. The
    supernet is left as it was: weights, buffers, attributes, training flags and random states.

    Args:
        supernet: Network that is searched, with trained weights.
        loss_fn: Function of a network and a batch that gives the loss, a scalar: ``lambda net, batch:
            cross_entropy(net(batch[0]), batch[1])``. The network is the supernet, which computes the selected path
            whatever its gates are, or what `configure` or `derive` gives.
        batches: Batches that can be gone through several times: a list, or a data loader.
        choices: Choices of the supernet, as in `LatencyLoss.attach`. With `options_of`, an input that `configure` gives
            besides the network is not used.
        derive: Function of the supernet and an architecture (choice -> index) that gives its network; None if that is
            simply the path through the supernet.
        base: Candidate of each choice (index or name; or its option) in the network in which one is replaced; None for
            the candidates with the largest weights, and the first ones where choices have no weights.
        seed: Seed of torch's random numbers at the beginning of each pass.
        path: File that keeps each score as soon as it is known (JSON lines). If it exists, scoring goes on from it.
            The base network is evaluated anew, to check that the file belongs to these weights and batches.
        ray_address: Address of a Ray cluster (``"auto"``: the one of this machine) to score on; None for this process.
            Supernet, loss and batches are sent once; each pass is a task on a CPU and, for a supernet on GPUs, a GPU.
        on_progress: Function that is called after each pass, with their number so far and in all.

    Returns:
        Choice -> the score of each candidate.

    Raises:
        SearchError: if the choices are not recognised or do not run, a loss is no finite number, the batches can be
            gone through only once, or the file belongs to other arguments, weights or batches.

    Example:
        >>> scores = score_replacements(supernet, loss_fn, batches, path="scores.jsonl")        # doctest: +SKIP
        >>> architecture = project(scores, [Limit(plan=latency.plan, max_cost=20.0)])           # doctest: +SKIP

    References:
        Bercovich et al., Puzzle: distillation-based NAS for inference-optimized LLMs, ICML 2025 (arXiv 2411.19146),
        section 4.2.
    """
    scorer = _Scorer(supernet, loss_fn, batches, choices, derive, seed)
    architecture = scorer.base(base)
    arguments = {"choices": scorer.names, "base": dict(architecture), "seed": seed}
    passes = [(name, index) for name, names in scorer.names.items() for index in range(len(names))
              if index != architecture[name]]  # fmt: skip
    report = on_progress or (lambda done, total: None)
    with EvaluationFile(path, arguments) as file, scorer.restoring():
        base_loss = _checked(scorer.loss(architecture, "of the base", check_run=True), file, path)
        report(1, 1 + len(passes))
        missing = [one for one in passes if one not in file.values]
        for number, loss in scorer.losses(architecture, missing, ray_address):
            file.add(missing[number], loss)
            report(len(file.values), 1 + len(passes))
        losses = {name: [file.values.get((name, index), base_loss) for index in range(len(names))]
                  for name, names in scorer.names.items()}  # fmt: skip
    return {name: [-loss for loss in row] for name, row in losses.items()}


def _checked(loss: float, file: EvaluationFile, path: Any) -> float:
    """The loss of the base network that the file has; it is added where it has none."""
    if () not in file.values:
        file.add((), loss)
    before = file.values[()]
    if not isclose(loss, before, rel_tol=_SAME, abs_tol=_SAME * 1e-3):
        raise SearchError(
            f"Expected {path} to be of the same weights, loss and batches, but the loss of the base network was "
            f"{before:.6g} and is {loss:.6g} now: name a new file."
        )
    return before


class _Scorer:
    """Computes the loss of any architecture of a supernet.

    Args:
        supernet: Network that is searched.
        loss_fn: Function of a network and a batch that gives the loss.
        batches: Batches.
        choices: Choices of the supernet, as the user names them.
        derive: Function that gives the network of an architecture.
        seed: Seed of torch's random numbers.
    """

    def __init__(
        self,
        supernet: nn.Module,
        loss_fn: LossFunction,
        batches: Iterable[Any],
        choices: Choices | None,
        derive: Derive | None,
        seed: int,
    ) -> None:
        if not isinstance(supernet, nn.Module):
            raise SearchError(f"Expected a torch module, but got {type(supernet).__name__}.")
        if iter(batches) is batches:
            raise SearchError(
                f"Expected batches that can be gone through several times, such as a list or a data loader, but got "
                f"{type(batches).__name__}."
            )
        modules = dict(supernet.named_modules())
        self.supernet, self.loss_fn, self.batches, self.derive, self.seed = supernet, loss_fn, batches, derive, seed
        self.among_modules, self.elastic = parts_of(supernet, choices, modules)
        among_options = [choice for part in self.elastic for choice in part.choices(supernet)]
        self.choices: list[Choice] = [*self.among_modules, *among_options]
        check_names(supernet, self.choices, modules)
        self.names = {choice.module: choice.names for choice in self.choices}
        self._values: list[tuple[Tensor, Tensor]] = []  # tensors of the supernet, and what they were before

    def base(self, given: Mapping[str, Any] | None) -> Architecture:
        """The architecture in which one choice is replaced."""
        if given is None:
            return Architecture((choice.module, self._most_probable(choice)) for choice in self.choices)
        options = {name for part in self.elastic for name in part.options}
        picked = given if isinstance(given, Architecture) else {
            name: str(value) if name in options else value for name, value in given.items()
        }  # fmt: skip
        indices = indices_of(picked, list(self.names), list(self.names.values()))
        return Architecture(zip(self.names, indices, strict=True))

    @torch.no_grad()
    def _most_probable(self, choice: Choice) -> int:
        return 0 if choice.weights is None else int(evaluate([choice], self.supernet, Picked([]))[0].argmax())

    @contextmanager
    def restoring(self) -> Iterator[None]:
        """Restore the values of the supernet's tensors, which some supernets change in evaluation mode as well."""
        tensors = {
            id(value): value
            for module in self.supernet.modules()
            for held in (vars(module), vars(module)["_parameters"], vars(module)["_buffers"])
            for value in held.values()
            if isinstance(value, Tensor)
        }
        self._values = [(tensor, tensor.detach().clone()) for tensor in tensors.values()]
        try:
            yield
        finally:
            self._values.clear()

    @torch.no_grad()
    def _restore(self) -> None:
        for tensor, before in self._values:
            if not torch.equal(tensor, before):
                tensor.data.copy_(before)  # leaves the version, by which autograd notices changes, as it was

    def losses(
        self, base: Architecture, replacements: Sequence[tuple[str, int]], ray_address: str | None
    ) -> Iterator[tuple[int, float]]:
        """The loss of the base network with each replacement (choice and index), as they come."""
        replaced = partial(self._replaced, base)
        if ray_address is None:
            return enumerate(map(replaced, replacements))
        on_gpu = any(parameter.is_cuda for parameter in self.supernet.parameters())
        return ray_map(replaced, replacements, address=ray_address, n_gpus=float(on_gpu))

    def _replaced(self, base: Architecture, replacement: tuple[str, int]) -> float:
        name, index = replacement
        return self.loss(Architecture({**base, name: index}), f"with {self.names[name][index]} for `{name}`")

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_values": []}  # a copy on a cluster computes one loss

    def loss(self, architecture: Architecture, what: str, *, check_run: bool = False) -> float:
        """The mean loss of one architecture over the batches.

        Args:
            architecture: Index of the candidate of each choice.
            what: Description of the network, for messages.
            check_run: Whether each choice among modules has to run.

        Raises:
            SearchError: if there are no batches, a loss is no finite number, or a choice does not run.
        """
        losses: list[float] = []
        with ExitStack() as stack:
            stack.callback(self._restore)
            stack.enter_context(unchanged(self.supernet))
            network, not_run = self._network(architecture, stack)
            stack.enter_context(unchanged(network))
            stack.enter_context(torch.no_grad())
            torch.manual_seed(self.seed)
            losses += [finite(self.loss_fn(network, batch), f"the loss {what}") for batch in self.batches]
            if not losses:
                raise SearchError("Expected at least one batch, but got none.")
            if check_run:
                self._check_run(not_run())
        return sum(losses) / len(losses)

    def _network(self, architecture: Architecture, stack: ExitStack) -> tuple[Any, Callable[[], list[str]]]:
        """The network of an architecture, and a function that names the choices that did not run."""
        if self.derive is not None:
            return _module(self.derive(self.supernet, architecture), "derive"), list
        network: Any = self.supernet
        for part in self.elastic:
            config = {name: values[architecture[name]] for name, values in part.options.items()}
            made = part.configure(network, config)
            network = _module(made[0] if isinstance(made, tuple) else made, "configure")
        return network, stack.enter_context(selected(network, self.among_modules, architecture))

    def _check_run(self, not_run: Sequence[str]) -> None:
        """Check that only choices inside of other candidates did not run."""
        every = [f"{name}." for choice in self.among_modules for name in choice.candidates if name is not None]
        missing = [name for name in not_run if not any(f"{name}.".startswith(candidate) for candidate in every)]
        if missing:
            raise SearchError(
                f"Expected every choice to run in the supernet's forward, but {', '.join(missing)} did not: give "
                f"`derive`, which makes the network of an architecture."
            )


def _module(network: Any, function: str) -> nn.Module:
    if not isinstance(network, nn.Module):
        raise SearchError(f"Expected `{function}` to give a module, but got {type(network).__name__}.")
    return network
