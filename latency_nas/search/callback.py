"""`LatencyCallback`: puts a `LatencyLoss` into the training of a Lightning module.

``lightning`` and ``pytorch_lightning`` have a class of callbacks each, and a trainer knows its own.
`LatencyCallback` is therefore made when it is asked for, as a callback of whichever of the two is imported by then
(of both, if both are).
"""

from __future__ import annotations

import functools
import importlib
import sys
from math import ceil
from typing import Any

from latency_nas.errors import MissingExtraError, SearchError
from latency_nas.search.loss import LatencyLoss

__all__ = ["LatencyCallback"]

_HOMES = ("lightning.pytorch", "pytorch_lightning")


class _LatencyHooks:
    """Adds a latency loss to the loss that `training_step` returns, and logs.

    The module's bound `training_step` is wrapped in `setup` and restored in `teardown`, so that mixed precision,
    gradient accumulation and distributed training see one loss.

    Args:
        loss: attached, or else attached at the start to the module, with its `example_input_array`.
        final_temperature: the loss's temperature falls from what it is to this, geometrically over the epochs; None
            leaves it.

    Logs, at the end of each epoch: ``latency/expected_ms``, ``latency/argmax_ms``, ``latency/target_ms``,
    ``latency/temperature``. The same figures are kept in `history`, one dict an epoch.

    Raises:
        SearchError: in `setup`, if the module optimises by hand, where a wrapped `training_step` would do nothing.

    Example:
        >>> trainer = Trainer(callbacks=[LatencyCallback(LatencyLoss("SD865", target_ms=20))])   # doctest: +SKIP
    """

    def __init__(self, loss: LatencyLoss, *, final_temperature: float | None = None) -> None:
        if final_temperature is not None and not final_temperature > 0:
            raise SearchError(f"Expected `final_temperature` to be a positive number, but got {final_temperature}.")
        self.loss = loss
        self.final_temperature = final_temperature
        self.first_temperature = float(loss.temperature)
        self.history: list[dict[str, float]] = []
        self._replaced: Any = None
        self._wrapped: Any = None

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Attach the loss if need be, and wrap `training_step`."""
        if stage != "fit":
            return
        if not pl_module.automatic_optimization:
            raise SearchError(
                "Expected automatic optimization: a module that optimises by hand calls `manual_backward` itself. "
                "Write `loss = loss + self.latency()` in its training_step and leave the callback out."
            )
        if not self.loss.attached:
            if pl_module.example_input_array is None:
                raise SearchError(
                    "Expected the loss to be attached, or the module to have an `example_input_array`: "
                    "call latency.attach(supernet, example_input) before trainer.fit."
                )
            self.loss.attach(pl_module, pl_module.example_input_array)
        self._restore(pl_module)
        step = pl_module.training_step
        self._replaced = pl_module.__dict__.get("training_step")

        @functools.wraps(step)
        def training_step(*args: Any, **kwargs: Any) -> Any:
            return _add(step(*args, **kwargs), self.loss)

        pl_module.training_step = self._wrapped = training_step

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Restore `training_step`: Lightning tears nothing down after an exception."""
        self._restore(pl_module)

    def _restore(self, pl_module: Any) -> None:
        if self._wrapped is None or pl_module.__dict__.get("training_step") is not self._wrapped:
            return
        del pl_module.training_step
        if self._replaced is not None:
            pl_module.training_step = self._replaced
        self._wrapped = self._replaced = None

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Restore `training_step`."""
        if stage != "fit":
            return
        self._restore(pl_module)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Set the temperature of the epoch."""
        if self.final_temperature is not None:
            progress = trainer.current_epoch / max(1, _n_epochs(trainer) - 1)
            ratio = self.final_temperature / self.first_temperature
            self.loss.temperature.fill_(self.first_temperature * ratio ** min(1.0, progress))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Log where the search stands."""
        figures = {
            "latency/expected_ms": float(self.loss.expected_ms().detach()),
            "latency/argmax_ms": self.loss.argmax_ms(),
            "latency/temperature": float(self.loss.temperature),
        }
        if self.loss.target_ms is not None:
            figures["latency/target_ms"] = self.loss.target_ms
        self.history.append({"epoch": trainer.current_epoch, **figures})
        pl_module.log_dict(figures, rank_zero_only=True)
        pl_module.log("expected_ms", figures["latency/expected_ms"], prog_bar=True, logger=False, rank_zero_only=True)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed search needs: the loss's buffers, the first temperature and the history."""
        return {
            "loss": self.loss.state_dict(),
            "first_temperature": self.first_temperature,
            "history": list(self.history),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume."""
        self.loss.load_state_dict(state_dict["loss"])
        self.first_temperature = state_dict["first_temperature"]
        self.history = list(state_dict["history"])


def _n_epochs(trainer: Any) -> int:
    """How many epochs the trainer will run, also where it counts steps."""
    if trainer.max_epochs >= 0 or trainer.max_steps < 0:
        return max(1, int(trainer.max_epochs))
    n_batches: int = trainer.max_steps * trainer.accumulate_grad_batches
    return ceil(n_batches / int(trainer.num_training_batches))


def _add(output: Any, loss: LatencyLoss) -> Any:
    """A `training_step`'s output, a tensor or a dict with ``"loss"``, with the term added; None stays None."""
    if output is None:
        return None
    if isinstance(output, dict):  # one without "loss" is left for Lightning to complain of
        return {**output, "loss": output["loss"] + loss()} if "loss" in output else output
    return output + loss()


@functools.cache
def _callback_class(bases: tuple[type, ...]) -> type:
    return type("LatencyCallback", (_LatencyHooks, *bases), {"__module__": __name__, "__doc__": _LatencyHooks.__doc__})


def _callback_bases() -> tuple[type, ...]:
    homes = [name for name in _HOMES if sys.modules.get(name) is not None]
    for name in _HOMES:
        if homes:
            break
        try:
            importlib.import_module(name)
        except ImportError:
            continue
        homes = [name]
    if not homes:
        raise MissingExtraError("LatencyCallback needs Lightning: pip install 'latency-nas[lightning]'")
    return tuple(sys.modules[name].Callback for name in homes)


def __getattr__(name: str) -> Any:
    if name == "LatencyCallback":
        return _callback_class(_callback_bases())
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
