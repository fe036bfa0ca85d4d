"""Catches the gates that a Paddle supernet draws in its forward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import paddle
from paddle.nn import functional

from latency_nas.search.supernet.sample import Sample

__all__ = ["PaddleSample"]


class PaddleSample(Sample):
    """Catches gates while a Paddle supernet runs: an argument, or what `gumbel_softmax` gives inside a forward.

    Paddle gives a hard sample no gradient. The term gets that of the softmax (straight-through, arXiv 1308.3432).
    """

    tensor = paddle.Tensor

    def _watch_drawing(self, module: Any) -> list[Callable[[], None]]:
        enter, leave = module.register_forward_pre_hook(self._enter), module.register_forward_post_hook(self._leave)
        return [enter.remove, leave.remove, self._leave]

    def _enter(self, *_: Any) -> None:
        self._leave()  # an earlier forward may have failed and not ended
        self.gates = None  # those of the step before
        original = self._original = functional.gumbel_softmax

        def caught(x: Any, temperature: float = 1.0, hard: bool = False, axis: int = -1, name: Any = None) -> Any:
            drawn = original(x, temperature, hard, axis, name)
            soft = functional.softmax(x / temperature, axis)
            self.catch(drawn.detach() + soft - soft.detach() if hard else drawn)
            return drawn

        functional.gumbel_softmax = caught

    def _leave(self, *_: Any) -> None:
        if self._original is not None:
            functional.gumbel_softmax = self._original
        self._original = None

    _original: Any = None
