"""`ResourceCounter`: counts multiply-accumulates, parameters or bytes in the place of a `LatencyEstimator`."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Literal

from latency_nas.engine import Engine, get_engine
from latency_nas.errors import SearchError, TableError
from latency_nas.estimate.estimate import KernelEstimate
from latency_nas.estimate.estimator import LatencyEstimator
from latency_nas.kernel import DTYPES, QUANTITIES, Quantity, is_known, n_macs, n_params
from latency_nas.kernel.kernel_call import KernelCall
from latency_nas.table import Datasheet, LatencyTable

__all__ = ["RESOURCES", "Resource", "ResourceCounter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A resource of a network that can be counted.

    Args:
        quantity: Quantity that the counts are of.
        count: Function that gives the count of one call of a kernel; None where this does not follow from the kernel.
    """

    quantity: Quantity
    count: Callable[[KernelCall], int | None]


def _n_macs(call: KernelCall) -> int | None:
    return n_macs(call.kernel) if is_known(call.kernel) else None


def _n_params(call: KernelCall) -> int | None:
    """Parameters that no earlier call of the network reads; for a call that no reader made, its kernel's parameters."""
    if call.n_params is not None:
        return call.n_params
    return n_params(call.kernel) if is_known(call.kernel) else None


def _n_weight_bytes(call: KernelCall) -> int | None:
    n = _n_params(call)
    return None if n is None else DTYPES[call.kernel.dtype] * n


def _n_kept_bytes(call: KernelCall) -> int | None:
    """Bytes of weights and outputs; their sum over a network is its memory if nothing is freed, a bound of the peak."""
    n = _n_weight_bytes(call)
    return None if n is None else n + DTYPES[call.kernel.dtype] * sum(map(prod, call.kernel.outputs))


# name -> resource
RESOURCES: dict[str, Resource] = {
    "macs": Resource(quantity=QUANTITIES["MACs"], count=_n_macs),
    "params": Resource(quantity=QUANTITIES["parameters"], count=_n_params),
    "weight_bytes": Resource(quantity=QUANTITIES["bytes"], count=_n_weight_bytes),
    "kept_bytes": Resource(quantity=QUANTITIES["bytes"], count=_n_kept_bytes),
}


class ResourceCounter(LatencyEstimator):
    """Counts a resource instead of estimating a latency.

    ``LatencyLoss(ResourceCounter("params"), target=3e6)`` keeps a search at three million parameters.

    Parameters are those that the network reads. Each is counted once, however many layers share it, so for a torch
    module the count is the sum of ``p.numel()``. Running statistics and other buffers are not parameters. If only a
    part of a parameter is read, as in an elastic layer, only this part is counted. A shared parameter belongs to the
    first kernel that reads it; if candidates of different choices share it, the cost plan counts it once by terms of
    these choices. An ONNX or Paddle file does not say what was trained: `latency_nas.graph.onnx.reader` and
    `latency_nas.graph.paddle.reader` say which of its weights count.

    The multiply-accumulates of an op outside the vocabulary (`latency_nas.kernel.OPS`) are not known. It is missing, as
    a kernel that a table lacks.

    Args:
        resource: ``"macs"``, ``"params"``, ``"weight_bytes"`` or ``"kept_bytes"`` (weights and activations if nothing
            is freed: a rough upper bound of the peak memory, not the peak).
        engine: Engine whose fusion decides what the kernels are, or its name; the registry's default for None.
        on_missing: What to do with a kernel whose count is not known: ``"error"`` raises a `MissingKernelError`,
            ``"warn"`` leaves it out of the sum, with a warning.

    Raises:
        SearchError: if there is no such resource.
        TableError: if `on_missing` is neither.

    Example:
        >>> from torch import nn
        >>> str(ResourceCounter("params").predict(nn.Linear(8, 4), input_shape=(1, 8)))
        '36 params (3 kernels: 3 counted)'
    """

    def __init__(
        self, resource: str, *, engine: Engine | str | None = None, on_missing: Literal["error", "warn"] = "error"
    ) -> None:
        if resource not in RESOURCES:
            raise SearchError(f"Expected `resource` to be one of {', '.join(RESOURCES)}, but got {resource!r}.")
        if on_missing not in ("error", "warn"):
            raise TableError(f"Expected `on_missing` of a count to be error or warn, but got {on_missing!r}.")
        sheet = Datasheet(
            device="any",
            engine=get_engine(engine).title,
            method="imported",
            notes=f"counts of {resource}, no latencies",
            expected_error=0.0,
        )
        super().__init__(LatencyTable.of({}, sheet, name=resource), on_missing=on_missing)
        self.resource = resource
        self.quantity = RESOURCES[resource].quantity

    def price_key(self, call: KernelCall) -> Hashable:
        """The kernel and the count of the call."""
        return call.kernel, RESOURCES[self.resource].count(call)

    def _price(self, call: KernelCall) -> KernelEstimate:
        count = RESOURCES[self.resource].count(call)
        return KernelEstimate(
            kernel=call.kernel,
            layer=call.layer,
            value=float(count or 0),
            std=None if count is None else 0.0,
            source="missing" if count is None else "counted",
            quantity=self.quantity,
        )

    def _regress(self, missing: Mapping[Hashable, KernelEstimate]) -> dict[Hashable, KernelEstimate]:
        return {}

    def _priced_by(self) -> str:
        return f"known count of {self.resource}"

    def _way_out(self) -> str:
        return "Spell them by ops that are known, or pass on_missing='warn' to leave them out of the sum."
