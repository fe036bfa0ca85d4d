"""Wraps the `training_step` of a module during training, to add a latency term to its loss."""

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
        """Wrap the step of a module.

        Args:
            module: Module with a method `training_step`.
            around: Function of that method and its arguments, whose result is returned instead.
        """
        step = module.training_step
        self._replaced = module.__dict__.get("training_step")

        @functools.wraps(step)
        def training_step(*args: Any, **kwargs: Any) -> Any:
            return around(step, *args, **kwargs)

        module.training_step = self._wrapped = training_step

    def restore(self, module: Any) -> None:
        """Restore the module's own step, if it is still wrapped."""
        if self._wrapped is None or module.__dict__.get("training_step") is not self._wrapped:
            return
        del module.training_step
        if self._replaced is not None:
            module.training_step = self._replaced
        self._wrapped = self._replaced = None


def with_term(output: Any, loss: LatencyTerm) -> Any:
    """The output of a `training_step`, a tensor or a dict with ``"loss"``, plus the term."""
    if isinstance(output, dict):  # the trainer itself refuses one without "loss"
        return {**output, "loss": loss.combine(output["loss"])} if "loss" in output else output
    return loss.combine(output)
