"""`Framework`: the operations on a supernet that depend on the framework in which it is written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from latency_nas.graph import OpGraph
from latency_nas.search.supernet.choice import ElementsOf, ParameterOf
from latency_nas.search.supernet.sample import Sample
from latency_nas.search.supernet.softmax_row import SoftmaxRow

__all__ = ["Framework"]


class Framework(ABC):
    """The framework of a supernet: torch or Paddle."""

    softmax: str  # the expression for the softmax of a tensor {0}, as a user writes it
    lists: tuple[type[Any], ...]  # classes of lists and dictionaries of modules
    parameter_lists: tuple[type[Any], ...]  # classes of lists of parameters
    with_matrices: tuple[type[Any], ...]  # classes of layers whose weights are matrices
    softmaxes: tuple[type[Any], ...]  # classes of layers that compute a softmax
    sample: type[Sample]  # catches the gates that a supernet of this framework draws

    @abstractmethod
    def is_module(self, value: Any) -> bool:
        """Whether this is a module (a layer, in Paddle)."""

    @abstractmethod
    def modules(self, supernet: Any) -> dict[str, Any]:
        """The modules of a supernet by name, with the supernet itself under the empty name.

        A module that is in several places has several names.
        """

    @abstractmethod
    def named_modules(self, supernet: Any) -> Iterator[tuple[str, Any]]:
        """As `modules`, but each module once."""

    @abstractmethod
    def children(self, module: Any) -> dict[str, Any]:
        """The modules that a module holds itself, by their keys; None for one that is switched off."""

    @abstractmethod
    def parameters(self, module: Any) -> dict[str, Any]:
        """The parameters that a module holds itself, by their keys."""

    @abstractmethod
    def tensors(self, module: Any) -> dict[str, Any]:
        """As `parameters`, with plain tensors in its attributes that require a gradient."""

    @abstractmethod
    def read(
        self,
        network: Any,
        example_input: Any = None,
        *,
        run: Callable[[Any], Any] | None = None,
        choices: Mapping[str, Sequence[str | None]] | None = None,
        known_weights: Container[str] = (),
    ) -> OpGraph:
        """Read a network by running it once. It is not changed.

        Args:
            network: Module to read.
            example_input: Input of its forward.
            run: Function that calls the network once, instead of `example_input`.
            choices: Name of each place of a choice -> the names of the candidates' modules.
            known_weights: Names of the parameters that these choices have their weights from.
        """

    @abstractmethod
    def unchanged(self, supernet: Any) -> AbstractContextManager[None]:
        """A context with the supernet in evaluation mode, which restores the supernet at its end."""

    @abstractmethod
    def identities(self, supernet: Any) -> Callable[[Any], Mapping[str, str]]:
        """A function that gives names for the modules of networks that were taken out of a supernet.

        The names are by their paths, and do not depend on how a network numbers its modules.
        """

    @abstractmethod
    def one_hot(self, supernet: Any, index: int, n: int) -> Any:
        """A tensor of `n` zeros, with 1 at `index`, where the supernet is."""

    @abstractmethod
    def raise_above(self, supernet: Any, weights: ParameterOf | ElementsOf, index: int, margin: float) -> None:
        """Set one number of a choice's architecture parameters to the largest plus `margin`."""

    @abstractmethod
    def softmax_row(self, supernet: Any, weights: Callable[[Any], Any], *, logits: bool) -> SoftmaxRow | None:
        """The architecture parameters whose softmax a choice's gates are.

        Args:
            supernet: Network that is searched.
            weights: Function of it that gives the weights of the choice.
            logits: Whether the gates are the softmax of the weights, and not the weights themselves.

        Returns:
            The parameters; None if the gates depend on several parameters, or in another way.
        """

    @abstractmethod
    def raise_element(self, row: SoftmaxRow, index: int, margin: float) -> None:
        """As `raise_above`, for architecture parameters that a function reads; the largest one stays as it is."""

    @abstractmethod
    def read_by(self, supernet: Any, weights: Callable[[Any], Any]) -> set[str]:
        """The names of the parameters that a function of the supernet reads differentiably."""
