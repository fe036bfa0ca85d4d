"""`LatencyEstimator`: from a model to milliseconds, with how sure they are and where each came from."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import fsum, log1p, pi, sqrt
from typing import TYPE_CHECKING, Literal, get_args

from latency_nas.engine import fuse, read_kernels
from latency_nas.errors import MissingKernelError, TableError
from latency_nas.graph import OpGraph
from latency_nas.kernel import Kernel
from latency_nas.kernel.kernel_call import KernelCall
from latency_nas.table import Datasheet, LatencyTable, load_table

if TYPE_CHECKING:
    from torch import Tensor, nn

    from latency_nas.estimate.regressor.regressor import KernelRegressor

__all__ = ["Estimate", "KernelEstimate", "LatencyEstimator", "OnMissing", "Source"]

logger = logging.getLogger(__name__)

OnMissing = Literal["error", "regress", "warn"]
Source = Literal["table", "regressed", "missing"]

Z90 = 1.645  # 90 % of a normal distribution lies within so many standard deviations
_MAE_TO_STD = sqrt(pi / 2)  # of a normal distribution
_N_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelEstimate:
    """The price of one kernel of a network.

    Args:
        kernel: what runs.
        layer: the module it belongs to.
        latency_ms: its price; 0 where the source is ``"missing"``, and then it is not in the total.
        std_ms: one standard deviation of it; None where the table has none.
        source: ``"table"``, ``"regressed"`` or ``"missing"``.
        extrapolated: whether a regressed kernel lies outside what the table covers.
    """

    kernel: Kernel
    layer: str
    latency_ms: float
    std_ms: float | None
    source: Source
    extrapolated: bool = False

    def at(self, layer: str) -> KernelEstimate:
        """The same kernel in another layer."""
        return KernelEstimate(
            kernel=self.kernel, layer=layer, latency_ms=self.latency_ms, std_ms=self.std_ms, source=self.source,
            extrapolated=self.extrapolated,
        )  # fmt: skip


def plus_minus(std_ms: float | None, digits: int = 3) -> str:
    """A standard deviation as text, ``± 0.123 ms`` or ``± unknown``."""
    return "± unknown" if std_ms is None else f"± {std_ms:.{digits}f} ms"


def figure(latency_ms: float, std_ms: float | None) -> str:
    """A latency as text, ``0.304 ± 0.002 ms`` or ``0.304 ms ± unknown``."""
    unit = " ms" if std_ms is None else ""
    return f"{latency_ms:.3f}{unit} {plus_minus(std_ms)}"


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The latency of one network, and what it is made of.

    Args:
        kernels: the price of each kernel, in the order in which they run.
        expected_error: the mean absolute relative error of the table's whole-network predictions; where the table says
            what 90 % keep within, that of the normal distribution of which 90 % do. None where neither is known.
    """

    kernels: tuple[KernelEstimate, ...]
    expected_error: float | None = None

    @cached_property
    def latency_ms(self) -> float:
        """The sum over kernels, in milliseconds."""
        return fsum(item.latency_ms for item in self.kernels)

    @cached_property
    def std_ms(self) -> float | None:
        """One standard deviation of `latency_ms`; None where the table says neither its error nor its kernels'.

        Kernels from the table err as the table's whole networks do (sqrt(pi/2) x expected error x their sum) where
        that error is known, else each on its own. Regressed kernels that are the same err together, unlike ones on
        their own.
        """
        table = [item for item in self.kernels if item.source == "table"]
        if self.expected_error is not None:
            variance = (_MAE_TO_STD * self.expected_error * fsum(item.latency_ms for item in table)) ** 2
        elif all(item.std_ms is not None for item in table):
            variance = fsum((item.std_ms or 0.0) ** 2 for item in table)
        else:
            return None
        together: dict[Kernel, float] = defaultdict(float)
        for item in self.kernels:
            if item.source == "regressed":
                together[item.kernel] += item.std_ms or 0.0
        return sqrt(variance + fsum(std_ms**2 for std_ms in together.values()))

    @property
    def coverage(self) -> float:
        """The share of the kernels that the table itself holds, from 0 to 1."""
        return self.sources["table"] / len(self.kernels) if self.kernels else 1.0

    @property
    def sources(self) -> dict[Source, int]:
        """How many kernels came from where."""
        return {source: sum(item.source == source for item in self.kernels) for source in get_args(Source)}

    def breakdown(self) -> dict[str, tuple[KernelEstimate, ...]]:
        """The kernels by the module they belong to, in the order in which these run; they sum to `latency_ms`."""
        layers: dict[str, list[KernelEstimate]] = defaultdict(list)
        for item in self.kernels:
            layers[item.layer].append(item)
        return {layer: tuple(items) for layer, items in layers.items()}

    def plus_minus(self, digits: int = 3) -> str:
        """The standard deviation as text, ``± 0.123 ms`` or ``± unknown``."""
        return plus_minus(self.std_ms, digits)

    def figure(self) -> str:
        """The latency as text, ``0.304 ± 0.002 ms`` or ``0.304 ms ± unknown``."""
        return figure(self.latency_ms, self.std_ms)

    def __str__(self) -> str:
        sources = ", ".join(f"{n} {source}" for source, n in self.sources.items() if n)
        return f"{self.figure()} ({len(self.kernels)} kernels: {sources or 'none'})"


class LatencyEstimator:
    """Prices models by a table, and by a regressor fitted to it where the table has no row.

    Args:
        table: a table, or what `load_table` takes.
        on_missing: of a kernel that the table lacks: ``"error"`` raises; ``"regress"`` prices it by the regressor,
            and raises where that cannot; ``"warn"`` does the same, but leaves what nothing can price out of the sum,
            with a warning, and `Estimate.coverage` shows it. By default ``"error"``, and ``"regress"`` of a derived
            table, whose rows are estimates too; that the table is derived is logged once, with the error to expect.

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

    def __init__(self, table: LatencyTable | str, *, on_missing: OnMissing | None = None) -> None:
        if on_missing is not None and on_missing not in get_args(OnMissing):
            raise TableError(f"Expected `on_missing` to be error, regress or warn, but got {on_missing!r}.")
        self.table = table if isinstance(table, LatencyTable) else load_table(table)
        derived = self.table.datasheet.method == "derived"
        if derived:
            logger.warning("%s", _derived(self.table))
        if self.table.datasheet.emulated:
            logger.warning("%s was measured under emulation: its times are no device's.", self.table.name)
        self.on_missing: OnMissing = on_missing or ("regress" if derived else "error")

    @cached_property
    def _regressor(self) -> KernelRegressor:
        # scikit-learn, only where a kernel is missing
        from latency_nas.estimate.regressor.fit_cache import cache_folder
        from latency_nas.estimate.regressor.regressor import KernelRegressor

        return KernelRegressor(self.table, cache=cache_folder())

    def predict(
        self,
        model: nn.Module | str | os.PathLike[str] | bytes,
        example_input: Tensor | tuple[Tensor, ...] | None = None,
        *,
        input_shape: Sequence[int] | None = None,
    ) -> Estimate:
        """The latency of a model.

        Args:
            model: a torch module, which is read without being run, and not changed; or what else `read_model` takes: a
                file of ONNX's or Paddle's, or ``package.module:callable``.
            example_input: what the forward of a torch module takes.
            input_shape: instead of `example_input`, the shape of its one float input, such as ``(1, 3, 224, 224)``.

        Raises:
            GraphError: if the model cannot be read.
            InputMismatchError: if the input does not fit a layer.
            MissingKernelError: if kernels have no price, as `on_missing` says; the message lists them.
        """
        sheet = self.table.datasheet
        calls = read_kernels(model, sheet.engine, example_input, target=sheet.target, input_shape=input_shape)
        return self.price(calls)

    def predict_graph(self, graph: OpGraph) -> Estimate:
        """The latency of a graph without open choices."""
        return self.price(self.fuse(graph))

    def fuse(self, graph: OpGraph) -> tuple[KernelCall, ...]:
        """The kernels that the table's engine runs for a graph, in order."""
        return fuse(graph, self.table.datasheet.engine, self.table.datasheet.target)

    def price(self, calls: Sequence[KernelCall]) -> Estimate:
        """The latency of kernels that run one after the other."""
        prices: dict[Kernel, KernelEstimate] = {}
        for call in calls:
            if call.kernel not in prices:
                prices[call.kernel] = self._price(call)
        missing = [item for item in prices.values() if item.source == "missing"]
        if missing and self.on_missing != "error":
            prices |= self._regress(missing)
            missing = [item for item in prices.values() if item.source == "missing"]
        if missing:
            self._complain(missing, len(prices))
        kernels = tuple([prices[call.kernel].at(call.layer) for call in calls])
        return Estimate(kernels=kernels, expected_error=_expected_error(self.table.datasheet))

    def _price(self, call: KernelCall) -> KernelEstimate:
        entry = self.table.get(call.kernel)
        if entry is None:
            return KernelEstimate(kernel=call.kernel, layer=call.layer, latency_ms=0.0, std_ms=None, source="missing")
        return KernelEstimate(
            kernel=call.kernel, layer=call.layer, latency_ms=entry.latency_ms, std_ms=entry.std_ms, source="table"
        )

    def _regress(self, missing: Sequence[KernelEstimate]) -> dict[Kernel, KernelEstimate]:
        """All of them in one batch; what the regressor cannot price is left out."""
        guesses = self._regressor.predict_many([item.kernel for item in missing])
        return {
            item.kernel: replace(
                item, latency_ms=guess.latency_ms, std_ms=guess.std_ms, source="regressed",
                extrapolated=guess.extrapolated,
            )
            for item, guess in zip(missing, guesses, strict=True)
            if guess is not None
        }  # fmt: skip

    def _complain(self, missing: list[KernelEstimate], n_distinct: int) -> None:
        shown = "; ".join(f"{item.kernel} ({_where(item.layer)})" for item in missing[:_N_SHOWN])
        more = f"; and {len(missing) - _N_SHOWN} more" if len(missing) > _N_SHOWN else ""
        text = (
            f"{len(missing)} of {n_distinct} different kernels have no price in {self.table.name} "
            f"({self.table.datasheet}): {shown}{more}."
        )
        if self.on_missing == "warn":
            logger.warning("%s They are left out of the sum.", text)
            return
        regress = (
            ""
            if self.on_missing == "regress"
            else ", or pass on_missing='regress' to have them estimated from the table's rows"
        )
        raise MissingKernelError(f"{text} Measure them with latency_nas.measure_table(...){regress}.")


def _expected_error(sheet: Datasheet) -> float | None:
    return sheet.expected_error if sheet.error_90 is None else log1p(sheet.error_90) / (Z90 * _MAE_TO_STD)


def _derived(table: LatencyTable) -> str:
    sheet = table.datasheet
    error = (
        "its error is not known" if sheet.expected_error is None else f"expect an error of {sheet.expected_error:.1%}"
    )
    how = f" ({sheet.expected_error_method})" if sheet.expected_error_method else ""
    return (
        f"{table.name} is derived, not measured on {sheet.device}: {error}{how}. Calibrate it by a few networks timed "
        f"there (latency-nas calibrate), or measure a table of your own (latency_nas.measure_table)."
    )


def _where(layer: str) -> str:
    return f"layer `{layer}`" if layer else "in the model itself"
