"""`Picked`: the configuration in use, for choices of a supernet that have no weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from latency_nas.errors import SearchError
from latency_nas.search.supernet.choice import Choice
from latency_nas.search.supernet.supernet import framework_of

__all__ = ["Picked", "is_logits"]


class Picked:
    """The candidate in use of each choice that has no weights: their configurations are sampled, not learned.

    Args:
        choices: Choices of the supernet, with and without weights.
    """

    def __init__(self, choices: Sequence[Choice]) -> None:
        self.sizes = {choice.module: len(choice.candidates) for choice in choices if choice.weights is None}
        self.indices: dict[str, int] = {}

    @property
    def is_complete(self) -> bool:
        """Whether each choice without weights has a candidate in use."""
        return self.indices.keys() == self.sizes.keys()

    def use(self, architecture: Mapping[str, int]) -> None:
        """Use the candidates of an architecture from now on; those of choices with weights are left out.

        Raises:
            SearchError: if every choice has weights, or a choice without weights is not given.
        """
        if not self.sizes:
            raise SearchError("Expected choices without weights to configure, but all choices have weights.")
        if missing := [name for name in self.sizes if name not in architecture]:
            raise SearchError(
                f"Expected a configuration with each choice that has no weights, but it lacks {', '.join(missing)}."
            )
        self.indices = {name: architecture[name] for name in self.sizes}

    @contextmanager
    def using(self, architecture: Mapping[str, int]) -> Iterator[None]:
        """A context in which the candidates of an architecture are in use."""
        before = self.indices
        try:
            if self.sizes:
                self.use(architecture)
            yield
        finally:
            self.indices = before

    def gates(self, choice: str, supernet: Any) -> Any:
        """1 for the candidate in use and 0 for the others, as a tensor of the supernet's framework.

        Raises:
            SearchError: if no configuration is in use.
        """
        if choice not in self.indices:
            raise SearchError(
                f"Expected a configuration in use, since `{choice}` has no weights and is sampled: call "
                f"latency.use_config(config) first. latency.random(max_ms=...) and latency.project(config) give "
                f"configurations within a budget, and latency.price(config) prices any."
            )
        return framework_of(supernet).one_hot(supernet, self.indices[choice], self.sizes[choice])


def is_logits(choices: Sequence[Choice]) -> list[bool]:
    """Whether a softmax is still to normalise the weights, for each choice; a candidate in use is a gate."""
    return [choice.logits and choice.weights is not None for choice in choices]
