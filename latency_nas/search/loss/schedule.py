"""`Schedule`: the weight and the temperature of a latency term over the course of a search."""

from __future__ import annotations

from dataclasses import dataclass

from latency_nas.errors import SearchError

__all__ = ["Schedule"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Weight and temperature as functions of a search's progress, from 0 to 1.

    The term is multiplied by a scale: 0 up to `warm_up`, while weights are trained; then it rises linearly to 1 over
    `ramp`; and then it goes geometrically to `final_scale` at the end. The temperature goes geometrically from its
    first value to `final_temperature` over the whole search. Over the last share `discretization`, the parameters are
    also drawn, ever more strongly, to the most probable architecture on the target
    (`latency_nas.search.loss.discretization_term`).

    Args:
        warm_up: Share of the search without the term.
        ramp: Share of the search over which the term rises.
        final_scale: Scale of the term at the end.
        final_temperature: Temperature at the end; None for a constant one.
        discretization: Share of the search, at its end, over which the parameters are drawn to one architecture.

    Raises:
        SearchError: if an argument is out of range.

    Example:
        >>> schedule = Schedule(warm_up=0.2, ramp=0.4, final_temperature=0.1)
        >>> [schedule.scale_at(progress) for progress in (0.1, 0.4, 0.8)]
        [0.0, 0.5, 1.0]
        >>> round(schedule.temperature_at(0.5, 10.0), 9)
        1.0
        >>> [Schedule(discretization=0.5).strength_at(progress) for progress in (0.5, 0.75, 1.0)]
        [0.0, 0.5, 1.0]
    """

    warm_up: float = 0.0
    ramp: float = 0.0
    final_scale: float = 1.0
    final_temperature: float | None = None
    discretization: float = 0.0

    def __post_init__(self) -> None:
        if not (self.warm_up >= 0 and self.ramp >= 0 and self.warm_up + self.ramp <= 1):
            raise SearchError(
                f"Expected `warm_up` and `ramp` to be shares of the search, not above 1 together, but got "
                f"{self.warm_up} and {self.ramp}."
            )
        if not self.final_scale > 0:
            raise SearchError(f"Expected `final_scale` to be a positive number, but got {self.final_scale}.")
        if self.final_temperature is not None and not self.final_temperature > 0:
            raise SearchError(
                f"Expected `final_temperature` to be a positive number, but got {self.final_temperature}."
            )
        if not 0 <= self.discretization <= 1:
            raise SearchError(
                f"Expected `discretization` to be a share of the search, from 0 to 1, but got {self.discretization}."
            )

    def scale_at(self, progress: float) -> float:
        """The scale of the term."""
        begun = progress - self.warm_up
        if begun < 0:
            return 0.0
        if begun < self.ramp:
            return begun / self.ramp
        left = 1 - self.warm_up - self.ramp
        return float(self.final_scale ** ((begun - self.ramp) / left)) if left > 0 else self.final_scale

    def temperature_at(self, progress: float, first: float) -> float:
        """The temperature; `first` is the one at the beginning."""
        if self.final_temperature is None:
            return first
        return float(first * (self.final_temperature / first) ** min(1.0, progress))

    def strength_at(self, progress: float) -> float:
        """The strength of the discretization term, from 0 to 1."""
        return max(0.0, 1 - (1 - progress) / self.discretization) if self.discretization else 0.0
