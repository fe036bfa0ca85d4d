"""Penalties on the expected cost: what a search adds to its loss, or multiplies it by.

Throughout, LAT is the expected cost and T the target, both in milliseconds for a latency and else in the unit of what
is counted, and CE is the task's loss.
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
        """Refuse costs for which the formula breaks. By default there are none.

        Args:
            cheapest: Cost of the cheapest architecture.
            target: Cost to reach.
            quantity: Quantity that both are of.

        Raises:
            SearchError: if the formula breaks for them.
        """
        return


def linear(cost: Tensor, target: float) -> Tensor:
    """LAT / T - 1: less is always better.

    References:
        ProxylessNAS's code, ``add#linear``: CE + lambda (LAT - T) / T, lambda = 0.2 unless set (arXiv 1812.00332).
    """
    return cost / target - 1


def hinge(cost: Tensor, target: float) -> Tensor:
    """max(0, LAT / T - 1): nothing below the target."""
    return (cost / target - 1).clamp(min=0)


def absolute(cost: Tensor, target: float) -> Tensor:
    """abs(LAT / T - 1): the target from both sides.

    References:
        TuNAS, arXiv 2008.06120, the absolute reward: ACC + beta abs(LAT / T - 1) with beta < 0; here with the sign of
        a loss, so that -beta is the weight.
    """
    return (cost / target - 1).abs()


def log(cost: Tensor, target: float) -> Tensor:
    """The logarithm of LAT / T: as `linear`, in relative steps; with weight beta, that of LAT^beta up to a constant."""
    return (cost / target).log()


@dataclass(frozen=True, slots=True, kw_only=True)
class MnasNet:
    """-w log(LAT / T), w = `below` where LAT <= T and `above` elsewhere.

    MnasNet maximises the product ACC (LAT / T)^w. With the likelihood exp(-CE) in the place of ACC, the product's
    negative logarithm is CE - w log(LAT / T): a term to be added, with weight 1, and the same optimum.

    Args:
        below: w up to the target; -0.07 is the soft constraint, 0 the hard one.
        above: w beyond it; -0.07 is the soft constraint, -1 the hard one.

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
    """alpha log(LAT)^beta, a factor of CE. It knows no target: alpha and beta are tuned until it lands.

    The power is of the logarithm. Read as log(LAT^beta), the beta would only rescale: beta log(LAT).

    References:
        FBNet, arXiv 1812.03443, eq. 2, where LAT was given in microseconds; here, as everywhere, in milliseconds.
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

# name -> the penalty that is added, a function of the expected cost and the target
PENALTIES: dict[str, Penalty] = {
    "absolute": absolute,
    "hinge": hinge,
    "linear": linear,
    "log": log,
    "mnasnet-hard": MnasNet(below=0.0, above=-1.0),
    "mnasnet-soft": MnasNet(),
}

# name -> the factor that the task's loss is multiplied by
FACTORS: dict[str, Factor] = {"fbnet": FBNet(), "proxyless-log": ProxylessLog()}

_MISREADINGS = frozenset({"log(lat^beta)", "log(lat**beta)", "log(lat)^beta", "log-power"})


def named_penalty(name: str) -> Penalty | Factor | Constraint:
    """The penalty, factor or constraint of a name; constraints have a state, and each call makes a new one.

    Raises:
        SearchError: if there is none, or the name is read in two ways, as ``"log(LAT^beta)"``.
    """
    _refuse_misreading(name)
    if name in CONSTRAINTS:
        return CONSTRAINTS[name]()
    if name not in PENALTIES and name not in FACTORS:
        known = ", ".join([*PENALTIES, *FACTORS, *CONSTRAINTS])
        raise SearchError(f"Expected `penalty` to be one of {known}, but got {name!r}.")
    return PENALTIES[name] if name in PENALTIES else FACTORS[name]


def _refuse_misreading(name: str) -> None:
    """Refuse the names under which FBNet's factor is mistaken."""
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
