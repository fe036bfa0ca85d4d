"""`LatencyCallback`: adds a `LatencyLoss` to the training of a Lightning module.

``lightning`` and ``pytorch_lightning`` each have their own class `Callback`, and a trainer accepts only its own.
`LatencyCallback` is therefore made when it is first accessed, as a subclass of the class that is imported by then (of
both classes, if both are).
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

_PACKAGES = ("lightning.pytorch", "pytorch_lightning")

ArchStep = Callable[[Any, Any, int], bool]


class _LatencyHooks:
    """Adds a latency loss to the loss that `training_step` returns, moves its multiplier, anneals, logs and saves.

    The module's bound `training_step` is wrapped in `setup` and restored in `teardown`, so that mixed precision,
    gradient accumulation and distributed training see one loss. Nothing is added to a training step that calls the loss
    itself. With manual optimization it has to call the loss; the callback does everything else.

    At the end of each epoch the callback logs ``latency/expected_ms``, ``latency/argmax_ms``, ``latency/target_ms``,
    ``latency/multiplier``, ``latency/temperature``, ``latency/entropy`` and ``latency/entropy/<choice>``. Costs other
    than latencies have their own unit in the name, and several targets their names:
    ``latency/size/expected_params``. The same figures are in `history`, one dict for each epoch. `summary` is a table
    of the architecture that was found; it is also logged at the end (level INFO).

    Args:
        loss: Loss to add. If it is not attached yet, it is attached to the module at the start, with the module's
            `example_input_array`. None for the loss that is a submodule of the module.
        final_temperature: Temperature of the last epoch, to which the loss's temperature falls geometrically; None
            leaves it to the loss's `schedule`.
        apply_to: Steps that the term is added to: ``"all"``, or ``"arch"`` for steps of the architecture parameters.
        arch_step: Function of the module, the batch and its number that says whether this is a step of the architecture
            parameters. By default the module's method ``is_arch_step(batch, batch_idx)``, if it has one, or else
            whether the architecture parameters require a gradient.
        stop_after: Number of epochs after which training stops, if the argmax architecture has been the same and on its
            target in all of them; None never stops it.
        tolerance: Share of the target by which a cost on the target may differ from it.

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
        self._schedule = None if final_temperature is None else Schedule(final_temperature=final_temperature)
        self._loss = loss
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
            SearchError: if no loss was given, and `setup` has not yet found it in the module.
        """
        if self._loss is None:
            raise SearchError("Expected a loss: give it to the callback, or hold it in the module.")
        return self._loss

    # --- before and after

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Find and attach the loss if need be, and wrap `training_step` where Lightning optimises."""
        if stage != "fit":
            return
        if self._loss is None:
            self._loss = _loss_in(pl_module)
        if not self.loss.attached:
            if pl_module.example_input_array is None:
                raise SearchError(
                    "Expected the loss to be attached, or the module to have an `example_input_array`: "
                    "call latency.attach(supernet, example_input) before trainer.fit."
                )
            self.loss.attach(pl_module, pl_module.example_input_array)
        if self._schedule is not None:
            self.loss.use_schedule(self._schedule)
        self._unlisted.reset()
        self._unlisted.find(self.loss, pl_module)
        self._step_at_last_update, self._terms_at_last_update = trainer.global_step, self.loss.n_terms
        self._step.restore(pl_module)
        if pl_module.automatic_optimization:
            self._step.wrap(pl_module, functools.partial(self._with_term, pl_module))
        elif not any(module is self.loss for module in pl_module.modules()):  # some modules' `==` is no comparison
            raise SearchError(
                f"Expected {type(pl_module).__name__}, which optimises by hand, to hold the loss and to call it: write "
                f"`self.latency = latency` in its __init__ and `loss = self.latency.combine(loss)` before "
                f"manual_backward."
            )

    def _with_term(self, pl_module: Any, step: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The output of a training step, plus the term unless the step has called the loss itself."""
        n_terms = self.loss.n_terms
        output = step(*args, **kwargs)
        if output is None or self.loss.n_terms != n_terms or not self._applies(pl_module, *args, **kwargs):
            return output
        return with_term(output, self.loss)

    def _applies(self, pl_module: Any, batch: Any = None, batch_idx: int = 0, *_: Any, **__: Any) -> bool:
        """Whether the term is added to this step."""
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
        """Give all ranks the same values of architecture parameters that the module does not list."""
        self._unlisted.share_values(trainer)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Log the summary."""
        if trainer.is_global_zero and self.history:
            logger.info("%s", self.summary())

    # --- while training

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Set scale and temperature for the epoch."""
        self.loss.anneal(trainer.current_epoch / max(1, _n_epochs(trainer) - 1))

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Average the gradients of architecture parameters that the module does not list; DDP leaves them out."""
        self._unlisted.find(self.loss, pl_module)
        self._unlisted.share_gradients(trainer)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """After an optimizer step with the term, update the multiplier, to the same value on all ranks."""
        stepped = trainer.global_step != self._step_at_last_update
        if not stepped or self.loss.n_terms == self._terms_at_last_update:
            return
        self._step_at_last_update, self._terms_at_last_update = trainer.global_step, self.loss.n_terms
        if self.loss.step() and trainer.world_size > 1:
            self.loss.load_state_dict(trainer.strategy.broadcast(self.loss.state_dict()))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Log the state of the search, and stop it if it is stable and on its target."""
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
        is_stable = architecture == self._architecture and self.loss.on_target(self.tolerance)
        self._stable, self._architecture = (self._stable + 1 if is_stable else 0), architecture
        if self.stop_after is not None and self._stable >= self.stop_after:
            logger.info("The architecture has been the same and on its target for %d epochs.", self._stable)
            trainer.should_stop = True

    def summary(self) -> str:
        """The architecture that was found, as text; see `LatencyTerm.summary`."""
        return self.loss.summary()

    # --- checkpoints

    def state_dict(self) -> dict[str, Any]:
        """The state that a resumed search needs."""
        return {
            "loss": self.loss.state_dict(),
            "fingerprint": self.loss.fingerprint(),
            "leaves": self._unlisted.state(),
            "history": list(self.history),
            "stable": self._stable,
            "architecture": dict(self._architecture),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume from a saved state.

        Raises:
            SearchError: if the loss has another table than the saved one, or the supernet has other parameters.
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
    """The number of epochs that the trainer will run, also if its limit is a number of steps."""
    if trainer.max_epochs >= 0 or trainer.max_steps < 0:
        return max(1, int(trainer.max_epochs))
    n_batches: int = trainer.max_steps * trainer.accumulate_grad_batches
    return ceil(n_batches / int(trainer.num_training_batches))


def _loss_in(pl_module: Any) -> LatencyLoss | Targets:
    """The only loss among the module's submodules."""
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
    imported = [name for name in _PACKAGES if sys.modules.get(name) is not None]
    for name in _PACKAGES:
        if imported:
            break
        try:
            importlib.import_module(name)
        except ImportError:
            continue
        imported = [name]
    if not imported:
        raise MissingExtraError("LatencyCallback needs Lightning: pip install 'latency-nas[lightning]'")
    return tuple(sys.modules[name].Callback for name in imported)


def __getattr__(name: str) -> Any:
    if name == "LatencyCallback":
        return _callback_class(_callback_bases())
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
