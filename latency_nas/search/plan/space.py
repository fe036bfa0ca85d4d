"""`Space`: the architectures of a supernet of any framework, and what an engine runs for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from latency_nas.errors import SearchError
from latency_nas.graph import OpGraph
from latency_nas.kernel.kernel_call import KernelCall
from latency_nas.search.plan.diagrams import Diagram, Diagrams

__all__ = ["Context", "Fuse", "Space", "candidate_space"]

# functions of the choices that decide what an engine runs for an operator; and those that may decide it besides
Context = tuple[tuple[Diagram, ...], tuple[Diagram, ...]]
Fuse = Callable[[OpGraph], Sequence[KernelCall]]  # gives the kernels that an engine runs for a graph


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """The architectures of a supernet.

    Args:
        candidates: Names of the candidates of each choice.
        calls: Function that gives what the engine runs for an architecture (choice -> index of its candidate).
        contexts: Function that gives, for each operator by its name, functions of the choices that decide what an
            engine runs for it besides the choices themselves, such as who reads its output; None where they are not
            known.

    Raises:
        SearchError: if there is no choice, or one has fewer than two candidates.
    """

    candidates: Mapping[str, tuple[str, ...]]
    calls: Callable[[Mapping[str, int]], Sequence[KernelCall]]
    contexts: Callable[[Diagrams], Mapping[str, Context]] | None = None

    def __post_init__(self) -> None:
        if not self.candidates:
            raise SearchError("Expected at least one choice, but got none.")
        for name, candidates in self.candidates.items():
            if len(candidates) < 2:
                raise SearchError(f"Expected at least two candidates of `{name}`, but got {len(candidates)}.")


def candidate_space(
    choices: Mapping[str, Mapping[str, OpGraph | None]], fuse: Fuse, *, fixed: OpGraph | None = None
) -> Space:
    """The architectures of a supernet whose candidates were read one by one, in any framework.

    Each candidate is fused on its own, so fusion across the border of a choice is not seen. Where that matters, make a
    `Space` whose `calls` fuses whole networks.

    Args:
        choices: Graphs of each choice's candidates by name; None for a candidate that runs nothing.
        fuse: Function that gives the kernels of a graph, such as `LatencyEstimator.fuse`.
        fixed: Graph of what runs whatever is chosen; None for nothing.

    Raises:
        SearchError: if a choice has fewer than two candidates.

    Example:
        >>> estimator = LatencyEstimator("SD865")                                            # doctest: +SKIP
        >>> first = {"3x3": read_paddle("a.pdmodel"), "skip": None}                          # doctest: +SKIP
        >>> space = candidate_space({"first": first}, estimator.fuse)                        # doctest: +SKIP
        >>> plan = make_plan(space, estimator)                                               # doctest: +SKIP
        >>> plan.expected_ms([0.25, 0.75]), plan.gradient_ms([0.25, 0.75])                   # doctest: +SKIP
    """
    fixed_calls = _calls(fixed, fuse, "")
    candidate_calls = {
        choice: [_calls(graph, fuse, f"{choice}={name}/") for name, graph in group.items()]
        for choice, group in choices.items()
    }

    def calls(architecture: Mapping[str, int]) -> list[KernelCall]:
        return sum((candidate_calls[choice][index] for choice, index in architecture.items()), fixed_calls)

    return Space(candidates={choice: tuple(group) for choice, group in choices.items()}, calls=calls)


def _calls(graph: OpGraph | None, fuse: Fuse, prefix: str) -> list[KernelCall]:
    """The kernels of a graph, with `prefix` before the names of their layers; none for None."""
    return [replace(call, layer=prefix + call.layer) for call in (fuse(graph) if graph else ())]
