"""`PaddleLatencyCallback`: adds a `PaddleLatencyLoss` to the training of a ``paddle.Model``."""

from __future__ import annotations

from typing import Any

import paddle

from latency_nas.errors import SearchError
from latency_nas.search.loss.paddle_loss import PaddleLatencyLoss

__all__ = ["PaddleLatencyCallback"]


_UNKNOWN = (-1,)  # the shape that paddle.Model gives its input where none is stated


class PaddleLatencyCallback(paddle.callbacks.Callback):  # type: ignore[misc]
    """Adds a latency loss to the loss of a ``paddle.Model`` while it is fitted; updates its multiplier and schedule.

    At the end of each epoch the figures of `LatencyLoss.figures` (``latency/expected_ms``, ``latency/argmax_ms`` ...,
    or ``latency/expected_params`` where parameters are counted) are added to the logs for Paddle's other callbacks and
    to `history`, one dict for each epoch.

    Args:
        loss: Loss to add. If it is not attached yet, it is attached to the model's network at the start, with the
            model's `inputs`.

    Raises:
        SearchError: at the start, if the model has no loss, or the loss is not attached and the model has no inputs.

    Example:
        >>> model = paddle.Model(supernet, inputs=InputSpec([1, 3, 32, 32], name="x"))                 # doctest: +SKIP
        >>> model.prepare(optimizer, loss=paddle.nn.CrossEntropyLoss())                      # doctest: +SKIP
        >>> latency = PaddleLatencyLoss("SD865", target_ms=20, penalty="inequality")         # doctest: +SKIP
        >>> model.fit(data, epochs=10, callbacks=[PaddleLatencyCallback(latency)])           # doctest: +SKIP
    """

    def __init__(self, loss: PaddleLatencyLoss) -> None:
        super().__init__()
        self.loss = loss
        self.history: list[dict[str, float]] = []
        self._task: Any = None
        self._epoch = 0

    def on_train_begin(self, logs: Any = None) -> None:
        """Attach the loss if necessary, and find the model's own."""
        task = getattr(self.model, "_loss", None)
        if task is None:
            raise SearchError("Expected the model to have a loss: model.prepare(optimizer, loss=...).")
        if not self.loss.attached:
            inputs = getattr(self.model, "_inputs", None)
            if not inputs or any(tuple(item.shape) == _UNKNOWN for item in inputs):
                raise SearchError(
                    "Expected an attached loss, or a model that knows its inputs: latency.attach(supernet, "
                    "example_input), or paddle.Model(supernet, inputs=InputSpec([1, 3, 32, 32], name='x'))."
                )
            self.loss.attach(self.model.network, inputs)
        self._task = task
        while isinstance(owner := getattr(self._task, "__self__", None), PaddleLatencyCallback):
            self._task = owner._task  # noqa: SLF001 - of a training that was interrupted
        self.model._loss = self._task  # noqa: SLF001 - paddle.Model has no other place for it

    def on_train_batch_begin(self, step: int, logs: Any = None) -> None:
        """Add the latency loss to the model's own, for this batch."""
        self.model._loss = self._combined  # noqa: SLF001

    def _combined(self, *outputs_and_labels: Any) -> Any:
        """The model's own loss, combined with the latency loss if this is a step of the training."""
        self.model._loss = self._task  # noqa: SLF001 - whatever interrupts the step, the term is not left behind
        losses = self._task(*outputs_and_labels)
        if not self.model.network.training:
            return losses
        return self.loss.combine(paddle.add_n(losses) if isinstance(losses, list | tuple) else losses)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Store the number of the epoch, for the schedule."""
        self._epoch = epoch

    def on_train_batch_end(self, step: int, logs: Any = None) -> None:
        """Update the multiplier, and follow the schedule."""
        n_epochs, n_steps = self.params.get("epochs"), self.params.get("steps")
        known = n_epochs and n_steps
        self.loss.step((self._epoch + (step + 1) / n_steps) / n_epochs if known else None)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Log the figures of the search."""
        self.history.append(self.loss.figures())
        if logs is not None:
            logs.update(self.history[-1])

    def on_train_end(self, logs: Any = None) -> None:
        """Restore the model's own loss."""
        self.model._loss = self._task  # noqa: SLF001
