"""`Ran`: the candidate of a choice that ran in the last forward, whatever picked it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from latency_nas.errors import SearchError
from latency_nas.search.supernet.choice import Choice
from latency_nas.search.supernet.module_path import module_at
from latency_nas.search.supernet.supernet import framework_of

__all__ = ["Ran"]


class Ran:
    """Sees which candidate of a choice ran: one is drawn by an index that the user sets, or by gates of ones and zeros.

    Args:
        choice: Choice among modules.
    """

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self.indices: set[int] = set()  # of the candidates that ran since the supernet's forward began
        self.is_drawn = False  # whether the supernet's forward has begun, after which one has run
        self._supernet: tuple[Any, ...] = ()  # in a tuple, so that it is no submodule of anything
        self._release: list[Callable[[], None]] = []

    def watch(self, supernet: Any) -> None:
        """See what runs from now on. Nothing but hooks is added to the supernet."""
        self.release()
        self._supernet = (supernet,)
        self._release = [supernet.register_forward_pre_hook(self._begin).remove]
        for candidates in (self.choice.candidates, *self.choice.others):
            for index, name in enumerate(candidates):
                if name is not None:
                    hook = module_at(supernet, name).register_forward_pre_hook(_Note(self, index))
                    self._release.append(hook.remove)

    def release(self) -> None:
        """Stop seeing what runs."""
        for release in self._release:
            release()
        self._release, self.indices, self.is_drawn = [], set(), False

    @property
    def gates(self) -> Any:
        """1 for the candidate that ran, with the gradient of the weights (straight-through); None before a forward.

        Raises:
            SearchError: if not exactly one ran.

        References:
            Bengio, Leonard and Courville, arXiv 1308.3432: the straight-through estimator.
        """
        if not self.is_drawn or self.choice.weights is None:
            return None
        weights, (supernet,) = self.choice.weights(self._supernet[0]), self._supernet
        powers = (weights - weights.max()).exp()
        gates = powers / powers.sum() if self.choice.logits else weights
        return framework_of(supernet).one_hot(supernet, self.index, len(gates)) + gates - gates.detach()

    @property
    def index(self) -> int:
        """The candidate that ran in the last forward.

        Raises:
            SearchError: if not exactly one ran.
        """
        nothing = [index for index, name in enumerate(self.choice.candidates) if name is None]
        found = sorted(self.indices) or nothing
        if len(found) != 1:
            raise SearchError(
                f"Expected one candidate of `{self.choice.module}` to run in the supernet's last forward, since "
                f"`sampled=True` prices the path that was drawn, but {len(found)} ran: attach without `sampled`."
            )
        return found[0]

    def _begin(self, *_: Any) -> None:
        self.indices, self.is_drawn = set(), True

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_release": [], "_supernet": (), "is_drawn": False}


class _Note:
    """A forward pre-hook that notes that a candidate runs."""

    def __init__(self, ran: Ran, index: int) -> None:
        self.ran, self.index = ran, index

    def __call__(self, *_: Any) -> None:
        self.ran.indices.add(self.index)
