"""A module's `training_step`, wrapped while a trainer optimises, and what it returns with a latency term."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from latency_nas.search.loss.latency_term import LatencyTerm

__all__ = ["WrappedStep", "with_term"]


class WrappedStep:
    """Calls a function around a module's bound `training_step`, until it is restored."""

    def __init__(self) -> None:
        self._replaced: Any = None
        self._wrapped: Any = None

    def wrap(self, module: Any, around: Callable[..., Any]) -> None:
        """Wrap.

        Args:
            module: Module with a method `training_step`.
            around: Function of that method and its arguments, which gives what is to be returned.
        """
        step = module.training_step
        self._replaced = module.__dict__.get("training_step")

        @functools.wraps(step)
        def training_step(*args: Any, **kwargs: Any) -> Any:
            return around(step, *args, **kwargs)

        module.training_step = self._wrapped = training_step

    def restore(self, module: Any) -> None:
        """Give the module its own step back, if it is still wrapped."""
        if self._wrapped is None or module.__dict__.get("training_step") is not self._wrapped:
            return
        del module.training_step
        if self._replaced is not None:
            module.training_step = self._replaced
        self._wrapped = self._replaced = None


def with_term(output: Any, loss: LatencyTerm) -> Any:
    """A `training_step`'s output, a tensor or a dict with ``"loss"``, with the term."""
    if isinstance(output, dict):  # one without "loss" is left for the trainer to complain of
        return {**output, "loss": loss.combine(output["loss"])} if "loss" in output else output
    return loss.combine(output)
