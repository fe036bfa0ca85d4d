"""Reads the weights of a Paddle supernet's choices for the loss, which is computed in torch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import paddle
import torch

from latency_nas.search.supernet.choice import Choice
from latency_nas.search.supernet.gate_reader import (
    WeightReader,
    all_drawn,
    drawn_by,
    evaluate,
    gates_of,
    undrawn_logits,
    use_what_ran,
)
from latency_nas.search.supernet.picked import Picked

__all__ = ["PaddleGateReader"]


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
            self.logits_of_drawn = undrawn_logits(choices, self._drawn)
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
