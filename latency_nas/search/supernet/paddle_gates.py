"""Reads the weights of a Paddle supernet's choices for the loss, which is computed in torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import paddle
import torch
from paddle.nn import functional

from latency_nas.search.supernet.choice import Choice
from latency_nas.search.supernet.gate_reader import (
    WeightReader,
    all_drawn,
    drawn_by,
    evaluate,
    gates_of,
    use_what_ran,
)
from latency_nas.search.supernet.picked import Picked, is_logits
from latency_nas.search.supernet.sample import Sample

__all__ = ["PaddleGateReader", "PaddleSample"]


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


class PaddleGateReader(WeightReader):
    """Copies weights from Paddle to torch by `take`, and gives the last copy.

    Args:
        supernet: Layer that is searched.
        choices: Choices of the supernet.
        sampled: Whether gates that the supernet drew in its forward take precedence.
    """

    def __init__(self, supernet: Any, choices: Sequence[Choice], *, sampled: bool) -> None:
        self._supernet, self._choices = supernet, tuple(choices)
        self.picked = Picked(choices)
        self._drawn = [drawn_by(choice) if sampled else [] for choice in choices]
        if sampled:
            self.logits_of_drawn = [
                logits and not drawn for logits, drawn in zip(is_logits(choices), self._drawn, strict=True)
            ]
        self._weights = torch.zeros(0, dtype=torch.float64)
        self._sample: torch.Tensor | None = None

    @property
    def has_weights(self) -> bool:
        """Whether all choices have weights, or are configured now."""
        return self.picked.is_complete

    def watch(self) -> None:
        """Begin to catch samples."""
        for sample in chain.from_iterable(self._drawn):
            sample.watch(self._supernet)

    def release(self) -> None:
        """Stop catching samples."""
        for sample in chain.from_iterable(self._drawn):
            sample.release()

    def parameters(self) -> list[Any]:
        """The weights of each choice, as tensors of Paddle.

        Raises:
            SearchError: if a choice has none, and no configuration is in use.
        """
        use_what_ran(chain.from_iterable(self._drawn), self.picked)
        return [item.flatten() for item in evaluate(self._choices, self._supernet, self.picked)]

    def sample(self, parameters: Sequence[Any]) -> list[Any] | None:
        """The gates that were drawn in the current step, or the weights of choices that draw none; None without any.

        Args:
            parameters: Weights of each choice, as `parameters` gives them.
        """
        if not paddle.is_grad_enabled() or not all_drawn(self._drawn):
            return None
        return [
            own if (gates := gates_of(drawn)) is None else gates.flatten()
            for own, drawn in zip(parameters, self._drawn, strict=True)
        ]

    def take(self, parameters: Any, sample: Any = None) -> list[torch.Tensor]:
        """Use these weights from now on.

        Args:
            parameters: Weights of all choices, flat, as a tensor of Paddle.
            sample: Gates that were drawn, in the same order; None if none were.

        Returns:
            Two leaves of torch's graph: the weights, and the drawn gates.
        """
        self._weights = torch.from_numpy(parameters.numpy()).requires_grad_()
        drawn = self._weights.detach() if sample is None else torch.from_numpy(sample.numpy())
        drawn.requires_grad_()
        self._sample = None if sample is None else drawn
        return [self._weights, drawn]

    @property
    def drawn(self) -> bool:
        """Whether the weights that were taken last were drawn."""
        return self._sample is not None

    def weights(self) -> tuple[torch.Tensor, None]:
        """The weights, flat, all of which belong to the choices in order."""
        return self._weights, None

    def sampled(self) -> torch.Tensor:
        """The gates that were drawn, flat; the weights if none were."""
        return self._weights if self._sample is None else self._sample
