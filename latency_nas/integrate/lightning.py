"""`LatencyCallback`: puts a `LatencyLoss` into the training of a Lightning module.

``lightning`` and ``pytorch_lightning`` have a class of callbacks each, and a trainer knows its own.
`LatencyCallback` is therefore made when it is asked for, as a callback of whichever of the two is imported by then
(of both, if both are).
"""

from __future__ import annotations

import functools
import importlib
import logging
import sys
from collections.abc import Callable
from math import ceil
from typing import TYPE_CHECKING, Any

from latency_nas.errors import MissingExtraError, SearchError
from latency_nas.integrate.training_step import WrappedStep, with_term
from latency_nas.integrate.unlisted_parameters import UnlistedParameters
from latency_nas.search.loss.loss import LatencyLoss
from latency_nas.search.loss.schedule import Schedule
from latency_nas.search.loss.targets import Targets

__all__ = ["LatencyCallback"]

logger = logging.getLogger(__name__)

_HOMES = ("lightning.pytorch", "pytorch_lightning")

ArchStep = Callable[[Any, Any, int], bool]


class _LatencyHooks:
    """Adds a latency loss to the loss that `training_step` returns, moves its multiplier, anneals, logs and saves.

    The module's bound `training_step` is wrapped in `setup` and restored in `teardown`, so that mixed precision,
    gradient accumulation and distributed training see one loss. A training step that calls the loss itself gets nothing
    added. With manual optimization that is the only way; the callback does the rest.

    Args:
        loss: attached, or else attached at the start to the module, with its `example_input_array`; None for the one
            that the module holds.
        final_temperature: the loss's temperature falls from what it is to this, geometrically over the epochs; None
            leaves it to the loss's `schedule`.
        apply_to: ``"all"`` steps, or ``"arch"``: only steps of the architecture.
        arch_step: tells a step of the architecture, given the module, the batch and its number. By default the module's
            own method ``is_arch_step(batch, batch_idx)``, if it has one, and else whether the architecture parameters
            require a gradient now.
        stop_after: stop when the argmax architecture has been the same, and on its target, for so many epochs.
        tolerance: how far from the target is on it, as a share.

    Logs, at the end of each epoch: ``latency/expected_ms``, ``latency/argmax_ms``, ``latency/target_ms``,
    ``latency/multiplier``, ``latency/temperature``, ``latency/entropy`` and ``latency/entropy/<choice>``; what is no
    latency has its own unit in their place, as in ``latency/size/expected_params`` of several targets. The same
    figures are kept in `history`, one dict an epoch. `summary` is a table of what was found; it is also logged at the
    end (level INFO).

    Raises:
        SearchError: if an argument is out of range.

    Example:
        >>> trainer = Trainer(callbacks=[LatencyCallback(LatencyLoss("SD865", target_ms=20))])   # doctest: +SKIP
    """

    def __init__(
        self,
        loss: LatencyLoss | Targets | None = None,
        *,
        final_temperature: float | None = None,
        apply_to: str = "all",
        arch_step: ArchStep | None = None,
        stop_after: int | None = None,
        tolerance: float = 0.03,
    ) -> None:
        if apply_to not in ("all", "arch"):
            raise SearchError(f"Expected `apply_to` to be 'all' or 'arch', but got {apply_to!r}.")
        if stop_after is not None and stop_after < 1:
            raise SearchError(f"Expected `stop_after` to be a positive number of epochs, but got {stop_after}.")
        self._falling = None if final_temperature is None else Schedule(final_temperature=final_temperature)
        self._given = loss
        self.apply_to, self.arch_step = apply_to, arch_step
        self.stop_after, self.tolerance = stop_after, tolerance
        self.history: list[dict[str, float]] = []
        self._stable, self._architecture = 0, dict[str, int]()
        self._unlisted = UnlistedParameters()
        self._step_at_last_update = self._terms_at_last_update = 0
        self._step = WrappedStep()

    @property
    def loss(self) -> LatencyLoss | Targets:
        """The loss.

        Raises:
            SearchError: if none was given, before it is found in the module.
        """
        if self._given is None:
            raise SearchError("Expected a loss: give it to the callback, or hold it in the module.")
        return self._given

    # --- before and after

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Find and attach the loss if need be, and wrap `training_step` where Lightning optimises."""
        if stage != "fit":
            return
        if self._given is None:
            self._given = _held_by(pl_module)
        if not self.loss.attached:
            if pl_module.example_input_array is None:
                raise SearchError(
                    "Expected the loss to be attached, or the module to have an `example_input_array`: "
                    "call latency.attach(supernet, example_input) before trainer.fit."
                )
            self.loss.attach(pl_module, pl_module.example_input_array)
        if self._falling is not None:
            self.loss.use_schedule(self._falling)
        self._unlisted.look_again()
        self._unlisted.find(self.loss, pl_module)
        self._step_at_last_update, self._terms_at_last_update = trainer.global_step, self.loss.n_terms
        self._step.restore(pl_module)
        if pl_module.automatic_optimization:
            self._step.wrap(pl_module, functools.partial(self._with_term, pl_module))
        elif self.loss not in list(pl_module.modules()):
            raise SearchError(
                f"Expected {type(pl_module).__name__}, which optimises by hand, to hold the loss and to call it: write "
                f"`self.latency = latency` in its __init__ and `loss = self.latency.combine(loss)` before "
                f"manual_backward."
            )

    def _with_term(self, pl_module: Any, step: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What a training step gives, with the term, unless it has called the loss itself."""
        n_terms = self.loss.n_terms
        output = step(*args, **kwargs)
        if output is None or self.loss.n_terms != n_terms or not self._applies(pl_module, *args, **kwargs):
            return output
        return with_term(output, self.loss)

    def _applies(self, pl_module: Any, batch: Any = None, batch_idx: int = 0, *_: Any, **__: Any) -> bool:
        """Whether the term joins this step."""
        if self.apply_to == "all":
            return True
        if self.arch_step is not None:
            return bool(self.arch_step(pl_module, batch, batch_idx))
        if hasattr(pl_module, "is_arch_step"):
            return bool(pl_module.is_arch_step(batch, batch_idx))
        return self.loss.differentiable

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Restore `training_step`: Lightning tears nothing down after an exception."""
        self._step.restore(pl_module)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Restore `training_step`."""
        if stage == "fit":
            self._step.restore(pl_module)

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin on all ranks with the same architecture parameters, also those that the module does not list."""
        self._unlisted.share_values(trainer)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Log the summary."""
        if trainer.is_global_zero and self.history:
            logger.info("%s", self.summary())

    # --- while training

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Set scale and temperature of the epoch."""
        self.loss.anneal(trainer.current_epoch / max(1, _n_epochs(trainer) - 1))

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Average the gradients of architecture parameters that the module does not list, and DDP not average."""
        self._unlisted.find(self.loss, pl_module)
        self._unlisted.share_gradients(trainer)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """After a step of the optimizer that the term had joined, move the multiplier, alike on all ranks."""
        stepped = trainer.global_step != self._step_at_last_update
        if not stepped or self.loss.n_terms == self._terms_at_last_update:
            return
        self._step_at_last_update, self._terms_at_last_update = trainer.global_step, self.loss.n_terms
        if self.loss.step() and trainer.world_size > 1:
            self.loss.load_state_dict(trainer.strategy.broadcast(self.loss.state_dict()))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Log where the search stands, and stop it when it has arrived."""
        if self.loss.n_terms == 0 and not pl_module.automatic_optimization:
            logger.warning(
                "The training step has not called the loss: with manual optimization, write "
                "`loss = self.latency.combine(loss)` before manual_backward."
            )
        figures = self.loss.figures()
        self.history.append({"epoch": trainer.current_epoch, **figures})
        pl_module.log_dict(figures, rank_zero_only=True)
        name, expected = next(iter(figures.items()))
        label = name.rpartition("/")[2]
        pl_module.log(label, expected, prog_bar=True, logger=False, rank_zero_only=True)
        architecture = self.loss.architecture()
        arrived = architecture == self._architecture and self.loss.on_target(self.tolerance)
        self._stable, self._architecture = (self._stable + 1 if arrived else 0), architecture
        if self.stop_after is not None and self._stable >= self.stop_after:
            logger.info("The architecture has been the same and on its target for %d epochs.", self._stable)
            trainer.should_stop = True

    def summary(self) -> str:
        """What was found, as text: see `LatencyTerm.summary`."""
        return self.loss.summary()

    # --- checkpoints

    def state_dict(self) -> dict[str, Any]:
        """What a resumed search needs: the loss's state, unlisted architecture parameters, the table's fingerprint."""
        return {
            "loss": self.loss.state_dict(),
            "fingerprint": self.loss.fingerprint(),
            "leaves": self._unlisted.state(),
            "history": list(self.history),
            "stable": self._stable,
            "architecture": dict(self._architecture),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume.

        Raises:
            SearchError: if the loss has another table than the one that was saved, or the supernet other parameters.
        """
        if state_dict["fingerprint"] != self.loss.fingerprint():
            raise SearchError(
                f"Expected the table with which the search began (fingerprint {state_dict['fingerprint'][:12]}), but "
                f"the loss has another ({self.loss.fingerprint()[:12]}): load the former, or begin a new search."
            )
        self._unlisted.load(state_dict["leaves"])
        self.loss.load_state_dict(state_dict["loss"])
        self.history = list(state_dict["history"])
        self._stable, self._architecture = state_dict["stable"], dict(state_dict["architecture"])


def _n_epochs(trainer: Any) -> int:
    """How many epochs the trainer will run, also where it counts steps."""
    if trainer.max_epochs >= 0 or trainer.max_steps < 0:
        return max(1, int(trainer.max_epochs))
    n_batches: int = trainer.max_steps * trainer.accumulate_grad_batches
    return ceil(n_batches / int(trainer.num_training_batches))


def _held_by(pl_module: Any) -> LatencyLoss | Targets:
    """The one loss among the module's submodules."""
    modules = list(pl_module.modules())
    found: list[LatencyLoss | Targets] = [module for module in modules if isinstance(module, Targets)]
    found = found or [module for module in modules if isinstance(module, LatencyLoss)]
    if len(found) != 1:
        raise SearchError(
            f"Expected {type(pl_module).__name__} to hold one latency loss, but it holds {len(found)}: give the "
            f"callback the loss, or several of them as Targets."
        )
    return found[0]


if TYPE_CHECKING:
    from lightning.pytorch import Callback

    class LatencyCallback(_LatencyHooks, Callback):
        """`_LatencyHooks` as a callback of Lightning, as type checkers see it."""


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
