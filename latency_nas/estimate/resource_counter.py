"""`ResourceCounter`: counts multiply-accumulates, parameters or bytes in the place of a `LatencyEstimator`."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from math import prod

from latency_nas.engine import Engine, get_engine
from latency_nas.errors import SearchError
from latency_nas.estimate.estimate import KernelEstimate
from latency_nas.estimate.estimator import LatencyEstimator
from latency_nas.kernel import DTYPES, QUANTITIES, Quantity, n_macs, n_params
from latency_nas.kernel.kernel_call import KernelCall
from latency_nas.table import Datasheet, LatencyTable

__all__ = ["RESOURCES", "Resource", "ResourceCounter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A resource of a network that can be counted.

    Args:
        quantity: Quantity that the counts are of.
        count: Function that gives the count of one call of a kernel.
    """

    quantity: Quantity
    count: Callable[[KernelCall], int]


def _n_params(call: KernelCall) -> int:
    """Parameters that no earlier call of the network reads; for a call that no reader made, its kernel's parameters."""
    return n_params(call.kernel) if call.n_params is None else call.n_params


def _n_weight_bytes(call: KernelCall) -> int:
    return DTYPES[call.kernel.dtype] * _n_params(call)


def _n_kept_bytes(call: KernelCall) -> int:
    """Bytes of weights and outputs; their sum over a network is its memory if nothing is freed, a bound of the peak."""
    return _n_weight_bytes(call) + DTYPES[call.kernel.dtype] * sum(map(prod, call.kernel.outputs))


# name -> resource
RESOURCES: dict[str, Resource] = {
    "macs": Resource(quantity=QUANTITIES["MACs"], count=lambda call: n_macs(call.kernel)),
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

    Args:
        resource: ``"macs"``, ``"params"``, ``"weight_bytes"`` or ``"kept_bytes"`` (weights and activations if nothing
            is freed: a rough upper bound of the peak memory, not the peak).
        engine: Engine whose fusion decides what the kernels are, or its name; the registry's default for None.

    Raises:
        SearchError: if there is no such resource.

    Example:
        >>> from torch import nn
        >>> str(ResourceCounter("params").predict(nn.Linear(8, 4), input_shape=(1, 8)))
        '36 params (3 kernels: 3 counted)'
    """

    def __init__(self, resource: str, *, engine: Engine | str | None = None) -> None:
        if resource not in RESOURCES:
            raise SearchError(f"Expected `resource` to be one of {', '.join(RESOURCES)}, but got {resource!r}.")
        sheet = Datasheet(
            device="any",
            engine=get_engine(engine).title,
            method="imported",
            notes=f"counts of {resource}, no latencies",
            expected_error=0.0,
        )
        super().__init__(LatencyTable.of({}, sheet, name=resource))
        self.resource = resource
        self.quantity = RESOURCES[resource].quantity

    def price_key(self, call: KernelCall) -> Hashable:
        """The kernel and the count of the call."""
        return call.kernel, RESOURCES[self.resource].count(call)

    def _price(self, call: KernelCall) -> KernelEstimate:
        count = float(RESOURCES[self.resource].count(call))
        return KernelEstimate(
            kernel=call.kernel, layer=call.layer, value=count, std=0.0, source="counted", quantity=self.quantity
        )
