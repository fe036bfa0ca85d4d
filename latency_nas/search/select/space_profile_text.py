"""A space at a glance as text: the costs, a histogram of the first one, and the shares within the budgets."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from latency_nas.search.select.distribution import Distribution

if TYPE_CHECKING:
    from latency_nas.search.select.space_profile import Share, SpaceProfile

__all__ = ["profile_text"]

_QUANTILES = (0.05, 0.5, 0.95)
_BINS, _BAR = 16, 40  # intervals of the histogram, characters of its longest bar


def profile_text(profile: SpaceProfile) -> str:
    """The profile as text of several lines.

    Args:
        profile: Profile of a space.
    """
    budgets = [f"{budget}: {_share(share)}" for budget, share in profile.budgets]
    if len(budgets) > 1 and profile.together is not None:
        budgets.append(f"all of them: {_share(profile.together)}")
    if profile.example is not None:
        budgets.append(f"can be met, for example by {dict(profile.example)}")
    elif budgets:
        budgets.append("cannot be met: no architecture keeps " + ("it" if len(budgets) == 1 else "all of them"))
    first = profile.distributions[0]
    parts = [
        [f"{_count(profile.n_architectures)} architectures"],
        _costs(profile.distributions),
        [f"{first.quantity.name}, {_method(first)}:", *_histogram(first)],
        budgets,
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def _count(n: int) -> str:
    return f"{n:,}" if n < 10**9 else f"{Decimal(n):.2e}".replace("e+", "e")


def _costs(distributions: tuple[Distribution, ...]) -> list[str]:
    """A line for each cost, in columns."""
    lines = [["", "cheapest", *("median" if q == 0.5 else f"{q:.0%}" for q in _QUANTILES), "dearest"]]
    for item in distributions:
        costs = (item.cheapest, *map(item.quantile, _QUANTILES), item.dearest)
        lines.append([f"{item.quantity.name} ({item.quantity.unit})", *map(item.quantity.rounded, costs)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]


def _method(distribution: Distribution) -> str:
    error = f"cumulative shares err by at most {_percent(distribution.cdf_error)}"
    if distribution.method == "exact":
        return "exactly"
    if distribution.method == "grid":
        return f"on a grid of {len(distribution.costs):,} costs ({error})"
    return f"of {distribution.n_samples:,} random architectures ({error}, at a confidence of 99 %)"


def _histogram(distribution: Distribution) -> list[str]:
    if distribution.cheapest == distribution.dearest:
        return [f"{distribution.quantity.rounded(distribution.cheapest)}  100 %"]
    edges, shares = distribution.histogram(_BINS)
    texts = [distribution.quantity.rounded(edge) for edge in edges]
    width = max(map(len, texts))
    lines = []
    for low, high, share in zip(texts, texts[1:], shares, strict=False):
        bar = "#" * round(_BAR * share / shares.max())
        lines.append(f"{low.rjust(width)} to {high.rjust(width)}  {_percent(share):>10}  {bar}".rstrip())
    return lines


def _share(share: Share) -> str:
    value = f"{_percent(share.value)} of the architectures"
    if share.method == "exact":
        return value
    if share.method == "grid":
        return f"{value} ({_percent(share.low)} to {_percent(share.high)})"
    return f"{value} (± {_percent(share.standard_error)}, sampled)"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
