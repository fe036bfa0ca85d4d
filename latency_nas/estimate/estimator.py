"""`LatencyEstimator`: from a model to an `Estimate` in milliseconds."""

from __future__ import annotations

import logging
import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from math import log1p
from operator import attrgetter
from typing import TYPE_CHECKING, Literal, get_args

from latency_nas.engine import Engine, fuse, get_engine
from latency_nas.engine.lowered import KernelSource, Lowered, Network, lower_kernels
from latency_nas.errors import GraphError, MissingKernelError, TableError
from latency_nas.estimate.estimate import Estimate, KernelEstimate
from latency_nas.estimate.uncertainty import MAE_TO_STD, Z90
from latency_nas.graph import OpGraph
from latency_nas.graph.input_shapes import InputShape
from latency_nas.kernel import LATENCY, Kernel, Quantity
from latency_nas.kernel.kernel_call import KernelCall
from latency_nas.table import Datasheet, Entry, LatencyTable, load_table

if TYPE_CHECKING:
    from torch import Tensor, nn

    from latency_nas.estimate.regressor.regressor import KernelRegressor

__all__ = ["LatencyEstimator", "OnMissing"]

logger = logging.getLogger(__name__)

OnMissing = Literal["error", "regress", "warn"]

_N_LISTED = 5


class LatencyEstimator:
    """Prices models by a table, and by a regressor fitted to it where the table has no row.

    Args:
        table: Table, or what `load_table` takes.
        on_missing: What to do with a kernel that the table lacks. ``"error"`` raises. ``"regress"`` prices it by the
            regressor, and raises where that is not possible. ``"warn"`` does the same, but leaves out of the sum what
            cannot be priced, with a warning; `Estimate.coverage` shows it. The default is ``"error"``; for a derived
            table, whose rows are estimates too, it is ``"regress"``. That a table is derived is logged once, with its
            expected error.

    Raises:
        UnknownTableError: if there is no such table.

    Example:
        >>> from latency_nas.kernel import Kernel
        >>> from latency_nas.table import Datasheet, Entry, LatencyTable
        >>> sheet = Datasheet(device="Example board", engine="MNN", method="measured")
        >>> relu = Kernel.of("relu", [(1, 8, 4, 4)], [(1, 8, 4, 4)])
        >>> estimator = LatencyEstimator(LatencyTable.of({relu: Entry(latency_ms=0.5)}, sheet))
        >>> from torch import nn
        >>> estimator.predict(nn.ReLU(), input_shape=(1, 8, 4, 4)).latency_ms
        0.5
    """

    quantity: Quantity = LATENCY

    def __init__(self, table: LatencyTable | str | os.PathLike[str], *, on_missing: OnMissing | None = None) -> None:
        if on_missing is not None and on_missing not in get_args(OnMissing):
            raise TableError(f"Expected `on_missing` to be error, regress or warn, but got {on_missing!r}.")
        self.table = table if isinstance(table, LatencyTable) else load_table(table)
        derived = self.table.datasheet.method == "derived"
        if derived:
            logger.warning("%s", _derived_message(self.table))
        if self.table.datasheet.emulated:
            logger.warning("%s was measured under emulation: its times are no device's.", self.table.name)
        self.on_missing: OnMissing = on_missing or ("regress" if derived else "error")

    @cached_property
    def regressor(self) -> KernelRegressor:
        """The regressor for kernels that the table lacks; imported and read when one is first missing."""
        from latency_nas.estimate.regressor.fit_cache import cache_folder
        from latency_nas.estimate.regressor.regressor import KernelRegressor

        return KernelRegressor(self.table, cache=cache_folder())

    def predict(
        self,
        model: nn.Module | OpGraph | str | os.PathLike[str] | bytes,
        example_input: Tensor | tuple[Tensor, ...] | None = None,
        *,
        input_shape: InputShape | None = None,
        kernels: KernelSource | None = "rules",
    ) -> Estimate:
        """The latency of a model or of its graph. Where values of inputs decide what runs, that of the dearest network.

        Args:
            model: Torch module, which is read without being run, and not changed; a graph without open choices; or
                what else `read_model` takes: a file of ONNX's or Paddle's, or ``package.module:callable``.
            example_input: Input that the forward of a torch module takes; None with a graph.
            input_shape: Shape of its one float input, such as ``(1, 3, 224, 224)``, instead of `example_input`; or of
                each input by name, as in `read_model`.
            kernels: Source of the kernels, as in `lower`.

        Raises:
            GraphError: if the model cannot be read, or a choice of a graph is open.
            InputMismatchError: if the input does not fit a layer.
            MissingKernelError: if kernels have no price, as `on_missing` says; the message lists them.
        """
        lowered = self.lower(model, example_input, input_shape=input_shape, kernels=kernels)
        return self.price_networks(lowered.networks)

    def lower(
        self,
        model: nn.Module | OpGraph | str | os.PathLike[str] | bytes,
        example_input: Tensor | tuple[Tensor, ...] | None = None,
        *,
        input_shape: InputShape | None = None,
        kernels: KernelSource | None = None,
    ) -> Lowered:
        """The kernels of a model on the table's engine, and where they come from.

        Args:
            model: Model, as in `predict`.
            example_input: Input of a torch module, as in `predict`.
            input_shape: Shape of the input, or of each input by name, as in `predict`.
            kernels: Source of the kernels. ``"rules"`` are the engine's rules. ``"engine"`` is the engine that is
                installed here, which takes model files only. None is the engine where it is of the table's version and
                can run the model, otherwise the rules; `Lowered.reason` says why.

        Raises:
            GraphError: if the model cannot be read, or the engine is asked for and cannot be.
            InputMismatchError: if the input does not fit a layer.
        """
        sheet = self.table.datasheet
        return lower_kernels(
            model, sheet.engine, example_input, target=sheet.target, engine_version=sheet.engine_version,
            input_shape=input_shape, kernels=kernels,
        )  # fmt: skip

    def fuse(self, graph: OpGraph) -> tuple[KernelCall, ...]:
        """Group the operators of a graph into the kernels that an engine runs, in order.

        The engine is the one that the table was measured with. Every choice of the graph must be decided.
        """
        return fuse(graph, self.table.datasheet.engine, self.table.datasheet.target)

    def price_networks(self, networks: Sequence[Network]) -> Estimate:
        """The latency of one network, or the dearest of those between which values of inputs decide.

        Raises:
            MissingKernelError: as `price`.
        """
        estimates = [self.price(calls) for _, calls in networks]
        dearest = max(estimates, key=attrgetter("value"))
        if len(estimates) == 1:
            return dearest
        names = dict.fromkeys(name for decisions, _ in networks for name in decisions)
        return replace(dearest, low=min(item.value for item in estimates), conditions=tuple(names))

    def price(self, calls: Sequence[KernelCall]) -> Estimate:
        """The latency of kernels that run one after the other.

        Raises:
            MissingKernelError: if kernels have no price, as `on_missing` says; the message lists them.
        """
        keys = [self.price_key(call) for call in calls]
        prices: dict[Hashable, KernelEstimate] = {}
        for key, call in zip(keys, calls, strict=True):
            if key not in prices:
                prices[key] = self._price(call)
        missing = {key: item for key, item in prices.items() if item.source == "missing"}
        if missing and self.on_missing != "error":
            prices |= self._regress(missing)
            missing = {key: item for key, item in prices.items() if item.source == "missing"}
        if missing:
            self._report_missing(list(missing.values()), len(prices))
        kernels = tuple([prices[key].at(call.layer) for key, call in zip(keys, calls, strict=True)])
        return Estimate(kernels=kernels, expected_error=_expected_error(self.table.datasheet), quantity=self.quantity)

    def price_key(self, call: KernelCall) -> Hashable:
        """A key for everything that a call's price depends on: calls with equal keys have the same price."""
        return call.kernel

    def _price(self, call: KernelCall) -> KernelEstimate:
        entry = self._row(call.kernel)
        if entry is None:
            return KernelEstimate(kernel=call.kernel, layer=call.layer, value=0.0, std=None, source="missing")
        return KernelEstimate(
            kernel=call.kernel, layer=call.layer, value=entry.latency_ms, std=entry.std_ms, source="table"
        )

    @cached_property
    def _engine(self) -> Engine | None:
        """The table's engine; None if its rules are not known."""
        try:
            return get_engine(self.table.datasheet.engine)
        except GraphError:
            return None

    def _row(self, kernel: Kernel) -> Entry | None:
        """The kernel's row, or that of a kernel for which the engine runs the same code."""
        same = self._engine.same_work(kernel) if self._engine and kernel not in self.table else ()
        return next(filter(None, map(self.table.get, (kernel, *same))), None)

    def _regress(self, missing: Mapping[Hashable, KernelEstimate]) -> dict[Hashable, KernelEstimate]:
        """Prices by the regressor, in one batch, without the kernels that it cannot price."""
        guesses = self.regressor.predict_many([item.kernel for item in missing.values()])
        return {
            key: replace(
                item, value=guess.latency_ms, std=guess.std_ms, source="regressed", extrapolated=guess.extrapolated
            )
            for (key, item), guess in zip(missing.items(), guesses, strict=True)
            if guess is not None
        }

    def _report_missing(self, missing: list[KernelEstimate], n_distinct: int) -> None:
        """Log or raise, as `on_missing` says, that kernels have no price."""
        listed = "; ".join(f"{item.kernel} ({_place(item.layer)})" for item in missing[:_N_LISTED])
        more = f"; and {len(missing) - _N_LISTED} more" if len(missing) > _N_LISTED else ""
        text = f"{len(missing)} of {n_distinct} different kernels have no {self._priced_by()}: {listed}{more}."
        if self.on_missing == "warn":
            logger.warning("%s They are left out of the sum.", text)
            return
        raise MissingKernelError(f"{text} {self._way_out()}")

    def _priced_by(self) -> str:
        return f"price in {self.table.name} ({self.table.datasheet})"

    def _way_out(self) -> str:
        regress = (
            ""
            if self.on_missing == "regress"
            else ", or pass on_missing='regress' to have them estimated from the table's rows"
        )
        return f"Measure them with latency_nas.measure_table(...){regress}."


def _expected_error(sheet: Datasheet) -> float | None:
    """The datasheet's expected error, or that of the normal distribution with its bound for 90 % of networks."""
    return sheet.expected_error if sheet.error_90 is None else log1p(sheet.error_90) / (Z90 * MAE_TO_STD)


def _derived_message(table: LatencyTable) -> str:
    sheet = table.datasheet
    error = (
        "its error is not known" if sheet.expected_error is None else f"expect an error of {sheet.expected_error:.1%}"
    )
    how = f" ({sheet.expected_error_method})" if sheet.expected_error_method else ""
    return (
        f"{table.name} is derived, not measured on {sheet.device}: {error}{how}. Calibrate it by a few networks timed "
        f"there (latency-nas calibrate), or measure a table of your own (latency_nas.measure_table)."
    )


def _place(layer: str) -> str:
    return f"layer `{layer}`" if layer else "in the model itself"
