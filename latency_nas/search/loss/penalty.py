"""Penalties on the expected cost: what a search adds to its loss, or multiplies it by.

Throughout, LAT is the expected cost and T the target, both in milliseconds for a latency and else in the unit of what
is counted, and CE is the task's loss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log as log_of

from torch import Tensor

from latency_nas.errors import SearchError
from latency_nas.kernel import LATENCY, Quantity

__all__ = [
    "FACTORS",
    "PENALTIES",
    "FBNet",
    "MnasNet",
    "Penalty",
    "ProxylessLog",
    "absolute",
    "check_factor",
    "hinge",
    "linear",
    "log",
    "refuse_misreading",
]

Penalty = Callable[[Tensor, float], Tensor]


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
class FBNet:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxylessLog:
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
FACTORS: dict[str, FBNet | ProxylessLog] = {"fbnet": FBNet(), "proxyless-log": ProxylessLog()}

_MISREADINGS = frozenset({"log(lat^beta)", "log(lat**beta)", "log(lat)^beta", "log-power"})


def refuse_misreading(name: str) -> None:
    """Refuse the names under which FBNet's factor is mistaken.

    Raises:
        SearchError: for ``"log(LAT^beta)"`` and the like.
    """
    if name.lower().replace(" ", "") in _MISREADINGS:
        raise SearchError(
            f"Expected `penalty` to be one formula, but {name!r} is read in two ways. FBNet published the factor "
            f"alpha * log(LAT)^beta: penalty='fbnet', with latency.combine(task_loss). log(LAT^beta) is a misreading "
            f"of it and only beta * log(LAT): penalty='log', weight=beta."
        )


def check_factor(
    factor: FBNet | ProxylessLog, cheapest: float, target: float | None, quantity: Quantity = LATENCY
) -> None:
    """Refuse a factor where its formula breaks: from 1 down, log(LAT) is not positive.

    Args:
        factor: Factor of the task's loss.
        cheapest: Least cost that it will be given.
        target: Cost to reach.
        quantity: Quantity that both are of.

    Raises:
        SearchError: if the cost, or a target that is divided by, can be 1 or less.
    """
    least = cheapest if target is None or isinstance(factor, FBNet) else min(cheapest, target)
    if least <= 1:
        costs = "latencies" if quantity.is_latency else "costs"
        raise SearchError(
            f"Expected {costs} above 1 {quantity.unit}, since {type(factor).__name__}'s formula takes a power of "
            f"log(LAT), but got {quantity.rounded(least)} {quantity.unit} (the cheapest architecture or the target): "
            f"choose another penalty, or price a larger batch."
        )
