"""Penalties on the expected cost: terms that a search adds to its loss, and factors that it multiplies it by.

Throughout, CE is the task's loss, LAT the expected cost and T the target. LAT and T are in milliseconds for a latency,
and in the unit of what is counted otherwise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import log as log_of

from torch import Tensor

from latency_nas.errors import SearchError
from latency_nas.kernel import Quantity
from latency_nas.search.loss.constraint import CONSTRAINTS, Constraint

__all__ = [
    "FACTORS",
    "PENALTIES",
    "AnyPenalty",
    "FBNet",
    "Factor",
    "MnasNet",
    "Penalty",
    "ProxylessLog",
    "absolute",
    "hinge",
    "linear",
    "log",
    "named_penalty",
]

Penalty = Callable[[Tensor, float], Tensor]


class Factor(ABC):
    """A penalty that multiplies the task's loss instead of being added to it; see `LatencyLoss.combine`."""

    @abstractmethod
    def __call__(self, cost: Tensor, target: float | None) -> Tensor:
        """The factor, of shape ``()``.

        Args:
            cost: Expected cost, a float64 scalar.
            target: Cost to reach; None where the loss has no target.
        """

    def check(self, cheapest: float, target: float | None, quantity: Quantity) -> None:
        """Refuse costs for which the formula is undefined. By default it accepts all.

        Args:
            cheapest: Cost of the cheapest architecture.
            target: Cost to reach.
            quantity: Quantity that both are of.

        Raises:
            SearchError: if the formula is undefined for them.
        """
        return


def linear(cost: Tensor, target: float) -> Tensor:
    """LAT / T - 1: a lower cost is always better.

    References:
        ProxylessNAS's code, ``add#linear``: CE + lambda (LAT - T) / T, by default lambda = 0.2 (arXiv 1812.00332).
    """
    return cost / target - 1


def hinge(cost: Tensor, target: float) -> Tensor:
    """max(0, LAT / T - 1): no penalty below the target."""
    return (cost / target - 1).clamp(min=0)


def absolute(cost: Tensor, target: float) -> Tensor:
    """abs(LAT / T - 1): a penalty on both sides of the target.

    References:
        TuNAS, arXiv 2008.06120, the absolute reward ACC + beta abs(LAT / T - 1) with beta < 0. Here the sign is that of
        a loss, and -beta is the weight.
    """
    return (cost / target - 1).abs()


def log(cost: Tensor, target: float) -> Tensor:
    """The logarithm of LAT / T: equal ratios, equal differences. With weight beta: beta log LAT, up to a constant."""
    return (cost / target).log()


@dataclass(frozen=True, slots=True, kw_only=True)
class MnasNet:
    """-w log(LAT / T), w = `below` where LAT <= T and `above` elsewhere.

    MnasNet maximises the product ACC (LAT / T)^w. With the likelihood exp(-CE) instead of ACC, the negative logarithm
    of the product is CE - w log(LAT / T). So this term, added with weight 1, has the same optimum.

    Args:
        below: Exponent w up to the target; -0.07 is the soft constraint, 0 the hard one.
        above: Exponent w above the target; -0.07 is the soft constraint, -1 the hard one.

    References:
        MnasNet, arXiv 1807.11626, eq. 2 and the two settings of its w.
    """

    below: float = -0.07
    above: float = -0.07

    def __call__(self, cost: Tensor, target: float) -> Tensor:
        """The term."""
        ratio = (cost / target).log()
        return -self.below * ratio.clamp(max=0) - self.above * ratio.clamp(min=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class FBNet(Factor):
    """alpha log(LAT)^beta, a factor of CE. It has no target: alpha and beta are tuned until the latency is as wanted.

    The power is that of the logarithm. Read as log(LAT^beta), it would be beta log(LAT), and beta only a scale.

    References:
        FBNet, arXiv 1812.03443, eq. 2, with LAT in microseconds. Here, as everywhere, it is in milliseconds.
    """

    alpha: float = 0.2
    beta: float = 0.6

    def __call__(self, cost: Tensor, target: float | None) -> Tensor:
        """The factor."""
        factor: Tensor = self.alpha * cost.log() ** self.beta
        return factor

    def check(self, cheapest: float, target: float | None, quantity: Quantity) -> None:
        """Refuse costs of 1 or less, whose logarithm is not positive."""
        _check_logarithm(type(self).__name__, cheapest, quantity)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxylessLog(Factor):
    """alpha (log LAT / log T)^beta, a factor of CE.

    References:
        ProxylessNAS's code, ``mul#log``, with its defaults (arXiv 1812.00332).
    """

    alpha: float = 1.0
    beta: float = 0.6

    def __call__(self, cost: Tensor, target: float | None) -> Tensor:
        """The factor."""
        if target is None:
            raise SearchError("Expected a target, which `proxyless-log` divides by, but `target_ms` is None.")
        factor: Tensor = self.alpha * (cost.log() / log_of(target)) ** self.beta
        return factor

    def check(self, cheapest: float, target: float | None, quantity: Quantity) -> None:
        """Refuse costs and targets of 1 or less, whose logarithm is not positive."""
        _check_logarithm(type(self).__name__, cheapest if target is None else min(cheapest, target), quantity)


AnyPenalty = str | Penalty | Factor | Constraint

# name -> penalty that is added to the task's loss, a function of the expected cost and the target
PENALTIES: dict[str, Penalty] = {
    "absolute": absolute,
    "hinge": hinge,
    "linear": linear,
    "log": log,
    "mnasnet-hard": MnasNet(below=0.0, above=-1.0),
    "mnasnet-soft": MnasNet(),
}

# name -> factor that the task's loss is multiplied by
FACTORS: dict[str, Factor] = {"fbnet": FBNet(), "proxyless-log": ProxylessLog()}

_MISREADINGS = frozenset({"log(lat^beta)", "log(lat**beta)", "log(lat)^beta", "log-power"})


def named_penalty(name: str) -> Penalty | Factor | Constraint:
    """The penalty, factor or constraint of a name. Constraints have a state, so each call makes a new one.

    Raises:
        SearchError: if there is none, or the name can be read in two ways, as ``"log(LAT^beta)"``.
    """
    _refuse_misreading(name)
    if name in CONSTRAINTS:
        return CONSTRAINTS[name]()
    if name not in PENALTIES and name not in FACTORS:
        known = ", ".join([*PENALTIES, *FACTORS, *CONSTRAINTS])
        raise SearchError(f"Expected `penalty` to be one of {known}, but got {name!r}.")
    return PENALTIES[name] if name in PENALTIES else FACTORS[name]


def _refuse_misreading(name: str) -> None:
    """Refuse names that are misreadings of FBNet's factor."""
    if name.lower().replace(" ", "") in _MISREADINGS:
        raise SearchError(
            f"Expected `penalty` to be one formula, but {name!r} is read in two ways. FBNet published the factor "
            f"alpha * log(LAT)^beta: penalty='fbnet', with latency.combine(task_loss). log(LAT^beta) is a misreading "
            f"of it and only beta * log(LAT): penalty='log', weight=beta."
        )


def _check_logarithm(name: str, smallest: float, quantity: Quantity) -> None:
    """Refuse a factor that takes a power of log(LAT) where that is not positive."""
    if smallest <= 1:
        costs = "latencies" if quantity.is_latency else "costs"
        raise SearchError(
            f"Expected {costs} above 1 {quantity.unit}, since {name}'s formula takes a power of log(LAT), but got "
            f"{quantity.rounded(smallest)} {quantity.unit} (the cheapest architecture or the target): choose another "
            f"penalty, or price a larger batch."
        )
