"""`ResourceCounter`: in the place of an estimator, counts multiply-accumulates, parameters or bytes."""

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
    """What can be counted of a network.

    Args:
        quantity: Quantity that the counts are of.
        count: Function that gives what one call of a kernel adds.
    """

    quantity: Quantity
    count: Callable[[KernelCall], int]


def _n_params(call: KernelCall) -> int:
    """Parameters that the call is the first of its network to read; of a call that no reader made, its kernel's."""
    return n_params(call.kernel) if call.n_params is None else call.n_params


def _n_weight_bytes(call: KernelCall) -> int:
    return DTYPES[call.kernel.dtype] * _n_params(call)


def _n_kept_bytes(call: KernelCall) -> int:
    """Weights and outputs: their sum over a network is what it holds if nothing is freed, a bound of its peak."""
    return _n_weight_bytes(call) + DTYPES[call.kernel.dtype] * sum(map(prod, call.kernel.outputs))


# name -> what is counted
RESOURCES: dict[str, Resource] = {
    "macs": Resource(quantity=QUANTITIES["MACs"], count=lambda call: n_macs(call.kernel)),
    "params": Resource(quantity=QUANTITIES["parameters"], count=_n_params),
    "weight_bytes": Resource(quantity=QUANTITIES["bytes"], count=_n_weight_bytes),
    "kept_bytes": Resource(quantity=QUANTITIES["bytes"], count=_n_kept_bytes),
}


class ResourceCounter(LatencyEstimator):
    """Counts a resource instead of estimating a latency.

    ``LatencyLoss(ResourceCounter("params"), target=3e6)`` keeps a search at three million parameters.

    Parameters are those that the network reads, each counted once however many layers share it: of a torch module the
    sum of ``p.numel()``. Running statistics and other buffers are none. Of a parameter of which only a part is read,
    such as the weight of an elastic layer, the part counts. Shared parameters belong to the first kernel that reads
    them; in a plan, a parameter that candidates of different choices share is counted once by terms of these choices.
    Of an ONNX or Paddle file, whose training framework is not known, its weights count; see
    `latency_nas.graph.onnx.reader` and `latency_nas.graph.paddle.reader` for what they are.

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
        """The kernel, and what its call adds."""
        return call.kernel, RESOURCES[self.resource].count(call)

    def _price(self, call: KernelCall) -> KernelEstimate:
        count = float(RESOURCES[self.resource].count(call))
        return KernelEstimate(
            kernel=call.kernel, layer=call.layer, value=count, std=0.0, source="counted", quantity=self.quantity
        )
