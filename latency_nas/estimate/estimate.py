"""`Estimate`: the cost of one network, its standard deviation, and the kernels that it is made of."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from math import fsum, sqrt
from typing import Literal, Protocol

import numpy as np

from latency_nas.estimate.uncertainty import family_of, network_variance
from latency_nas.kernel import LATENCY, Kernel, Quantity

__all__ = ["Estimate", "KernelEstimate", "Source"]

Source = Literal["table", "counted", "regressed", "missing"]

_OF_A_TABLE: tuple[Source, ...] = ("table", "regressed", "missing")
_OF_A_COUNT: tuple[Source, ...] = ("counted", "missing")


class _Cost(Protocol):
    """An object with a value and a standard deviation of some quantity."""

    @property
    def value(self) -> float: ...
    @property
    def std(self) -> float | None: ...
    @property
    def quantity(self) -> Quantity: ...


class _InMilliseconds:
    """Properties in milliseconds, for costs that may be of any quantity."""

    __slots__ = ()

    @property
    def latency_ms(self: _Cost) -> float:
        """The value in milliseconds, if the quantity is a latency.

        Raises:
            QuantityError: for any other quantity.
        """
        self.quantity.check_latency("latency_ms", "value")
        return self.value

    @property
    def std_ms(self: _Cost) -> float | None:
        """The standard deviation in milliseconds, if the quantity is a latency.

        Raises:
            QuantityError: for any other quantity.
        """
        self.quantity.check_latency("std_ms", "std")
        return self.std


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelEstimate(_InMilliseconds):
    """The price of one kernel of a network.

    Args:
        kernel: Kernel that runs.
        layer: Module that it belongs to.
        value: Price, in the unit of `quantity`; 0 where the source is ``"missing"``, and then it is not in the total.
        std: Standard deviation of the price; None where the table has none.
        source: Source of the price: ``"table"``, ``"counted"`` (by a formula, exactly), ``"regressed"`` or
            ``"missing"``.
        extrapolated: Whether a regressed kernel lies outside the range of the table's rows.
        quantity: Quantity that the price is of.
    """

    kernel: Kernel
    layer: str
    value: float
    std: float | None
    source: Source
    extrapolated: bool = False
    quantity: Quantity = LATENCY

    def at(self, layer: str) -> KernelEstimate:
        """The same kernel in another layer."""
        return KernelEstimate(
            kernel=self.kernel, layer=layer, value=self.value, std=self.std, source=self.source,
            extrapolated=self.extrapolated, quantity=self.quantity,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Estimate(_InMilliseconds):
    """The cost of one network, by default its latency, with the prices of its kernels.

    Args:
        kernels: Price of each kernel, in the order in which they run.
        expected_error: Mean absolute relative error of the table's predictions of whole networks. Where the table gives
            a bound for 90 % of them instead, that of the normal distribution with this bound; None without either.
        quantity: Quantity that the cost is of.
        low: Cost of the cheapest network that can run, where values of inputs decide which one does. The kernels are
            those of the dearest. None where there is one network.
        conditions: Names of the branches that these values decide.

    Example:
        >>> relu = KernelEstimate(
        ...     kernel=Kernel.of("relu", [(1, 8)], [(1, 8)]), layer="head.act", value=0.5, std=None, source="table"
        ... )
        >>> estimate = Estimate(kernels=(relu, relu), expected_error=0.02)
        >>> print(estimate)
        1.000 ± 0.025 ms (2 kernels: 2 table)
        >>> estimate.latency_ms, estimate.coverage, list(estimate.breakdown())
        (1.0, 1.0, ['head.act'])
    """

    kernels: tuple[KernelEstimate, ...]
    expected_error: float | None = None
    quantity: Quantity = LATENCY
    low: float | None = None
    conditions: tuple[str, ...] = ()

    @property
    def high(self) -> float:
        """The cost of the dearest network that can run: `value`."""
        return self.value

    @cached_property
    def value(self) -> float:
        """The sum over kernels, in the unit of `quantity`."""
        return fsum(item.value for item in self.kernels)

    @cached_property
    def std(self) -> float | None:
        """Standard deviation of `value`; None where the table has neither its own error nor its kernels'.

        The model is that of `latency_nas.estimate.uncertainty`.
        """
        table = [item for item in self.kernels if item.source == "table"]
        own = [] if self.expected_error is not None else table
        if any(item.std is None for item in own):
            return None
        together: dict[str, float] = defaultdict(float)
        for item in self.kernels:
            if item.source == "regressed":
                together[family_of(item.kernel)] += item.std or 0.0
        variance = network_variance(
            fsum(item.value for item in table), fsum((item.std or 0.0) ** 2 for item in own),
            np.array(list(together.values())), self.expected_error,
        )  # fmt: skip
        return sqrt(variance)

    @property
    def coverage(self) -> float:
        """The share of the kernels that were priced by a row of the table, or counted, from 0 to 1."""
        n_sure = sum(item.source in ("table", "counted") for item in self.kernels)
        return n_sure / len(self.kernels) if self.kernels else 1.0

    @property
    def sources(self) -> dict[Source, int]:
        """Number of kernels of each source; a resource that is counted has ``"counted"``, and ``"missing"`` if any."""
        found = {item.source for item in self.kernels}
        listed = _OF_A_COUNT[: len(found)] if "counted" in found else _OF_A_TABLE
        return {source: sum(item.source == source for item in self.kernels) for source in listed}

    def breakdown(self) -> dict[str, tuple[KernelEstimate, ...]]:
        """The kernels of each module, in the order in which the modules run; they sum to `value`."""
        layers: dict[str, list[KernelEstimate]] = defaultdict(list)
        for item in self.kernels:
            layers[item.layer].append(item)
        return {layer: tuple(items) for layer, items in layers.items()}

    def plus_minus(self, n_decimals: int | None = None) -> str:
        """The standard deviation as text, ``± 0.123 ms`` or ``± unknown``."""
        return self.quantity.plus_minus(self.std, n_decimals)

    def figure(self) -> str:
        """The cost as text: ``0.304 ± 0.002 ms``, ``0.304 ms ± unknown``, ``7,978,856 params``.

        Where values of inputs decide what runs, the cost of the cheapest network and what is decided follow.
        """
        figure = self.quantity.figure(self.value, self.std)
        if self.low is None:
            return figure
        low = f"{self.quantity.number(self.low)} {self.quantity.unit}"
        return f"{figure}, down to {low} by the condition of {', '.join(self.conditions)}"

    def __str__(self) -> str:
        sources = ", ".join(f"{n} {source}" for source, n in self.sources.items() if n)
        return f"{self.figure()} ({len(self.kernels)} kernels: {sources or 'none'})"
